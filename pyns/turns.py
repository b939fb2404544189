"""Who may hold up a loop: one at a time, and the loop goes round in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary, ref


class _Turns:
    """Those that wait for their turn in one loop, which alone keeps it: it goes with the loop."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], object]] = deque()
        self.is_over = False  # the object may be about for longer

    def go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self.waiting:
            self.is_over = True
            return
        loop.call_soon(self.go_on, loop)
        self.waiting.popleft()()


# those of each loop; what is over, or goes with a loop that was closed, is dead
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_Turns]] = WeakKeyDictionary()


def in_turn(work: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
    """Do something at once if nobody has had this iteration of the loop, else when it is its turn.

    Args:
        work: what takes long enough for fifty in a row to be noticed.
        loop: the one that is running.
    """
    found = _turns.get(loop)
    turns = None if found is None else found()
    if turns is not None and not turns.is_over:
        turns.waiting.append(work)
        return
    turns = _Turns()
    _turns[loop] = ref(turns)
    loop.call_soon(turns.go_on, loop)
    work()


async def turn() -> None:
    """Wait until it is the caller's turn, which is the rest of this iteration of the loop."""
    loop = asyncio.get_running_loop()
    comes = loop.create_future()

    def come() -> None:
        if not comes.done():  # cancelled
            comes.set_result(None)

    in_turn(come, loop)
    await comes

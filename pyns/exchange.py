"""What is written to a program and read from it, up to its limits."""

from __future__ import annotations

import codecs
import os
import selectors
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

from pyns.deadline import Deadline
from pyns.exceeded import OutputExceeded

_CHUNK = 32768  # bytes; subprocess's
_PIPE_BUF = 4096  # bytes, which a pipe that is ready takes without blocking


class Exchange:
    """The pipes of a program, and what went through them.

    Args:
        args: of the program, for what is raised.
        stdin: where `given` goes; closed at its end.
        outputs: its stdout and stderr, if they are pipes; closed at their end.
        given: what it reads.
        output_max: bytes of each output; None for no limit.
    """

    def __init__(
        self,
        args: Any,
        stdin: IO[Any] | None,
        outputs: Sequence[IO[Any] | None],
        given: bytes | memoryview,
        output_max: int | None,
    ) -> None:
        self._args = args
        self._stdin = stdin
        self._given = memoryview(given).cast("B")
        self._pipes = [pipe for pipe in outputs if pipe is not None]
        self._read = [None if pipe is None else bytearray() for pipe in outputs]
        self._of = dict(zip(self._pipes, (b for b in self._read if b is not None), strict=True))
        self._output_max = output_max
        self._is_exceeded = False
        if stdin is not None:
            with suppress(BrokenPipeError):
                stdin.flush()
            if not given:
                _close(stdin)

    @property
    def outputs(self) -> list[bytes | None]:
        """What was read from each; None for what is no pipe."""
        return [None if data is None else bytes(data) for data in self._read]

    def go_on(self, deadline: Deadline, pidfd: int, end_all: Callable[[], object]) -> None:
        """Write and read until everybody has closed the outputs.

        Args:
            deadline: when that has to be done.
            pidfd: of the program; -1 not to look at it.
            end_all: is called when it has ended, for those who hold the pipes still.

        Raises:
            OutputExceeded: one of them has more than `output_max`.
            TimeoutExpired: as `Deadline.left`.
        """
        with selectors.PollSelector() as selector:
            if self._stdin is not None and not self._stdin.closed:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            for pipe in self._pipes:
                if not pipe.closed:
                    selector.register(pipe, selectors.EVENT_READ)
            pipes = selector.get_map()
            if pipes and pidfd >= 0:
                selector.register(pidfd, selectors.EVENT_READ)
            while not self._is_exceeded and pipes.keys() - {pidfd}:
                for key, _ in selector.select(deadline.left()):
                    if key.fd == pidfd:
                        selector.unregister(pidfd)
                        end_all()
                    else:
                        self._move(key.fileobj, selector)  # type: ignore[arg-type]
        if self._output_max is not None and self._is_exceeded:
            raise OutputExceeded(self._args, self._output_max)

    def _move(self, pipe: IO[Any], selector: selectors.BaseSelector) -> None:
        if pipe is self._stdin:
            try:
                self._given = self._given[os.write(pipe.fileno(), self._given[:_PIPE_BUF]) :]
                is_done = not self._given
            except BrokenPipeError:
                is_done = True
        else:
            is_done = not self._take(pipe)
        if is_done:
            selector.unregister(pipe)
            _close(pipe)

    def _take(self, pipe: IO[Any]) -> bool:
        """Read what there is, and no more than is kept; False at the end."""
        kept = self._of[pipe]
        left = _CHUNK if self._output_max is None else self._output_max - len(kept)
        data = os.read(pipe.fileno(), min(_CHUNK, left + 1))
        kept += data[:left]
        self._is_exceeded = self._is_exceeded or len(data) > left
        return bool(data)


def _close(pipe: IO[Any]) -> None:
    with suppress(BrokenPipeError):
        pipe.close()


def decode(data: bytes, encoding: str, errors: str | None, *, is_whole: bool) -> str:
    """Return output as text with universal newlines.

    Args:
        data: what was read.
        encoding: of the text.
        errors: what becomes of bytes that are none.
        is_whole: whether all is there; else there may be a part of a character at the end.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors or "strict")
    text = decoder.decode(data, final=is_whole)
    return text.replace("\r\n", "\n").replace("\r", "\n")

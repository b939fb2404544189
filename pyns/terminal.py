"""How the caller's own terminal is connected with that of a program."""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pyns.deadline import Deadline
from pyns.master import Terminal, size_of

if TYPE_CHECKING:
    from pyns.process import Process

_CHUNK = 4096  # bytes: PIPE_BUF, which a pipe that is ready takes without blocking
# what a flow does not wait for; hanging up and errors concern both
_OTHER = {select.POLLIN: select.POLLOUT, select.POLLOUT: select.POLLIN}
_LAST_WORDS = 2**20  # bytes: more than the kernel keeps of what a program has written


def relay(
    process: Process,
    stdin: int = 0,
    stdout: int = 1,
    *,
    timeout: float | None = None,
    cpu_time: float | None = None,
) -> int:
    """Connect the caller's terminal with that of a program, until the program ends.

    Each key goes to the program as it is, ^C and ^Z too. In the main thread, the window's size is
    followed. stdin and stdout may as well be pipes or files; their end is ^D to the program. The
    mode of the caller's terminal is restored on every way out, also (in the main thread) before
    SIGINT, SIGTERM, SIGHUP or SIGQUIT ends the caller. Only SIGKILL leaves it as it is.

    Args:
        process: was started with `terminal`.
        stdin: fd to read from.
        stdout: fd to write to.
        timeout: seconds; the program goes on after them.
        cpu_time: seconds of CPU time since its start, as for `Process.wait`; likewise.

    Returns:
        The program's returncode.

    Raises:
        ValueError: it has no terminal, or it is closed.
        TimeoutExpired: it has not ended by then; as CpuTimeExpired if `cpu_time` is used up.
        OSError: stdin can't be read, or stdout not be written: EPIPE when nobody reads it.

    Needs: nothing.
    Source: pts(4), termios(3), script(1).

    Example:
        >>> from pyns import Process
        >>> with Process(["true"], terminal=True) as process:
        ...     relay(process)
        0
    """
    if process.terminal is None:
        raise ValueError("the program has no terminal: start it with terminal=True")
    terminal = process.terminal
    with ExitStack() as undo:
        signals = undo.enter_context(_signals_caught(process, stdin, stdout))
        undo.enter_context(_raw(stdin))
        undo.enter_context(_not_blocking(terminal))
        deadline = process._deadline(timeout, cpu_time)
        _copy(process, terminal.fileno(), stdin, stdout, signals, deadline)
    for number in signals.numbers:
        signal.raise_signal(number)
    return process.wait()


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Have a terminal hand over each key as it is (cfmakeraw(3))."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)  # TCSAFLUSH would forget what has been typed by now
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _not_blocking(terminal: Terminal) -> Iterator[None]:
    """Have a program heard that does not read."""
    os.set_blocking(terminal.fileno(), False)
    try:
        yield
    finally:
        os.set_blocking(terminal.fileno(), True)


class _Signals:
    """What came of the signals that would end the caller.

    Attributes:
        wake: fd that can be read when there was one. Without it, one that comes just before poll(2)
            would be handled only after that.
        numbers: those that came.
    """

    def __init__(self, wake: int) -> None:
        self.wake = wake
        self.numbers: list[int] = []


@contextmanager
def _signals_caught(process: Process, stdin: int, stdout: int) -> Iterator[_Signals]:
    """Follow the window's size, and put off the caller's end; in the main thread only."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signals = _Signals(reader)

    def note(number: int, _: object) -> None:
        signals.numbers.append(number)

    def resize(*_: object) -> None:
        size = size_of(stdin, stdout)
        if size is not None:
            process.resize(*size)

    with ExitStack() as undo:
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        if threading.current_thread() is threading.main_thread():
            before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            undo.callback(signal.set_wakeup_fd, before)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    undo.callback(signal.signal, number, signal.signal(number, note))
            undo.callback(signal.signal, signal.SIGWINCH, signal.signal(signal.SIGWINCH, resize))
        resize()
        yield signals


class _Flow:
    """What goes from one fd to another."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.pending = b""
        self.last = b"\n"  # byte that was read
        self.ended = False

    def awaits(self) -> tuple[int, int] | None:
        """Return which fd is next, and the event of poll(2) that it has to wait for."""
        if self.pending:
            return self.sink, select.POLLOUT
        return None if self.ended else (self.source, select.POLLIN)

    def read(self) -> bool:
        """Take what there is; False at the end, and when there is nothing for now."""
        try:
            self.pending = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # hung up
                raise
        self.ended = not self.pending
        self.last = self.pending[-1:] or self.last
        return not self.ended

    def write(self) -> None:
        """Hand on what the sink takes, all if nobody is there any more."""
        written = len(self.pending)
        try:
            written = os.write(self.sink, self.pending)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        self.pending = self.pending[written:]


def _copy(
    process: Process,
    terminal: int,
    stdin: int,
    stdout: int,
    signals: _Signals,
    deadline: Deadline,
) -> None:
    """Copy both ways until the program ends, or a signal comes that is to end the caller."""
    typed, shown = _Flow(stdin, terminal), _Flow(terminal, stdout)
    has_ended, left = False, _LAST_WORDS
    while not signals.numbers:
        if has_ended and not shown.pending:
            # What it said is there. Others may have the terminal, and never stop.
            left -= _CHUNK
            if shown.ended or left < 0 or not shown.read():
                return
        # who has let go of the terminal reads no more
        flows = (shown,) if shown.ended or has_ended else (shown, typed)
        ready = _wait(flows, signals.wake, -1 if has_ended else process.pidfd, deadline)
        if signals.wake in ready:
            os.read(signals.wake, _CHUNK)
        has_ended = has_ended or process.pidfd in ready
        for flow in flows:
            awaited = flow.awaits()
            if awaited is None or not ready.get(awaited[0], 0) & ~_OTHER[awaited[1]]:
                continue
            if flow.pending:
                flow.write()
            elif not flow.read() and flow.ended and flow is typed:
                flow.pending = _end_of_file(terminal, at_line_end=flow.last == b"\n")


def _wait(flows: tuple[_Flow, ...], wake: int, pidfd: int, deadline: Deadline) -> dict[int, int]:
    """Return what happened to which fd; nothing when the deadline is to be looked at again."""
    events = {wake: select.POLLIN}
    if pidfd >= 0:
        events[pidfd] = select.POLLIN
    for flow in flows:
        awaited = flow.awaits()
        if awaited is not None:
            events[awaited[0]] = events.get(awaited[0], 0) | awaited[1]
    poll = select.poll()
    for fd, event in events.items():
        poll.register(fd, event)
    left = deadline.left()
    return dict(poll.poll(None if left is None else math.ceil(left * 1000)))


def _end_of_file(terminal: int, *, at_line_end: bool) -> bytes:
    """Return the key that ends the input; in the middle of a line the first only ends that."""
    key: bytes = termios.tcgetattr(terminal)[6][termios.VEOF]
    return key if at_line_end else key * 2

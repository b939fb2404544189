"""How a program is waited for: its signals, its time, its exit status and what is told of it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import click

from pyns.cli.failing import FAILED, NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT, TOLD, sentence_of, tell
from pyns.cli.options import Read, seconds
from pyns.container import Container
from pyns.deadline import Deadline
from pyns.errors import CgroupError, SpawnError
from pyns.exceeded import CpuTimeExpired, TimeoutExpired
from pyns.init import program_of
from pyns.joining import status_of
from pyns.limited import check_cpu_time
from pyns.master import Size
from pyns.options import Target
from pyns.process import Process
from pyns.reason import Reason
from pyns.starting import clone_into
from pyns.syscalls import numbers

# what is for the program; SIGCHLD says that it has ended
_FOR_PROGRAM = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
_SI_KERNEL = 0x80  # sigaction(2): from a terminal, as a rule


def options() -> list[click.Option]:
    """Return the options about the run rather than the container."""
    return [
        click.Option(
            ["-t", "--tty", "--terminal"], is_flag=True, help="A terminal of its own, relayed."
        ),
        click.Option(
            ["--timeout"],
            type=Read(seconds, "duration"),
            help="Kill it after 10 (seconds), 500ms, 2m, ...; the exit status is 124 then.",
        ),
        click.Option(
            ["--cpu-time"],
            type=Read(seconds, "duration"),
            help="Likewise, once all its processes together have used so much CPU time.",
        ),
        click.Option(
            ["--json", "outcome"],
            type=click.Path(),
            metavar="FILE|FD",
            help="Write what became of it: status, reason, usage, how long each step of the start "
            "took, and what went wrong.",
        ),
    ]


class Outcome:
    """What became of a program, for --json.

    Args:
        args: the program and its arguments.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.told: dict[str, Any] = {
            "args": list(args),
            "status": FAILED,
            "returncode": None,
            "signal": None,
            "reason": str(Reason.NOT_STARTED),
            "usage": None,
            "timing": None,
            "error": None,
        }

    def end(self, process: Process, status: int, limit: Reason | None) -> None:
        """Note how a program ended."""
        code = process.returncode
        self.told["status"], self.told["returncode"] = status, code
        self.told["signal"] = signal.Signals(-code).name if code < 0 else None
        self.told["reason"] = str(limit or process.reason)
        if process.usage is not None:
            self.told["usage"] = dataclasses.asdict(process.usage)
        if process.timing is not None:
            self.told["timing"] = [
                {"step": each.step.describe(), "nanoseconds": each.nanoseconds}
                for each in process.timing
            ]

    def fail(self, error: BaseException, status: int) -> None:
        """Note why there was none."""
        sentence, hint = sentence_of(error)
        told: dict[str, Any] = {"message": sentence, "hint": hint}
        if isinstance(error, OSError):
            told["errno"] = error.errno
        if isinstance(error, SpawnError):
            told["step"] = {
                "number": error.index + 1,
                "count": error.count,
                "kind": error.step.kind,
                "sentence": error.step.describe(),
            }
        self.told["status"], self.told["error"] = status, told


@contextmanager
def told(outcome: Outcome, where: str | None) -> Iterator[None]:
    """Write an outcome to a file or an fd at the end."""
    if where is None:
        yield
        return
    file = _opened(where)
    try:
        yield
    finally:
        import json

        try:
            with file:
                file.write(json.dumps(outcome.told) + "\n")
        except OSError as error:
            error.filename = f"--json {where}"
            raise


def _opened(where: str) -> TextIO:
    """Open it before anything is started."""
    if not where.isdigit():
        return open(where, "w", encoding="utf-8")
    try:
        return os.fdopen(int(where), "w", encoding="utf-8", closefd=False)
    except OSError as error:
        error.filename = f"--json {where}"
        raise


def carry_out(
    ctx: click.Context,
    target: Target,
    *,
    tty: bool,
    timeout: float | None,
    cpu_time: float | None,
    outcome: str | None,
    options: dict[str, Any],
) -> None:
    """Run the program of a command line, and exit as it does.

    Args:
        ctx: of the command.
        target: the container, or the pid of one that is running.
        tty: whether it has a terminal of its own.
        timeout: in seconds.
        cpu_time: in seconds.
        outcome: where to write what became of it, a file or the number of an fd.
        options: of subprocess.Popen.
    """
    args = ctx.meta["program"]
    result = Outcome(args)
    with told(result, outcome):
        options = options | {"timing": outcome is not None}
        try:
            terminal = tty or ctx.meta.get("terminal", False)
            status = _run(result, target, args, terminal, timeout, cpu_time, options)
        except TOLD as error:
            status = _status_of(error, args[0])
            result.fail(error, status)
            tell(error, debug=ctx.meta.get("pyns.debug", False))
    ctx.exit(status)


def _status_of(error: BaseException, program: str) -> int:
    """Return the exit status for what kept the program from running."""
    own = isinstance(error, OSError) and not isinstance(error, (SpawnError, CgroupError))
    if not own or getattr(error, "filename", None) != program:
        return FAILED
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _run(
    result: Outcome,
    target: Target,
    args: Sequence[str],
    terminal: Size,
    timeout: float | None,
    cpu_time: float | None,
    options: dict[str, Any],
) -> int:
    if not hasattr(signal, "sigwaitinfo"):
        raise ImportError("signal.sigwaitinfo is not in this Python, as in PyPy: CPython has it")
    check_cpu_time(cpu_time, target if isinstance(target, Container) else None)
    if cpu_time is not None and terminal:
        raise ValueError("--cpu-time is not looked at while a terminal is relayed: leave -t out")
    with _signals_noted() as noted:
        with slow("it takes long to start"):
            process = clone_into(target, args, terminal=terminal, **options)
        try:
            with process:
                if terminal:
                    ended_by = _relay(process, noted, timeout)
                else:
                    ended_by = _wait(process, noted, process._deadline(timeout, cpu_time))
                if ended_by is not None:
                    process.kill()
                process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    limit = ended_by if isinstance(ended_by, Reason) else None
    if isinstance(ended_by, Reason):
        status = TIMED_OUT
    elif ended_by is not None or process.returncode < 0:
        status = 128 + (ended_by or -process.returncode)
    else:
        status = process.returncode
    result.end(process, status, limit)
    return status


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Have what is for the program not end pyns; what was ignored stays ignored, for both."""
    noted: list[int] = []
    # ignored, there would be none, and nothing to wait for (sigaction(2))
    handlers: dict[int, Any] = {signal.SIGCHLD: signal.SIG_DFL}
    for number in _not_ignored():
        handlers[number] = lambda number, _: noted.append(number)
    with _handled(handlers):
        yield noted


def _not_ignored() -> set[int]:
    return {number for number in _FOR_PROGRAM if signal.getsignal(number) is not signal.SIG_IGN}


@contextmanager
def _handled(handlers: Mapping[int, Any]) -> Iterator[None]:
    """Have handlers for signals, and then again those that there were."""
    before: dict[int, Any] = {}
    try:
        for number, handler in handlers.items():
            before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(process: Process, noted: list[int], deadline: Deadline) -> int | Reason | None:
    """Wait for its end, and hand signals on; return a limit or a signal that has to end it."""
    waited = _not_ignored()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited | {signal.SIGCHLD})
    try:
        for number in noted:
            # nobody has told where it came from
            if not _hand_on(process, number, from_terminal=_in_foreground()):
                return number
        while process.poll() is None:
            left = deadline.left()
            if left is None:
                came = signal.sigwaitinfo(waited | {signal.SIGCHLD})
            else:
                found = signal.sigtimedwait(waited | {signal.SIGCHLD}, left)
                if found is None:
                    continue
                came = found
            if came.si_signo != signal.SIGCHLD and not _hand_on(
                process, came.si_signo, from_terminal=came.si_code == _SI_KERNEL
            ):
                return came.si_signo
        return None
    except CpuTimeExpired:
        return Reason.CPU_TIME
    except TimeoutExpired:
        return Reason.TIMEOUT
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _hand_on(process: Process, number: int, *, from_terminal: bool) -> bool:
    """Send the program a signal, unless the terminal did; False if it could not notice."""
    try:
        program = program_of(process.pid)
        has_it = from_terminal and os.getpgid(program) == os.getpgrp()
    except (FileNotFoundError, ProcessLookupError):
        return True
    deaf = _is_deaf(program, number)  # before it is woken up by what it waits for
    if not has_it:
        process.send_signal(number)
    return not deaf


def _in_foreground() -> bool:
    """Whether what is typed on the terminal is for pyns, so that its signals come from there."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:  # there is none
        return False


def _is_deaf(pid: int, number: int) -> bool:
    """Whether the kernel drops a signal for a PID 1 that has no handler for it."""
    try:
        fields = status_of(pid)
    except OSError:
        return False
    if fields.get("NSpid", "").split()[-1:] != ["1"]:
        return False
    waits = [int(fields.get(name, "0"), 16) for name in ("SigBlk", "SigIgn", "SigCgt")]
    return not any(mask >> (number - 1) & 1 for mask in waits) and not _takes_signals(pid)


def _takes_signals(pid: int) -> bool:
    """Whether a thread is in sigwait(3), as in many an init: SigBlk has nothing meanwhile."""
    waiting = str(numbers(os.uname().machine)["rt_sigtimedwait"])
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/syscall") as file:
                if file.read().split(maxsplit=1)[0] == waiting:
                    return True
    except OSError:  # it has ended, or may not be looked at
        pass
    return False


class _Stopped(Exception):  # noqa: N818  no error: a signal came
    """A signal that is to end the program came while its terminal was relayed."""


def _relay(process: Process, noted: list[int], timeout: float | None) -> int | Reason | None:
    """Connect the caller's terminal; ^C is a key there, which goes to the program."""
    from pyns.terminal import relay

    def stop(number: int, _: object) -> None:
        raise _Stopped(number)

    ending = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    try:
        with _handled(dict.fromkeys(ending, stop)):
            if not noted:
                relay(process, timeout=timeout)
    except subprocess.TimeoutExpired:
        return Reason.TIMEOUT
    except _Stopped as stopped:
        noted.append(stopped.args[0])
    return noted[0] if noted else None


@contextmanager
def slow(sentence: str) -> Iterator[None]:
    """Say on a terminal what takes longer than a second."""
    if not sys.stderr.isatty():
        yield
        return

    def say() -> None:
        click.echo(f"pyns: {sentence} ...", err=True)

    timer = threading.Timer(1, say)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()

"""System calls that fail when they are told to: seccomp hands them to a supervisor, who answers."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import queue
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import pyns.spawn
from pyns import SpawnError, init, marshal, syscalls
from pyns._shim import ffi
from pyns.plan import Plan

TIMEOUT = 60  # seconds, for whatever a run may hang in
NUMBERS = syscalls.numbers(os.uname().machine)
NAMES = {number: name for name, number in NUMBERS.items()}

# What the interpreter does for itself at any time: it is passed over, and so do the calls that
# can't fail.
PASSED_OVER = """
    brk clock_nanosleep exit exit_group futex getegid geteuid getpid gettid lseek madvise mprotect
    munmap rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_yield set_robust_list
    uname
"""

Range = tuple[int, int]


class Call(NamedTuple):
    """A system call that was handed over.

    Attributes:
        role: who called: "caller" (the thread), "helper" (another thread of it), "child 1" and
            "child 2" of the shim, "init 1" (pyns-init) and "init 2" (its child).
        step: which one the child was at; -1 for others.
        site: address of the instruction.
        time: the how-manieth of these three, about the same file.
        path: of the file that the caller or its helper is about; "" for none.
        name: of the call, and of its operation if it has several.
    """

    role: str
    step: int
    site: int
    time: int
    path: str
    name: str

    @property
    def alike(self) -> tuple[str, int, int, str, int]:
        """What it is recognized by in another run."""
        return self.role, self.step, self.site, re.sub(r"\d+", "", self.path), self.time


# which argument says what is to be done, and how these are called
OPERATIONS: dict[str, tuple[int, dict[int, str]]] = {
    "bpf": (0, {5: "load", 8: "attach", 9: "detach", 13: "open", 15: "look_at", 16: "list"}),
    "futex": (1, {0: "wait", 1: "wake", 128: "wait", 129: "wake"}),  # FUTEX_PRIVATE_FLAG
    "newfstatat": (3, {0x1000: "fd"}),  # AT_EMPTY_PATH
    "prctl": (0, {3: "get_dumpable", 4: "set_dumpable", 15: "set_name", 23: "capbset_read"}),
}


# which arguments say what file it is about
FILES = {
    "path": "execve getxattr mkdir rmdir setxattr",
    "fd, path": "faccessat2 mkdirat newfstatat openat readlinkat unlinkat",
    "fd": "fchmod fcntl getdents64 ioctl pread64 read write writev",
}


def name_of(number: int, *arguments: int) -> str:
    """Return what a call is called here."""
    name = NAMES[number]
    if name in OPERATIONS:
        argument, operations = OPERATIONS[name]
        operation = operations.get(arguments[argument])
        return f"{name}:{operation}" if operation else name
    return name


class Fault(NamedTuple):
    """Which call fails, and how."""

    call: Call
    error: int

    def __str__(self) -> str:
        call = self.call
        return f"{call.name} {call.path!r} of {call.role}: {errno.errorcode[self.error]}"


class Attempt(NamedTuple):
    """What became of a task.

    Attributes:
        outcome: what it returned or raised.
        calls: what was called, in this order.
        plan: the last one that was built; None without one.
        has_failed: whether there were the calls that were to fail.
    """

    outcome: Any
    calls: list[Call]
    plan: Plan | None
    has_failed: bool


def told(outcome: object) -> tuple[int, int] | None:
    """Return index and errno of the step that an exception names."""
    if isinstance(outcome, SpawnError):
        return outcome.index, outcome.errno or 0
    # those of the program and its cwd are what subprocess raises
    found = re.match(r"step (\d+) of \d+: ", "".join(getattr(outcome, "__notes__", ())))
    if isinstance(outcome, OSError) and found:
        return int(found[1]) - 1, outcome.errno or 0
    return None


def text_of_shim() -> Range:
    """Return where the shim's instructions are in this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, *_ = line.split()
        if "x" in permissions and "/_shim." in line:
            start, end = addresses.split("-")
            return int(start, 16), int(end, 16)
    raise AssertionError("no mapping of _shim in /proc/self/maps")


def text_of_init() -> Range:
    """Return where the instructions of pyns-init are, which is linked there (elf(5))."""
    program = Path(init.PROGRAM).read_bytes()
    (headers,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    for header in range(headers, headers + size * count, size):
        kind, flags, _, address, _, _, length = struct.unpack_from("<IIQQQQQ", program, header)
        if kind == 1 and flags & 1:  # PT_LOAD, PF_X
            return address, address + length
    raise AssertionError("no text in pyns-init")


LD, JEQ, JGE, RET = 0x20, 0x15, 0x35, 0x06
NUMBER, POINTER_LOW, POINTER_HIGH = 0, 8, 12  # struct seccomp_data, little-endian
HAND_OVER, ALLOW = 0x7FC00000, 0x7FFF0000


def assemble(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def filter_of_ranges(*ranges: Range) -> bytes:
    """Return the filter that hands over what is called from these addresses."""
    instructions: list[tuple[int, int, int, int]] = []
    for start, end in ranges:
        assert start >> 32 == end >> 32
        instructions += [
            (LD, 0, 0, POINTER_HIGH),
            (JEQ, 0, 4, start >> 32),
            (LD, 0, 0, POINTER_LOW),
            (JGE, 0, 2, start & 0xFFFFFFFF),
            (JGE, 1, 0, end & 0xFFFFFFFF),
            (RET, 0, 0, HAND_OVER),
        ]
    return assemble(*instructions, (RET, 0, 0, ALLOW))


def filter_of_all_but(names: list[str]) -> bytes:
    """Return the filter that hands over every call but these."""
    allowed = [NUMBERS[name] for name in names if name in NUMBERS]
    tests = [(JEQ, len(allowed) - n, 0, number) for n, number in enumerate(allowed)]
    return assemble((LD, 0, 0, NUMBER), *tests, (RET, 0, 0, HAND_OVER), (RET, 0, 0, ALLOW))


class FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: bytes) -> int:
    """Filter the calling thread and all that it starts; return the fd of the supervisor."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, of this thread
    request = FilterProgram(len(program) // 8, program)
    # SECCOMP_SET_MODE_FILTER; NEW_LISTENER, WAIT_KILLABLE_RECV (Linux 5.19)
    fd = libc.syscall(NUMBERS["seccomp"], 1, 8 | 32, ctypes.byref(request))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "seccomp(SET_MODE_FILTER, NEW_LISTENER)")
    return int(fd)


class Worker:
    """A thread that does what it is given."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while (task := self.tasks.get()) is not None:
            try:
                result: tuple[Any, BaseException | None] = task(), None
            except BaseException as error:
                result = None, error
            del task
            self.results.put(result)
            del result

    def do(self, task: Callable[[], Any]) -> Any:
        """Return what it returns, raise what it raises."""
        self.tasks.put(task)
        value, error = self.results.get(timeout=TIMEOUT)
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        self.tasks.put(None)
        self.thread.join(TIMEOUT)


@contextmanager
def noting(
    module: ModuleType, name: str, note: Callable[[Any], None], argument: int | None = None
) -> Iterator[None]:
    """Have it noted what a function of a module returns, or which argument it gets."""
    function = getattr(module, name)

    def noted(*args: Any, **options: Any) -> Any:
        if argument is not None:
            note(args[argument])
        result = function(*args, **options)
        if argument is None:
            note(result)
        return result

    setattr(module, name, noted)
    try:
        yield
    finally:
        setattr(module, name, function)


class Faults:
    """A thread whose system calls, and those of its children, are supervised.

    Args:
        program: filter of what is handed over.
    """

    def __init__(self, program: bytes) -> None:
        self._undo = ExitStack()
        self._plan: Plan | None = None
        self._report = ctypes.c_uint64()  # address of the report of the present spawn
        with ExitStack() as undo:
            undo.enter_context(noting(marshal, "spawn_packed", self._note_report, 2))
            undo.enter_context(noting(pyns.spawn, "Plan", self._note_plan))
            self._socket, theirs = socket.socketpair()
            undo.callback(self._socket.close)
            with theirs:
                supervisor = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        os.path.join(os.path.dirname(__file__), "supervisor.py"),
                    ],
                    stdin=theirs.fileno(),
                )
            undo.callback(supervisor.wait, TIMEOUT)
            undo.callback(self._socket.shutdown, socket.SHUT_RDWR)
            self._answers = undo.enter_context(self._socket.makefile("r"))
            self._worker = Worker()
            undo.callback(self._worker.close)  # before the supervisor ends: its calls would fail
            self._supervise(program)
            self._undo = undo.pop_all()

    def _note_report(self, report: Any) -> None:
        self._report.value = int(ffi.cast("uintptr_t", report))

    def _note_plan(self, plan: Plan) -> None:
        self._plan = self._plan or plan  # not that of another try

    def _supervise(self, program: bytes) -> None:
        listener = self._worker.do(lambda: install(program))
        known = {
            "process": os.getpid(),
            "thread": self._worker.thread.native_id,
            "shim": text_of_shim(),
            "init": text_of_init(),
            "files": {
                NUMBERS[name]: kind
                for kind, names in FILES.items()
                for name in names.split()
                if name in NUMBERS
            },
            "report": ctypes.addressof(self._report),
        }
        try:
            socket.send_fds(self._socket, [json.dumps(known).encode()], [listener])
        finally:
            os.close(listener)

    def run(self, task: Callable[[], Any], *faults: Fault) -> Attempt:
        """Do something in the thread."""
        self._plan = None
        self._ask([[fault.call.alike, fault.error] for fault in faults])
        try:
            outcome = self._worker.do(task)
        except queue.Empty:
            raise AssertionError(f"{', '.join(map(str, faults))}: it hangs") from None
        except Exception as error:
            outcome = error.with_traceback(None)
        answer = self._ask("end")
        calls = [
            Call(role, step, site, time, path, name_of(*what))
            for role, step, site, time, path, what in answer["calls"]
        ]
        return Attempt(outcome, calls, self._plan, answer["failed"] == len(faults) > 0)

    def _ask(self, request: Any) -> Any:
        self._socket.sendall(json.dumps(request).encode())
        return json.loads(self._answers.readline())

    def close(self) -> None:
        self._undo.close()


@pytest.fixture(scope="session")
def _supervision_refused() -> str | None:
    worker = Worker()
    try:
        os.close(worker.do(lambda: install(assemble((RET, 0, 0, ALLOW)))))
    except OSError as error:
        return f"{error.strerror}: {errno.errorcode.get(error.errno or 0)}"
    finally:
        worker.close()
    return None


@pytest.fixture(scope="module")
def supervise(_supervision_refused: str | None) -> Iterator[Callable[[str], Faults]]:
    """Return a function: a thread whose calls, those in "the shim" or "all", may fail."""
    if _supervision_refused:
        pytest.skip(_supervision_refused)
    with ExitStack() as undo:

        def begin(what: str) -> Faults:
            if what == "the shim":
                faults = Faults(filter_of_ranges(text_of_shim(), text_of_init()))
            else:
                faults = Faults(filter_of_all_but(PASSED_OVER.split()))
            undo.callback(faults.close)
            return faults

        yield begin


@pytest.fixture(name="told", scope="session")
def told_function() -> Callable[[object], tuple[int, int] | None]:
    """Return a function: index and errno of the step that an exception names."""
    return told


@pytest.fixture(scope="session")
def make_fault() -> type[Fault]:
    """Return the class: the modules of tests can't import each other."""
    return Fault


@pytest.fixture
def has_limits(_limits_refused: str | None) -> bool:
    """Whether this user may make cgroups with limits."""
    return _limits_refused is None

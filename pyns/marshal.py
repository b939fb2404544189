"""How a plan crosses to C and a report comes back.

The plan is two immutable bytes objects: while the child runs on our memory, other Python threads
run too, and nothing that they do can change what the child reads.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from pyns._shim import ffi, lib
from pyns.errors import noted
from pyns.linux import checked
from pyns.plan import Plan
from pyns.steps import AT_RECURSIVE, ExecuteInit, Step

_STEP = struct.Struct("=IiIIQQ")  # struct step of csrc/plan.h
_FD, _FD_OFFSET = struct.Struct("=i"), 4  # its second field
_INIT_PLAN = struct.Struct("=IIiIQ")  # struct init_plan
_KINDS: dict[str, int] = {}


def new_report() -> Any:
    """Return the struct report that `spawn` fills in; pid is -1 unless a child runs."""
    return ffi.new("struct report *", {"pid": -1, "pidfd": -1})


def new_ending() -> Any:
    """Return the struct ending that `take_ending` fills in; its pid is 0 until then."""
    return ffi.new("struct ending *")


def take_ending(pid: int, flags: int, ending: Any) -> int:
    """Wait for the end of a child, of which a handler that raises takes nothing away.

    Args:
        pid: the child.
        flags: as for waitpid.
        ending: from `new_ending`. When there is something in it, nothing is waited for.

    Returns:
        The pid; 0 if it runs, with WNOHANG.

    Raises:
        ChildProcessError: somebody else has reaped it (ECHILD).
    """
    while (result := lib.take_ending(pid, flags, ending)) == -errno.EINTR:
        pass  # a handler has run
    return checked(result)


def time_steps(report: Any, count: int) -> Any:
    """Have a spawn note when each step begins; return where, to be kept until it is over."""
    report.times = times = ffi.new("uint64_t[]", count + 1)
    return times


Packed = tuple[bytes, bytes]  # the array of struct step, and the text that it points into


def pack(steps: Iterable[Step], before: Packed = (b"", b"")) -> Packed:
    """Return what crosses to C of these steps.

    Args:
        steps: in order.
        before: the packed steps that they follow.

    Raises:
        ValueError: a string contains a NUL; it would shift all others.
    """
    records, texts = [before[0]], [before[1]]
    offset = len(before[1])
    for step in steps:
        strings, flags, value, fd, data, more = step.operands()
        text = b"\0".join((*strings, b"")) if strings else b""
        if text.count(0) != len(strings) or (more and data.count(0) != more):
            raise ValueError(f"embedded null byte: {step.describe()}")
        count = len(strings) + more
        records.append(_STEP.pack(_kind(step.kind), fd, offset, count, flags, value))
        texts += text, data
        offset += len(text) + len(data)
    return b"".join(records), b"".join(texts)


def with_fds(packed: Packed, fds: Mapping[int, int]) -> Packed:
    """Return packed steps with other fds.

    Args:
        packed: the steps.
        fds: index of a step → its fd.
    """
    records = bytearray(packed[0])
    for index, fd in fds.items():
        _FD.pack_into(records, index * _STEP.size + _FD_OFFSET, fd)
    return bytes(records), packed[1]


def _kind(name: str) -> int:
    kind = _KINDS.get(name)
    if kind is None:
        kind = _KINDS[name] = getattr(lib, f"STEP_{name.upper()}")
    return kind


# the state that is about other threads is not the child's
os.register_at_fork(after_in_child=lib.after_fork)


def wait_for_child(report: Any) -> int:
    """Return the pid of a child that waits for its parent; -ECANCELED when none will."""
    return int(lib.wait_for_child(report))


def let_go(report: Any, error: int) -> None:
    """Let a waiting child go on, or have its step fail with an errno."""
    lib.let_go(report, error)


def open_tree(source: bytes, *, recursive: bool) -> int:
    """Return an fd of a copy of what is mounted at a path; OSError if the kernel refuses it."""
    return checked(lib.thread_open_tree(source, AT_RECURSIVE if recursive else 0))


def map_ids(tree: int, user_namespace: int) -> None:
    """Give what `open_tree` returned the ids of a user namespace; OSError if it can't have them."""
    checked(lib.thread_map_ids(tree, user_namespace))


def open_beneath(directory: int, path: bytes) -> int:
    """Return an fd, for reading, of what is beneath a directory; OSError if it leads elsewhere."""
    return checked(lib.thread_open_beneath(directory, path))


def spawn(plan: Plan, signal_mask: int, report: Any) -> None:
    """Carry out a plan, see `spawn_packed`."""
    packed = pack(plan)
    write_init_plan(plan, packed, signal_mask)
    spawn_packed(packed, signal_mask, report)


def spawn_packed(packed: Packed, signal_mask: int, report: Any) -> None:
    """Have the shim carry out a plan; returns when the program runs or a step has failed.

    Args:
        packed: what to do.
        signal_mask: of the program. All signals have to be blocked (`pyns.signals`).
        report: from `new_report`. It is the caller's, because an exception that a signal handler
            raises may come before this function can return anything.

    Raises:
        OSError: nothing was started: the plan is malformed (EINVAL).
    """
    steps, text = packed
    checked(lib.spawn(steps, len(steps), text, len(text), signal_mask, report))


def write_init_plan(plan: Plan, packed: Packed, signal_mask: int) -> None:
    """Write what pyns-init reads, if it is part of the plan; OSError (ENOMEM) if it can't be."""
    for index, step in enumerate(plan, 1):
        if isinstance(step, ExecuteInit):
            header = _INIT_PLAN.pack(index, len(plan), step.tell, 0, signal_mask)
            write_all(step.plan, header, *packed)


def write_all(fd: int, *blocks: bytes) -> None:
    """Write to a file in memory; OSError (ENOMEM) when not all of it fits."""
    with noted("write the plan that pyns-init reads"):
        if os.writev(fd, blocks) != sum(map(len, blocks)):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

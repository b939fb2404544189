"""What a malformed plan may look like; as a program, it gives many to the shim.

Run by an interpreter of its own, which a crash would end: `random_plans.py EXAMPLES`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyns import marshal
from pyns._shim import ffi, lib
from pyns.signals import signals_blocked

KINDS = [getattr(lib, name) for name in dir(lib) if name.startswith("STEP_")]
ALL = 0x3E020000  # CLONE_NEW..., but for time and net, which takes long
NUMBERS = [0, 1, 2, 3, 5, 9, 16, 24, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
FLAGS = [*NUMBERS, ALL, 0x8000, 0x40000, 1 << 20, 0x1000000, 0x1000004, 0x20000000, 0x10000000]
# Not given are names of what would wait.
WORDS = [
    *(b"", b"/", b".", b"..", b"/tmp", b"/tmp/x/y", b"x", b"tmpfs", b"proc", b"overlay", b"size"),
    *(b"1M", b"0 0 1", b"deny", b"/proc/self/uid_map", b"/proc/self/setgroups", b"/bin/true"),
    *(b"/usr", b"/dev/null", b"/dev/pts", b"/proc/self/fd/0", b"a" * 300, b"/" + b"b/" * 2500),
    *(b"\xff\xfe", b"0" * 16),
]
CLONE = marshal._STEP.pack(lib.STEP_CLONE, -1, 0, 0, ALL, 0)


@st.composite
def blocks(draw: st.DrawFn) -> marshal.Packed:
    words = draw(st.lists(st.sampled_from(WORDS), max_size=12))
    text = b"\0".join([*words, b"/bin/true", b"true", b""])
    starts = [0] + [at + 1 for at, byte in enumerate(text[:-1]) if not byte]
    number = st.sampled_from(NUMBERS) | st.integers(0, 2**64 - 1)
    small = st.integers(0, 6) | st.sampled_from([64, 2**31, 2**32 - 1])
    offset = st.sampled_from(starts) | st.sampled_from([len(text) - 1, len(text), 2**32 - 1])
    fd = st.sampled_from([-1, 0, 2, 3, 200, -(2**31), 2**31 - 1])
    records = [CLONE]
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from([*KINDS, 0, 2**32 - 1]))
        value = draw(number)
        if kind == lib.STEP_WAIT_FOR_PARENT:
            value %= 3  # milliseconds that a child waits
        flags = draw(st.sampled_from(FLAGS) | number)
        record = marshal._STEP.pack(kind, draw(fd), draw(offset), draw(small), flags, value)
        records.append(record)
    execute = marshal._STEP.pack(lib.STEP_EXECUTE, -1, starts[-2], 2, 1, 1)
    if draw(st.integers(0, 9)) == 0:
        execute = marshal._STEP.pack(
            lib.STEP_EXECUTE, -1, draw(offset), draw(small), draw(number), draw(number)
        )
    records.append(execute)
    if draw(st.integers(0, 19)) == 0:
        records = draw(st.permutations(records))
    steps = b"".join(records)
    cut = draw(st.sampled_from([0] * 15 + [1, 8, len(steps)]))
    return steps[: len(steps) - cut], text[: len(text) - draw(st.sampled_from([0] * 9 + [1]))]


def outcome(plan: marshal.Packed) -> str:
    """Return what became of a plan; of one that runs, there is nothing left."""
    steps, text = plan
    report: Any = ffi.new("struct report *")
    with signals_blocked():
        result = lib.spawn(steps, len(steps), text, len(text), 0, report)
    if result != 0:
        assert result == -errno.EINVAL
        return "malformed"
    if report.error != 0:
        assert 0 < report.error < 4096
        assert 0 <= report.index < len(steps) // marshal._STEP.size
        assert (report.pid, report.pidfd) == (-1, -1)
        return "refused"
    os.waitid(os.P_PID, report.pid, os.WEXITED)
    os.close(report.pidfd)
    return "runs"


def main(examples: int) -> None:
    """Try plans as an ordinary user, nearly always in new namespaces: it is done to these."""
    seen = set()
    profile = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @profile
    @given(blocks())
    def try_it(plan: marshal.Packed) -> None:
        seen.add(outcome(plan))
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return
        raise AssertionError("a child is left")

    settings(profile, max_examples=20)(given(blocks())(lambda _: None))()  # imports the rest
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which that has taken
    before = sorted(os.listdir("/proc/self/fd"))
    try_it()
    assert sorted(os.listdir("/proc/self/fd")) == before
    print(*sorted(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]))

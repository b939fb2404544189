"""Whatever a plan is, spawn returns: EINVAL, a step that failed, or a program that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

# with PYNS_WHOLE=1 in the environment, a hundred times as many
WHOLE = "PYNS_WHOLE" in os.environ

# Of an ordinary user, and nearly always in new namespaces: whatever is done, it is done to these.
# Not given are numbers of milliseconds that a child would wait, and names of what would wait.
FUZZ = r"""
    import ctypes, errno, os, sys
    from hypothesis import HealthCheck, given, settings, strategies as st
    from pyns import marshal
    from pyns._shim import ffi, lib
    from pyns.signals import signals_blocked

    KINDS = [getattr(lib, name) for name in dir(lib) if name.startswith("STEP_")]
    ALL = 0x3E020000  # CLONE_NEW..., but for time and net, which takes long
    NUMBERS = [0, 1, 2, 3, 5, 9, 16, 24, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
    FLAGS = [*NUMBERS, ALL, 0x8000, 0x40000, 1 << 20, 0x1000000, 0x1000004, 0x20000000, 0x10000000]
    WORDS = [
        b"", b"/", b".", b"..", b"/tmp", b"/tmp/x/y", b"x", b"tmpfs", b"proc", b"overlay", b"size",
        b"1M", b"0 0 1", b"deny", b"/proc/self/uid_map", b"/proc/self/setgroups", b"/bin/true",
        b"/usr", b"/dev/null", b"/dev/pts", b"/proc/self/fd/0", b"a" * 300, b"/" + b"b/" * 2500,
        b"\xff\xfe", b"0" * 16,
    ]
    CLONE = marshal._STEP.pack(lib.STEP_CLONE, -1, 0, 0, ALL, 0)

    @st.composite
    def blocks(draw):
        words = draw(st.lists(st.sampled_from(WORDS), max_size=12))
        text = b"\0".join([*words, b"/bin/true", b"true", b""])
        starts = [0] + [at + 1 for at, byte in enumerate(text[:-1]) if not byte]
        number = st.sampled_from(NUMBERS) | st.integers(0, 2**64 - 1)
        small = st.integers(0, 6) | st.sampled_from([64, 2**31, 2**32 - 1])
        offset = st.sampled_from(starts) | st.sampled_from([len(text) - 1, len(text), 2**32 - 1])
        records = [CLONE]
        for _ in range(draw(st.integers(0, 8))):
            kind = draw(st.sampled_from([*KINDS, 0, 2**32 - 1]))
            value = draw(number)
            if kind == lib.STEP_WAIT_FOR_PARENT:
                value %= 3
            records.append(marshal._STEP.pack(
                kind, draw(st.sampled_from([-1, 0, 2, 3, 200, -(2**31), 2**31 - 1])),
                draw(offset), draw(small), draw(st.sampled_from(FLAGS) | number), value,
            ))
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

    seen = set()
    profile = settings(
        max_examples=int(sys.argv[1]), deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )

    @profile
    @given(blocks())
    def try_it(plan):
        steps, text = plan
        report = ffi.new("struct report *")
        with signals_blocked():
            result = lib.spawn(steps, len(steps), text, len(text), 0, report)
        if result != 0:
            assert result == -errno.EINVAL
            seen.add("malformed")
        elif report.error != 0:
            assert 0 < report.error < 4096
            assert 0 <= report.index < len(steps) // marshal._STEP.size
            assert (report.pid, report.pidfd) == (-1, -1)
            seen.add("refused")
        else:
            os.waitid(os.P_PID, report.pid, os.WEXITED)
            os.close(report.pidfd)
            seen.add("runs")
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return
        raise AssertionError("a child is left")

    settings(profile, max_examples=20)(given(blocks())(lambda plan: None))()  # imports the rest
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which that has taken
    before = sorted(os.listdir("/proc/self/fd"))
    try_it()
    assert sorted(os.listdir("/proc/self/fd")) == before
    print(*sorted(seen))
"""


@pytest.mark.timeout(3600 if WHOLE else 60)
def test_no_plan_crashes_the_caller_or_leaves_anything() -> None:
    code = textwrap.dedent(FUZZ)
    command = [sys.executable, "-P", "-c", code, "30000" if WHOLE else "200"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "malformed refused runs\n"

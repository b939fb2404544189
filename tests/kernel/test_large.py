"""What is large works, or it is said what the kernel refused."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyns import Container, Namespace, Proc, SpawnError, Tmpfs, clone_into, run

PLAIN = Container(namespaces=Namespace(0))
SHELL = shutil.which("sh") or "/bin/sh"


@pytest.fixture
def room() -> int:
    """Return how many bytes arguments and environment may have (execve(2))."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return max(min(soft // 4 if soft >= 0 else 6 << 20, 6 << 20), 128 * 1024)


def arguments_of(size: int) -> list[str]:
    """Return arguments of 1000 bytes, with their ends and pointers 1009."""
    return ["x" * 1000] * (size // 1009)


def test_arguments_up_to_the_limit(room: int) -> None:
    given = arguments_of(room - 8192)
    done = run(PLAIN, [SHELL, "-c", "echo $#", "sh", *given], env={}, capture_output=True)
    assert int(done.stdout) == len(given)


def test_arguments_beyond_the_limit(room: int) -> None:
    with pytest.raises(OSError, match="Argument list too long") as caught:
        clone_into(PLAIN, [SHELL, *arguments_of(room + 8192)], env={})
    assert caught.value.errno == errno.E2BIG
    assert f"{room} is the most" in caught.value.__notes__[1]
    assert len(caught.value.__notes__[0]) < 50_000  # not all of them


def test_one_argument_up_to_its_limit() -> None:
    size = 32 * resource.getpagesize() - 1
    command = [SHELL, "-c", "echo ${#1}", "sh", "x" * size]
    assert int(run(PLAIN, command, env={}, capture_output=True).stdout) == size


def test_ten_thousand_variables() -> None:
    env = {f"NAME_{number}": str(number) for number in range(10_000)}
    done = run(PLAIN, [shutil.which("env") or "env"], env=env, capture_output=True, text=True)
    assert dict(line.split("=") for line in done.stdout.splitlines()) == env


@pytest.mark.usefixtures("namespaces")
def test_a_thousand_mounts() -> None:
    mounts = [Tmpfs("/mnt"), *(Tmpfs(f"/mnt/{number}", size=4096) for number in range(1000))]
    box = Container(
        namespaces=Namespace.MOUNT | Namespace.PID,
        mounts=[Proc(), *mounts],
    )
    done = run(box, ["cat", "/proc/self/mountinfo"], capture_output=True, text=True, cwd="/")
    points = [line.split()[4] for line in done.stdout.splitlines()]
    assert {f"/mnt/{number}" for number in range(1000)} <= set(points)


class TestDescriptors:
    COUNT = 4000

    @pytest.fixture
    def descriptors(self) -> Iterator[list[int]]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < self.COUNT + 500:
            pytest.skip(f"RLIMIT_NOFILE: the hard limit is {hard}")
        with ExitStack() as undo:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, self.COUNT + 500), hard))
            undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            null = os.open("/dev/null", os.O_RDONLY)
            undo.callback(os.close, null)
            found = [os.dup(null) for _ in range(self.COUNT)]
            for fd in found:
                os.set_inheritable(fd, True)
                undo.callback(os.close, fd)
            yield found

    @pytest.mark.parametrize("passed", [0, 1, 2000])
    @pytest.mark.usefixtures("namespaces")
    def test_that_the_caller_has(self, descriptors: list[int], passed: int) -> None:
        given = descriptors[::2][:passed]
        command = [sys.executable, "-c", "import os; print(*map(int, os.listdir('/proc/self/fd')))"]
        done = run(Container(), command, pass_fds=given, capture_output=True, text=True)
        # one more is that of the listing itself
        seen = set(map(int, done.stdout.split()))
        assert {0, 1, 2, *given} <= seen
        assert len(seen) == 3 + passed + 1


NESTED = """
import sys
from pyns import Container, Namespace, SpawnError, run
code, depth = sys.argv[1], int(sys.argv[2])
try:
    command = [sys.executable, "-P", "-c", code, code, str(depth + 1)]
    run(Container(namespaces=Namespace.PID), command)
except SpawnError as error:
    print(depth, error.errno, error.hint)
"""


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("namespaces")
def test_pid_namespaces_in_each_other() -> None:
    code = textwrap.dedent(NESTED)
    done = run(PLAIN, [sys.executable, "-P", "-c", code, code, "0"], capture_output=True, text=True)
    assert done.stderr == ""
    depth, error, hint = done.stdout.split(maxsplit=2)
    assert int(error) == errno.ENOSPC
    assert hint.strip().endswith("Or PID or user namespaces are nested 32 deep")
    if int(depth) < 30:
        pytest.skip(
            f"clone3(CLONE_NEWPID) {depth} times inside each other, then ENOSPC: nested already"
        )


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        clone_into(PLAIN, [f"{tmp_path}/{'x' * 256}"])


@pytest.mark.usefixtures("namespaces")
def test_a_path_that_is_too_long_is_told() -> None:
    with pytest.raises(SpawnError) as caught:
        clone_into(Container(root="/x" * 2100), ["true"])
    assert caught.value.step.kind in ("new_root", "open_tree")  # the latter to a template
    assert caught.value.errno == errno.ENAMETOOLONG

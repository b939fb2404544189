"""Containers of root's with a root of their own do not copy the host's mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Container, Dev, Overlay, Proc, Tmpfs, masks
from pyns.signals import signals_blocked
from pyns.template import open_template

Box = Callable[..., Container]
Shell = Callable[..., str]


@pytest.fixture
def template() -> int:
    """Return the fd of the template; skip where there is none."""
    with signals_blocked():
        fd = open_template()
    if fd is None:
        pytest.skip(
            f"open_template() as uid {os.geteuid()} in {os.readlink('/proc/self/ns/user')}: None"
        )
    return fd


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a directory of the caller's with something in it."""
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_text("source's\n")
    return path


def test_is_made_once_and_says_so_in_the_plan(template: int, box: Box) -> None:
    with signals_blocked():
        assert open_template() == template
    assert "join the namespaces of the template: mount" in str(box().plan(["true"]))
    assert not os.get_inheritable(template)


ROOTS: dict[str, Callable[[Path], Any]] = {
    "directory": lambda path: path,
    "tmpfs": lambda _: Tmpfs("/"),
    "overlay": lambda path: Overlay("/", [path]),
}


@pytest.mark.usefixtures("template")
@pytest.mark.parametrize("kind", ROOTS)
def test_nothing_but_the_containers_own_is_mounted(
    shell: Shell, source: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "empty").mkdir()
    system = [path for path in ("/usr", "/bin", "/lib", "/lib64") if os.path.isdir(path)]
    binds = [Bind(path, recursive=False) for path in system]  # some hosts have mounts below
    mounts = (*binds, Bind(source, "/data"), Proc())
    container = Container(root=ROOTS[kind](tmp_path / "empty"), mounts=mounts)
    points = shell(container, "cut -d' ' -f5 /proc/self/mountinfo").split()
    assert sorted(points) == sorted(["/", "/data", "/proc", *system])


PRELUDE = """
import ctypes, os, sys
from pyns import Bind, Container, Namespace, Proc, run
from pyns.signals import signals_blocked
from pyns.template import open_template
libc = ctypes.CDLL(None, use_errno=True)
def unshare(namespaces):
    assert libc.unshare(namespaces.value) == 0, os.strerror(ctypes.get_errno())
def inside(*mounts):
    box = Container(root=sys.argv[1], mounts=(Bind("/usr"), *mounts, Proc()))
    command = ["sh", "-c", "cat /data/file; grep -vc ' /usr/' /proc/self/mountinfo"]
    print(*run(box, command, capture_output=True, text=True, check=True).stdout.split())
with signals_blocked():
    assert open_template() is not None
"""


def python(code: str, *args: object) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.rstrip("\n")


@pytest.mark.usefixtures("template")
def test_is_made_again_when_a_program_has_closed_its_fd(new_root: Path, source: Path) -> None:
    code = """
with signals_blocked():
    fd = open_template()
os.close(fd)
os.dup2(os.open(sys.argv[2], os.O_RDONLY), fd)
inside(Bind(sys.argv[2], "/data"))
assert os.path.samestat(os.fstat(fd), os.stat(sys.argv[2]))  # not ours to close
"""
    assert python(code, new_root, source) == "source's 4"


@pytest.mark.usefixtures("template")
def test_sources_are_those_of_the_callers_mount_namespace(new_root: Path, source: Path) -> None:
    # which is another one than when the template was made
    code = """
unshare(Namespace.MOUNT)
assert libc.mount(None, b"/", None, 0x44000, None) == 0
assert libc.mount(b"none", sys.argv[2].encode(), b"tmpfs", 0, b"size=1M") == 0
print("own", file=open(sys.argv[2] + "/file", "w"))
inside(Bind(sys.argv[2], "/data"))
"""
    assert python(code, new_root, source) == "own 4"
    assert (source / "file").read_text() == "source's\n"


@pytest.mark.usefixtures("template")
def test_is_done_without_by_a_process_that_has_gone_to_a_user_namespace(
    new_root: Path, source: Path
) -> None:
    code = """
unshare(Namespace.USER)
print("0 0 1", file=open("/proc/self/uid_map", "w"))
inside(Bind(sys.argv[2], "/data"))
"""
    assert python(code, new_root, source) == "source's 4"


@pytest.mark.usefixtures("template")
def test_is_shared_with_a_child_of_fork(new_root: Path, source: Path) -> None:
    code = """
with signals_blocked():
    before = open_template()
pid = os.fork()
if pid == 0:
    with signals_blocked():
        assert open_template() == before
    inside(Bind(sys.argv[2], "/data"))
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
inside(Bind(sys.argv[2], "/data"))
"""
    assert python(code, new_root, source).splitlines() == ["source's 4"] * 2


@pytest.mark.usefixtures("template")
def test_is_done_without_by_who_has_given_up_the_right(new_root: Path, source: Path) -> None:
    code = """
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
for n in range(3):
    sets[n] &= ~(1 << 18)  # CAP_SYS_CHROOT, which setns(2) asks for
assert libc.capset(header, sets) == 0
inside(Bind(sys.argv[2], "/data"))
"""
    assert python(code, new_root, source) == "source's 4"


@pytest.mark.usefixtures("template")
def test_is_done_without_by_who_may_not_open_all_sources_at_once(
    new_root: Path, source: Path
) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
fds = os.listdir("/proc/self/fd")
inside(Bind(sys.argv[2], "/data"), *(Bind(sys.argv[2], f"/data{n}") for n in range(40)))
assert os.listdir("/proc/self/fd") == fds
"""
    assert python(code, new_root, source) == "source's 44"


@pytest.mark.usefixtures("template")
def test_the_same_is_seen_inside_without_it(
    box: Box, shell: Shell, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "cut -d' ' -f4- /proc/self/mountinfo | sort; ls /; ls -l /data /dev; id; env"
    container = box(
        Bind(source, "/data", nosuid=True), Dev(), read_only=True, masked_paths=masks.MASKED_PATHS
    )
    with_template = shell(container, script)
    monkeypatch.setattr("pyns.spawn.open_template", lambda: None)
    assert shell(container, script) == with_template

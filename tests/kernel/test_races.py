"""A root in which somebody swaps a directory for a link to the host's, while containers start."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyns import (
    Bind,
    CgroupFs,
    Container,
    Dev,
    Devpts,
    Dir,
    File,
    Mqueue,
    Namespace,
    Overlay,
    Proc,
    SpawnError,
    Symlink,
    Sysfs,
    Tmpfs,
    run,
)
from pyns.mounts import Mount

pytestmark = pytest.mark.usefixtures("namespaces")

LOWER = Path(__file__).parent  # nothing is mounted below it, which a user namespace would lock
STARTS = 200 if "PYNS_WHOLE" in os.environ else 6  # of each: some 450 in all
# Exchanges two names (renameat2(2)), as fast as it can, and counts how often.
SWAPPER = """
import ctypes, mmap, os, platform, sys
names, counter = [name.encode() for name in sys.argv[1:3]], open(sys.argv[3], "r+b")
count = ctypes.c_uint64.from_buffer(mmap.mmap(counter.fileno(), 8))
number = ctypes.c_long({"x86_64": 316, "aarch64": 276}[platform.machine()])
libc = ctypes.CDLL(None, use_errno=True)
while libc.syscall(number, -100, names[0], -100, names[1], 2) == 0:
    count.value += 1
sys.exit(os.strerror(ctypes.get_errno()))
"""


class Swaps:
    """What is swapped: `swap` in a root is a directory or file, or a link to one of the host's."""

    def __init__(self, root: Path, counter: Path) -> None:
        self.root = root
        self._counter = counter

    def count(self) -> int:
        """Return how often it was swapped."""
        with open(self._counter, "rb") as file, mmap.mmap(file.fileno(), 8, prot=1) as memory:
            return int.from_bytes(memory, sys.byteorder)

    def wait(self) -> None:
        """Wait until it is swapped again."""
        before = self.count()
        while self.count() == before:
            os.sched_yield()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Make a directory of the host's, that nothing is to be mounted on, made in or seen of."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_text("secret")
    return path


@pytest.fixture
def swapping(
    new_root: Path, outside: Path, tmp_path: Path
) -> Iterator[Callable[[bool, bool], Swaps]]:
    """Return a function that has the names swapped from then on."""
    started = []

    def begin(is_file: bool, is_absolute: bool) -> Swaps:
        target = outside / "secret" if is_file else outside
        link = str(target) if is_absolute else os.path.relpath(target, new_root)
        (new_root / "swap-other").symlink_to(link)
        if is_file:
            (new_root / "swap").write_text("inside")
        else:
            (new_root / "swap").mkdir()
            (new_root / "swap/inside").touch()
        counter = tmp_path / "counter"
        counter.write_bytes(bytes(8))
        names = [str(new_root / "swap"), str(new_root / "swap-other")]
        command = [sys.executable, "-P", "-c", SWAPPER, *names, str(counter)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        swaps = Swaps(new_root, counter)
        while swaps.count() == 0:
            if process.poll() is not None:
                assert process.stderr
                pytest.skip(f"renameat2(RENAME_EXCHANGE): {process.stderr.read().strip()}")
            os.sched_yield()
        return swaps

    yield begin
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)


class Attacked(NamedTuple):
    """What is done at the name that is swapped, or below it.

    Attributes:
        fields: of the container, or the cwd; given the path inside.
        is_file: whether it is a file that is swapped.
    """

    fields: Callable[[str], dict[str, Any]]
    is_file: bool = False


def at(make: Callable[[str], Mount]) -> Callable[[str], dict[str, Any]]:
    return lambda path: {"mounts": (make(path),)}


ATTACKED = {
    "Bind": Attacked(at(lambda path: Bind("/usr", path))),
    "Bind of a file": Attacked(at(lambda path: Bind("/etc/passwd", path)), is_file=True),
    "Tmpfs": Attacked(at(Tmpfs)),
    "Proc": Attacked(at(Proc)),
    "Sysfs": Attacked(at(Sysfs)),
    "Mqueue": Attacked(at(Mqueue)),
    "Devpts": Attacked(at(Devpts)),
    "Dev": Attacked(at(Dev)),
    "CgroupFs": Attacked(at(CgroupFs)),
    "Overlay": Attacked(at(lambda path: Overlay(path, [LOWER]))),
    "File": Attacked(at(lambda path: File(path, "inside")), is_file=True),
    "Dir": Attacked(at(Dir)),
    "Symlink": Attacked(at(lambda path: Symlink(path, "inside"))),
    "masked path": Attacked(lambda path: {"masked_paths": [path]}),
    "masked file": Attacked(lambda path: {"masked_paths": [path]}, is_file=True),
    "read-only path": Attacked(lambda path: {"read_only_paths": [path]}),
    "read-only file": Attacked(lambda path: {"read_only_paths": [path]}, is_file=True),
    "read-only root": Attacked(lambda path: {"mounts": (Tmpfs(path),), "read_only": True}),
    "cwd": Attacked(lambda path: {"cwd": path}),
}
# Where it was a link at the wrong moment, or something else than a moment before.
DOCUMENTED = {
    errno.ELOOP: "a link to what is not in the root",
    errno.ENOENT: "likewise: a cwd",
    errno.EAGAIN: "it was renamed each time that the kernel looked",
    errno.EEXIST: "a Symlink, and there is a directory or another link",
    errno.ENOTDIR: "a Dir, and there is a link to what is not in the root",
    errno.EXDEV: "a Dir or Symlink that would lie on another mount",
}


REFUSALS = (SpawnError, FileNotFoundError, NotADirectoryError)  # the latter two: of a cwd
# shows what is there, if it is the host's
SCRIPT = 'for p in /swap /swap-* /swap/new* .; do cat "$p/secret"; [ ! -f "$p" ] || cat "$p"; done'


def start(box: Callable[..., Container], fields: dict[str, Any]) -> str | OSError:
    """Return what a container shows of the host's directory, or that it was refused."""
    usual: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 50, "cwd": "/"}
    options = usual | {name: fields[name] for name in fields.keys() & {"cwd"}}
    rest = {name: fields[name] for name in fields.keys() - {"cwd", "mounts"}}
    container = box(*fields.get("mounts", ()), **rest)
    try:
        return str(run(container, ["sh", "-c", SCRIPT], **options).stdout)
    except REFUSALS as error:
        return error


def tree(path: Path) -> dict[str, tuple[int, int]]:
    """Return what there is below a directory: mode and time of each."""
    found = [path, *path.rglob("*")]
    return {str(p): (p.lstat().st_mode, p.lstat().st_mtime_ns) for p in found}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize("name", ATTACKED)
def test_a_link_that_is_swapped_in_leads_nothing_outside(
    box: Callable[..., Container],
    swapping: Callable[[bool, bool], Swaps],
    outside: Path,
    name: str,
    is_absolute: bool,
) -> None:
    attacked = ATTACKED[name]
    swaps = swapping(attacked.is_file, is_absolute)
    before = tree(outside)
    outcomes = []
    for n in range(STARTS):
        swaps.wait()
        outcomes.append(start(box, attacked.fields("/swap")))
        if not attacked.is_file:
            swaps.wait()  # and something that is to be made below
            outcomes.append(start(box, attacked.fields(f"/swap/new{n}")))
    refused = [error for error in outcomes if isinstance(error, OSError)]
    assert [error for error in refused if error.errno not in DOCUMENTED] == []
    assert [said for said in outcomes if isinstance(said, str) and "secret" in said] == []
    assert tree(outside) == before
    assert str(outside.parent) not in Path("/proc/self/mountinfo").read_text()


# What runc and others have done: look whether the path is a link, then mount on the path.
NAIVE = """
import ctypes, os, sys
root, outside = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
for tries in range(1_000_000):
    place = f"{root}/swap".encode()
    if not os.path.islink(place) and libc.mount(b"none", place, b"tmpfs", 0, b"size=4k") == 0:
        if not os.path.exists(f"{outside}/secret"):
            print("outside")
            break
        for name in "swap", "swap-other":
            libc.umount2(f"{root}/{name}".encode(), 2 | 8)  # MNT_DETACH, UMOUNT_NOFOLLOW
"""


@pytest.mark.timeout(300)
def test_who_looks_before_he_mounts_is_led_outside(
    rooted: Callable[..., Container], swapping: Callable[[bool, bool], Swaps], outside: Path
) -> None:
    """The attack works, against who does it with a path."""
    swaps = swapping(False, True)
    box = rooted(namespaces=Namespace.MOUNT)
    command = [sys.executable, "-P", "-c", NAIVE, str(swaps.root), str(outside)]
    done = run(box, command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("outside\n", "")
    assert (outside / "secret").exists()  # it was in a mount namespace of its own

"""What it costs to start a program and wait for its end, against the same system calls in C.

The subjects of a group do the same; what they do not, the subject's docstring says. All start the
same small static program, and have shown before they are timed that the isolation is there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from pyns import CgroupError, Container, Limits, Namespace, Proc, clone_into
from pyns.cgroups import Cgroup

HOSTNAME = "bench"
ISOLATED = Namespace.PID | Namespace.MOUNT | Namespace.UTS | Namespace.IPC
LIMITS = Limits(memory_max="100M", pids_max=64)
MEBIBYTE = 1 << 20
SIZES = {"10 MB": 10 * MEBIBYTE, "4 GB": 4096 * MEBIBYTE}

Start = Callable[[], object]
Measure = Callable[[str, Start], None]
Interleave = Callable[[Mapping[str, Start]], None]
Prepare = Callable[[list[str]], Start]  # argv → what starts it, waits, and raises if it fails


def expect_success(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"the program failed: status {status}")


class Floor:
    """limit.c: its buffers are made before the timing, one ctypes call (1 µs) is in it."""

    def __init__(self, library: Path) -> None:
        self._start_and_wait = ctypes.CDLL(str(library)).start_and_wait
        self._start_and_wait.argtypes = (
            ctypes.c_char_p,  # program
            ctypes.c_void_p,  # arguments
            ctypes.c_void_p,  # environment
            ctypes.c_char_p,  # root
            ctypes.c_char_p,  # hostname
        )

    def prepare(self, argv: list[str], root: Path | None = None) -> Start:
        arguments = _c_strings([os.fsencode(argument) for argument in argv])
        environment = _c_strings([key + b"=" + value for key, value in os.environb.items()])
        directory = None if root is None else os.fsencode(root)
        hostname = HOSTNAME.encode()

        def start() -> None:
            status = self._start_and_wait(arguments[0], arguments, environment, directory, hostname)
            if status < 0:
                raise OSError(-status, os.strerror(-status), "limit.c")
            expect_success(status)

        return start


def _c_strings(strings: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(strings) + 1))(*strings, None)


def prepare_pyns(container: Container) -> Prepare:
    return lambda argv: lambda: expect_success(clone_into(container, argv).wait())


def prepare_popen(argv: list[str]) -> Start:
    """subprocess.Popen of this Python: vfork and exec in C, close_range, no pidfd."""
    return lambda: expect_success(subprocess.Popen(argv).wait())


def prepare_posix_spawn(argv: list[str]) -> Start:
    """os.posix_spawn: libc's vfork and exec; it closes no fds, as Python's are close-on-exec."""

    def start() -> None:
        _, status = os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)
        expect_success(status)

    return start


def prepare_unshare(floor: Floor, root: Path) -> Prepare:
    """unshare(1), started by limit.c, so that only its own work is added.

    It does less: chroot instead of pivot_root (the old root can be reached), no hostname, nothing
    closed. It does more: its own exec and a fork, for the program to be PID 1.
    """
    options = ["--pid", "--fork", "--mount", "--uts", "--ipc", f"--root={root}", "--mount-proc"]
    return lambda argv: floor.prepare([_tool("unshare"), *options, *argv])


def prepare_bwrap(floor: Floor, root: Path) -> Prepare:
    """bwrap(1), started by limit.c, so that only its own work is added.

    It does more: its own exec and a clone (a process that stays outside and waits), a tmpfs to
    build the root in with two pivot_roots, /proc with parts of it read-only,
    no_new_privs and all capabilities dropped.
    """
    options = ["--unshare-pid", "--unshare-uts", "--unshare-ipc", "--as-pid-1"]
    options += ["--bind", str(root), "/", "--proc", "/proc", "--hostname", HOSTNAME]
    return lambda argv: floor.prepare([_tool("bwrap"), *options, *argv])


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} in PATH")
    return path


def read_report(path: Path) -> dict[str, str]:
    """Return what the probe saw, and let the next one write anew."""
    pairs = [line.split(" ", 1) for line in path.read_text().splitlines()]
    path.unlink()
    report = {key: value for key, value in pairs if key != "cgroup"}
    report["cgroups"] = "\n".join(value for key, value in pairs if key == "cgroup")
    return report


def own_namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "uts", "ipc", "pid")}


def checked_plain(prepare: Prepare, root: Path) -> Start:
    """Return what starts the program, once it has shown that nothing is isolated."""
    report_path = root / "report"
    prepare([str(root / "probe"), str(report_path)])()
    report = read_report(report_path)
    assert {name: report[name] for name in own_namespaces()} == own_namespaces()
    return prepare([str(root / "probe")])


def checked_isolated(prepare: Prepare, root: Path, hostname: str, in_cgroup: bool = False) -> Start:
    """Return what starts the program, once it has shown what it is isolated from."""
    prepare(["/probe", "/report"])()
    report = read_report(root / "report")
    for name, own in own_namespaces().items():
        assert report[name] != own, f"the {name} namespace is the caller's"
    assert (report["getpid"], report["self"]) == ("1", "1")
    assert report["root"] == str(root.stat().st_ino)
    assert report["hostname"] == hostname
    if in_cgroup:
        assert report["cgroups"] != Path("/proc/self/cgroup").read_text().rstrip("\n")
    return prepare(["/probe"])


@pytest.fixture(scope="module")
def floor(limit_library: Path) -> Floor:
    return Floor(limit_library)


@pytest.fixture(scope="module")
def plain(floor: Floor, new_root: Path) -> dict[str, Start]:
    """The subjects that isolate nothing."""
    subjects: dict[str, Prepare] = {
        "bare C": floor.prepare,
        "pyns": prepare_pyns(Container(namespaces=Namespace(0))),
        "subprocess.Popen": prepare_popen,
        "os.posix_spawn": prepare_posix_spawn,
    }
    return {name: checked_plain(prepare, new_root) for name, prepare in subjects.items()}


def isolating(root: Path, cgroup: Cgroup | None = None, limits: Limits | None = None) -> Container:
    return Container(
        namespaces=ISOLATED,
        root=root,
        mounts=[Proc()],
        hostname=HOSTNAME,
        cgroup=cgroup,
        limits=limits,
    )


@pytest.fixture(scope="module")
def isolated(floor: Floor, new_root: Path) -> dict[str, Start]:
    """bare C and pyns, with new namespaces, root, /proc and hostname."""
    try:
        bare = checked_isolated(lambda argv: floor.prepare(argv, new_root), new_root, HOSTNAME)
    except PermissionError as error:
        pytest.skip(f"new namespaces need CAP_SYS_ADMIN: {error}")
    pyns = checked_isolated(prepare_pyns(isolating(new_root)), new_root, HOSTNAME)
    return {"bare C": bare, "pyns": pyns}


@pytest.fixture(scope="module")
def in_cgroup(isolated: dict[str, Start], new_root: Path) -> Iterator[dict[str, Start]]:
    """pyns without a cgroup, in one that is there, and with limits in one made for the run."""
    try:
        group = Cgroup.create(limits=LIMITS)
    except CgroupError as error:
        pytest.skip(str(error))
    with group:
        containers = {
            "pyns, cgroup=": isolating(new_root, cgroup=group),
            "pyns, limits=": isolating(new_root, limits=LIMITS),
        }
        yield {"pyns, no cgroup": isolated["pyns"]} | {
            name: checked_isolated(prepare_pyns(container), new_root, HOSTNAME, in_cgroup=True)
            for name, container in containers.items()
        }


@pytest.mark.benchmark(group="no isolation")
@pytest.mark.parametrize("subject", ["bare C", "pyns", "subprocess.Popen", "os.posix_spawn"])
def test_plain(measure: Measure, plain: dict[str, Start], subject: str) -> None:
    measure(subject, plain[subject])


@pytest.mark.benchmark(group="no isolation")
def test_plain_interleaved(interleave: Interleave, plain: dict[str, Start]) -> None:
    interleave(plain)


@pytest.mark.benchmark(group="pid, mount, uts, ipc, root, /proc, hostname")
@pytest.mark.parametrize("subject", ["bare C", "pyns"])
def test_isolated(measure: Measure, isolated: dict[str, Start], subject: str) -> None:
    measure(subject, isolated[subject])


@pytest.mark.benchmark(group="pid, mount, uts, ipc, root, /proc, hostname")
@pytest.mark.usefixtures("isolated")  # which skips without the privilege
def test_isolated_by_unshare(measure: Measure, floor: Floor, new_root: Path) -> None:
    prepare = prepare_unshare(floor, new_root)
    measure("unshare(1), no pivot_root", checked_isolated(prepare, new_root, platform.node()))


@pytest.mark.benchmark(group="pid, mount, uts, ipc, root, /proc, hostname")
@pytest.mark.usefixtures("isolated")
def test_isolated_by_bwrap(measure: Measure, floor: Floor, new_root: Path) -> None:
    measure("bwrap(1)", checked_isolated(prepare_bwrap(floor, new_root), new_root, HOSTNAME))


@pytest.mark.benchmark(group="pid, mount, uts, ipc, root, /proc, hostname")
def test_isolated_interleaved(interleave: Interleave, isolated: dict[str, Start]) -> None:
    interleave(isolated)


def hold_memory(size: int) -> mmap.mmap:
    """Return touched anonymous memory, in small pages: the most page tables that it can have."""
    with open("/proc/meminfo") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    if available * 1024 < size + 512 * MEBIBYTE:
        pytest.skip(f"MemAvailable is {available // 1024} MB, needed: {size // MEBIBYTE + 512}")
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # EINVAL: a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    with memoryview(memory) as view:
        step = mmap.PAGESIZE
        view[::step] = b"x" * (size // step)
    return memory


@pytest.fixture(scope="module")
def held_memory(request: pytest.FixtureRequest) -> Iterator[str]:
    """The parent holds so much more memory."""
    label: str = request.param
    with hold_memory(SIZES[label]):
        yield label


@pytest.mark.benchmark(group="the same, by what the parent holds")
@pytest.mark.parametrize("held_memory", SIZES, indirect=True)
@pytest.mark.parametrize("subject", ["bare C", "pyns"])
@pytest.mark.timeout(180)  # some hosts take long to give 4 GB
def test_parent_size(
    measure: Measure, isolated: dict[str, Start], subject: str, held_memory: str
) -> None:
    measure(f"{subject}, {held_memory}", isolated[subject])


@pytest.mark.benchmark(group="the same, by what the parent holds")
@pytest.mark.timeout(180)
def test_parent_size_interleaved(
    interleave: Interleave, isolated: dict[str, Start], pytestconfig: pytest.Config
) -> None:
    """Time the sizes in turn, many rounds each: 4 GB can't be had and let go in every round."""
    for _ in range(1 if pytestconfig.getoption("benchmark_disable") else 5):
        for label in SIZES:
            with hold_memory(SIZES[label]):
                interleave({f"{name}, {label}": start for name, start in isolated.items()})


@pytest.mark.benchmark(group="the same, with limits on memory and pids")
@pytest.mark.parametrize("subject", ["pyns, no cgroup", "pyns, cgroup=", "pyns, limits="])
def test_cgroup(measure: Measure, in_cgroup: dict[str, Start], subject: str) -> None:
    measure(subject, in_cgroup[subject])


@pytest.mark.benchmark(group="the same, with limits on memory and pids")
def test_cgroup_interleaved(interleave: Interleave, in_cgroup: dict[str, Start]) -> None:
    interleave(in_cgroup)

"""Every kind of mount, as a program sees it from inside."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    clone_into,
    masks,
    run,
)
from pyns.cgroups import hierarchies
from pyns.mounts import Mount

pytestmark = pytest.mark.usefixtures("namespaces")

Box = Callable[..., Container]
Shell = Callable[..., str]
LOWER = Path(__file__).parent  # nothing is mounted below it, which a user namespace would lock


class Seen:
    """The line of /proc/self/mountinfo about the topmost mount on a path."""

    def __init__(self, line: str) -> None:
        mount, _, filesystem = line.partition(" - ")
        self.root, self.path, options, *self.propagation = mount.split()[3:]
        self.flags = {f for f in options.split(",") if f not in ("rw", "relatime", "noatime")}
        self.fstype, _, options = filesystem.split(" ", 2)
        self.options = set(options.split(","))


@pytest.fixture
def mounted(shell: Shell) -> Callable[..., dict[str, Seen]]:
    """Return a function: what is mounted where in a container."""

    def look(container: Container) -> dict[str, Seen]:
        lines = shell(container, "cat /proc/self/mountinfo").splitlines()
        return {seen.path: seen for seen in map(Seen, lines)}

    return look


Mounted = Callable[[Container], dict[str, Seen]]
INERT = {"nosuid", "nodev", "noexec"}


def refusal(container: Container) -> SpawnError:
    with pytest.raises(SpawnError) as caught:
        clone_into(container, ["true"])
    return caught.value


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a directory of the caller's with something in it."""
    path = tmp_path / "source"
    (path / "sub").mkdir(parents=True)
    (path / "file").write_text("from the source")
    return path


@pytest.mark.parametrize(
    ("mount", "place", "fstype", "flags", "options"),
    [
        (Bind("/usr", "/x", nosuid=True), "/x", None, {"nosuid"}, set()),
        (
            Bind("/usr", "/x", True, nodev=True, noexec=True),
            "/x",
            None,
            {"ro", "nodev", "noexec"},
            set(),
        ),
        (Tmpfs("/x"), "/x", "tmpfs", {"nosuid", "nodev"}, set()),
        (
            Tmpfs("/x", size="64K", inodes=77, noexec=True, mode=0o711, read_only=True),
            "/x",
            "tmpfs",
            {"ro", *INERT},
            {"size=64k", "nr_inodes=77", "mode=711"},
        ),
        (Proc("/x"), "/x", "proc", INERT, {"rw"}),
        (Proc("/x", hidepid=1), "/x", "proc", INERT, {"hidepid=noaccess"}),
        (Proc("/x", hidepid=2), "/x", "proc", INERT, {"hidepid=invisible"}),
        (Proc("/x", hidepid=4), "/x", "proc", INERT, {"hidepid=ptraceable"}),
        (Proc("/x", hidepid="ptraceable"), "/x", "proc", INERT, {"hidepid=ptraceable"}),
        (Proc("/x", subset="pid"), "/x", "proc", INERT, {"subset=pid"}),
        (Sysfs(), "/sys", "sysfs", {"ro", *INERT}, set()),
        (Sysfs("/x", read_only=False), "/x", "sysfs", INERT, set()),
        (Mqueue("/x"), "/x", "mqueue", INERT, set()),
        (Devpts("/x"), "/x", "devpts", {"nosuid", "noexec"}, {"mode=620", "ptmxmode=666"}),
        (
            Devpts("/x", mode=0o600, gid=5, ptmxmode=0o600, max=3),
            "/x",
            "devpts",
            {"nosuid", "noexec"},
            {"gid=5", "mode=600", "ptmxmode=600", "max=3"},
        ),
        (File("/x", b""), "/x", "tmpfs", {"ro", "nosuid", "nodev"}, {"size=64k", "nr_inodes=2"}),
        (File("/x", "", read_only=False), "/x", "tmpfs", {"nosuid", "nodev"}, set()),
        (Overlay("/x", [LOWER]), "/x", "overlay", set(), {"lowerdir=0", "upperdir=upper"}),
        (
            Overlay("/x", [LOWER], read_only=True, nosuid=True, nodev=True, noexec=True),
            "/x",
            "overlay",
            {"ro", *INERT},
            set(),
        ),
        (
            Dev(size="64K", inodes=99),
            "/dev",
            "tmpfs",
            INERT,
            {"size=64k", "nr_inodes=99", "mode=755"},
        ),
        (Dev(read_only=True), "/dev", "tmpfs", {"ro", *INERT}, set()),
        (Dev(shm_size="1M"), "/dev/shm", "tmpfs", INERT, {"size=1024k", "nr_inodes=4096"}),
        (Dev(pts_gid=5), "/dev/pts", "devpts", {"nosuid", "noexec"}, {"gid=5", "ptmxmode=666"}),
        (Dev(pts_max=9), "/dev/pts", "devpts", {"nosuid", "noexec"}, {"max=9"}),
        (Dev(mqueue=True), "/dev/mqueue", "mqueue", INERT, set()),
        (Dev(), "/dev/null", None, {"ro", "nosuid", "noexec"}, set()),
    ],
    ids=lambda value: repr(value) if isinstance(value, Mount) else "",
)
def test_has_the_type_flags_and_options_that_were_asked_for(
    box: Box,
    mounted: Mounted,
    mount: Mount,
    place: str,
    fstype: str | None,
    flags: set[str],
    options: set[str],
    request: pytest.FixtureRequest,
) -> None:
    if "gid=5" in options:  # which an ordinary user's namespace does not have
        request.getfixturevalue("privileged")
    seen = mounted(box(mount))[place]
    assert seen.fstype == fstype or fstype is None
    if isinstance(mount, Bind):
        assert flags <= seen.flags  # and what the host's has
    else:
        assert seen.flags == flags
    assert options <= seen.options
    assert seen.propagation == []


# each made on a link that would lead outside, if it were not resolved beneath the root
TARGETED: dict[str, Callable[[str], Mount]] = {
    "Bind": lambda target: Bind("/usr", target),
    "Tmpfs": Tmpfs,
    "Proc": Proc,
    "Sysfs": Sysfs,
    "Mqueue": Mqueue,
    "Devpts": Devpts,
    "CgroupFs": CgroupFs,
    "Dev": Dev,
    "Overlay": lambda target: Overlay(target, [LOWER]),
    "File": lambda target: File(target, "x"),
    "Dir": Dir,
    "Symlink": lambda target: Symlink(target, "/"),
}


@pytest.mark.parametrize("name", TARGETED)
@pytest.mark.parametrize("link", ["/", "../../../..", "outside", "/../outside"])
def test_target_through_a_link_never_leads_outside(
    box: Box, shell: Shell, new_root: Path, tmp_path: Path, name: str, link: str
) -> None:
    (tmp_path / "outside").mkdir()
    (new_root / "outside").mkdir()
    (new_root / "link").symlink_to(link)
    before = sorted(os.listdir("/"))
    mounts = Path("/proc/self/mountinfo").read_text()
    inside = shell(box(TARGETED[name]("/link/made")), "cd /; ls -d made outside/made 2>&1 || true")
    assert inside.splitlines().count("outside/made" if "outside" in link else "made") == 1
    assert list((tmp_path / "outside").iterdir()) == []
    assert sorted(os.listdir("/")) == before
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.parametrize("name", TARGETED)
def test_target_that_is_a_link_to_nowhere_makes_nothing(
    box: Box, new_root: Path, tmp_path: Path, name: str
) -> None:
    (new_root / "link").symlink_to("../outside")
    error = refusal(box(TARGETED[name]("/link/made")))
    assert error.errno == errno.ELOOP
    assert not (tmp_path / "outside").exists()
    assert not (new_root / "outside").exists()


@pytest.mark.parametrize("name", TARGETED)
def test_target_through_a_magic_link_is_refused(box: Box, tmp_path: Path, name: str) -> None:
    host = os.open(tmp_path, os.O_RDONLY)
    try:
        try:
            container = box(TARGETED[name](f"/proc/self/fd/{host}/made"))
        except ValueError:
            return  # an entry: /proc is not the container's to fill
        error = refusal(container)
    finally:
        os.close(host)
    assert error.errno in (errno.ELOOP, errno.EXDEV)
    assert not (tmp_path / "made").exists()


class TestBind:
    @pytest.mark.usefixtures("privileged")
    def test_nosuid_nodev_and_noexec_hold(self, box: Box, shell: Shell, source: Path) -> None:
        (source / "program").write_text("#!/bin/sh\necho ran\n")
        (source / "program").chmod(0o755)
        script = "/x/program 2>&1 || true"
        assert shell(box(Bind(source, "/x")), script) == "ran"
        assert shell(box(Bind(source, "/x", noexec=True)), script).endswith("Permission denied")
        script = "cat /x/null 2>&1 && echo opened || true"
        null = Bind("/dev", "/x", recursive=False)
        assert shell(box(null), script) == "opened"
        null = Bind("/dev", "/x", recursive=False, nodev=True)
        assert shell(box(null), script).endswith("Permission denied")

    def test_source_below_an_earlier_target_is_what_is_mounted_there(self, source: Path) -> None:
        hidden = Container(mounts=(Tmpfs(source), Bind(source / "file", "/mnt/x"), Proc()))
        assert refusal(hidden).errno == errno.ENOENT


class TestTmpfs:
    def test_of_few_inodes_takes_no_more(self, box: Box, shell: Shell) -> None:
        script = "cd /x; for n in 1 2 3 4; do touch $n 2>&1 || true; done; ls"
        said = shell(box(Tmpfs("/x", inodes=3)), script)
        assert "No space left on device" in said
        assert said.split()[-2:] == ["1", "2"]

    def test_is_read_only_after_it_is_filled(self, box: Box, shell: Shell) -> None:
        mounts = (Tmpfs("/x", read_only=True), Dir("/x/d/e", 0o1777), Symlink("/x/l", "d"))
        script = "cd /x; stat -c '%n %a' d d/e; readlink l; touch d/e/f 2>&1 || true"
        assert shell(box(*mounts), script).splitlines() == [
            "d 755",
            "d/e 1777",
            "d",
            "touch: cannot touch 'd/e/f': Read-only file system",
        ]


class TestProc:
    @pytest.mark.usefixtures("privileged")
    def test_hides_others_from_a_user(self, shell: Shell) -> None:
        # members of group 0 see all
        user = "setpriv --reuid 65534 --regid 65534 --clear-groups"
        script = f'sleep 9 & {user} sh -c "cd /proc; echo [0-9]*"'
        assert shell(Container(mounts=(Proc(),)), script) == "1 2 3"
        assert shell(Container(mounts=(Proc(hidepid=1),)), script) == "1 2 3"
        assert shell(Container(mounts=(Proc(hidepid=2),)), script) == "3"

    def test_subset_has_nothing_but_processes(self, box: Box, shell: Shell) -> None:
        inside = shell(box(Proc("/x", subset="pid")), "ls /x").split()
        assert [name for name in inside if not name.isdigit()] == ["self", "thread-self"]


class TestSysfs:
    def test_has_the_network_devices_of_the_container(self, box: Box, shell: Shell) -> None:
        assert shell(box(Sysfs()), "ls /sys/class/net") == "lo"

    def test_can_not_be_written(self, box: Box) -> None:
        script = "echo 1 > /sys/kernel/profiling 2>&1 || echo 0 > /sys/class/net/lo/mtu"
        completed = run(box(Sysfs()), ["sh", "-c", script], capture_output=True, text=True)
        assert completed.returncode
        assert "Read-only file system" in completed.stderr


class TestMqueue:
    def test_is_that_of_the_container(self, box: Box, shell: Shell) -> None:
        assert shell(box(Mqueue("/q")), "touch /q/x; ls /q") == "x"
        assert shell(box(Mqueue("/q")), "ls /q") == ""


class TestDevpts:
    def test_has_none_of_the_callers_terminals(self, box: Box, shell: Shell) -> None:
        leader, follower = os.openpty()
        try:
            assert shell(box(Devpts("/pts")), "ls /pts") == "ptmx"
        finally:
            os.close(leader)
            os.close(follower)


class TestCgroupFs:
    def test_shows_the_hierarchies_with_the_group_of_the_container_on_top(
        self, box: Box, mounted: Mounted
    ) -> None:
        found = hierarchies()
        seen = mounted(box(CgroupFs()))
        assert seen["/sys/fs/cgroup"].flags == {"ro", *INERT}
        groups = [s for s in seen.values() if s.fstype in ("cgroup", "cgroup2")]
        assert [s.root for s in groups] == ["/"] * len(found)
        assert [s for s in groups if not {"ro", *INERT} <= s.flags] == []
        if [h.version for h in found] == [2]:
            assert [s.path for s in groups] == ["/sys/fs/cgroup"]

    def test_of_v1_has_a_directory_or_a_link_for_each_controller(
        self, box: Box, shell: Shell
    ) -> None:
        controllers = [c for h in hierarchies() if h.version == 1 for c in h.controllers]
        if not controllers:
            pytest.skip(f"no v1 controller among {hierarchies()}")
        paths = [f"/sys/fs/cgroup/{c}/cgroup.procs" for c in controllers]
        shell(box(CgroupFs()), 'for f; do test -e "$f" || echo "$f"; done', *paths)

    @pytest.mark.usefixtures("limits")
    def test_shows_the_limits_and_lets_nobody_change_them(self, box: Box) -> None:
        from pyns import Limits

        container = box(CgroupFs(), limits=Limits(pids_max=7))
        script = (
            "cd /sys/fs/cgroup; test -e pids && cd pids; cat pids.max;"
            "echo max > pids.max; mkdir x; echo 1 > cgroup.procs"
        )
        completed = run(container, ["sh", "-c", script], capture_output=True, text=True)
        assert completed.stdout == "7\n"
        assert completed.stderr.count("Read-only file system") == 3


class TestDev:
    NODES = ("null", "zero", "full", "random", "urandom", "tty")

    def test_is_all_that_there_is(self, box: Box, shell: Shell) -> None:
        links = {
            "fd": "/proc/self/fd",
            "ptmx": "pts/ptmx",
            "stdin": "/proc/self/fd/0",
            "stdout": "/proc/self/fd/1",
            "stderr": "/proc/self/fd/2",
        }
        names = sorted((*self.NODES, *links, "pts", "shm"))
        inside = shell(box(Dev()), "cd /dev; ls; for l in $(ls); do readlink $l || true; done")
        assert inside.split() == names + [links[name] for name in names if name in links]

    def test_nodes_are_the_hosts_and_work(self, box: Box, shell: Shell) -> None:
        for name in self.NODES:
            assert shell(box(Dev()), f"stat -c %t:%T /dev/{name}") == "{:x}:{:x}".format(
                *(f(os.stat(f"/dev/{name}").st_rdev) for f in (os.major, os.minor))
            )
        script = (
            "head -c4 /dev/zero | od -An -tx1; echo x > /dev/null; head -c9 /dev/urandom | wc -c;"
            "echo > /dev/full 2>/dev/null || echo full; echo y | cat /dev/stdin; cat < /dev/null"
        )
        assert shell(box(Dev()), script).split() == [*["00"] * 4, "9", "full", "y"]

    def test_nodes_of_the_host_can_not_be_changed(self, box: Box) -> None:
        before = os.stat("/dev/null").st_mode
        completed = run(box(Dev()), ["chmod", "600", "/dev/null"], capture_output=True)
        assert b"Read-only file system" in completed.stderr
        assert os.stat("/dev/null").st_mode == before

    @pytest.mark.usefixtures("privileged")
    def test_devices_of_the_programs_own_are_dead(self, box: Box) -> None:
        script = "mknod /dev/mine c 1 3 && echo x > /dev/mine"
        completed = run(box(Dev()), ["sh", "-c", script], capture_output=True, text=True)
        assert completed.returncode
        assert "Permission denied" in completed.stderr

    def test_terminals_can_be_opened_and_are_the_containers(self, shell: Shell) -> None:
        script = "import os; fds = os.openpty(); print(os.ttyname(fds[1]), os.listdir('/dev/pts'))"
        container = Container(mounts=(Dev(), Proc()))
        assert shell(container, 'exec "$@"', sys.executable, "-c", script) in (
            "/dev/pts/0 ['0', 'ptmx']",
            "/dev/pts/0 ['ptmx', '0']",
        )

    def test_over_the_callers_own_dev(self, shell: Shell) -> None:
        container = Container(mounts=(Dev(extra=("net/tun",) * have("/dev/net/tun")), Proc()))
        assert shell(container, "stat -c %t:%T /dev/null; ls /dev/shm") == "1:3"

    def test_extra_nodes_may_lie_deeper(self, box: Box, shell: Shell) -> None:
        deep = [
            os.path.relpath(os.path.join(path, name), "/dev")
            for path, _, names in os.walk("/dev")
            for name in names
            if path != "/dev" and is_device(os.path.join(path, name))
        ]
        deep = [name for name in deep if not name.startswith("pts/")]
        if not deep:
            pytest.skip("no device in a directory of /dev")
        assert shell(box(Dev(extra=deep[:1])), f"test -e /dev/{deep[0]}; echo ok") == "ok"

    def test_entries_are_made_in_it(self, box: Box, shell: Shell) -> None:
        mounts = (Dev(read_only=True), Symlink("/dev/core", "/proc/kcore"), Dir("/dev/a/b"))
        assert shell(box(*mounts), "readlink /dev/core; ls /dev/a; touch /dev/shm/x") == (
            "/proc/kcore\nb"
        )

    def test_node_that_is_not_there_fails(self, box: Box) -> None:
        error = refusal(box(Dev(extra=("no-such-device",))))
        assert (error.step.kind, error.errno) == ("open_tree", errno.ENOENT)


def have(path: str) -> bool:
    return os.path.exists(path)


def is_device(path: str) -> bool:
    return os.path.exists(path) and bool(os.stat(path).st_rdev)


class TestOverlay:
    @pytest.fixture
    def layers(self, tmp_path: Path) -> list[Path]:
        layers = [tmp_path / name for name in ("a:b", "c,d\\e")]  # what other ways must escape
        for n, layer in enumerate(layers):
            layer.mkdir()
            (layer / "both").write_text(f"layer {n}")
            (layer / f"only{n}").touch()
        return layers

    def test_shows_the_first_on_top_and_writes_to_memory(
        self, box: Box, shell: Shell, layers: list[Path]
    ) -> None:
        before = sorted(p.read_text() for layer in layers for p in layer.iterdir())
        script = "cd /x; cat both; echo; rm both only1; echo new > new; mkdir d; ls"
        mount = Overlay("/x", layers, size="1M", inodes=100)
        assert shell(box(mount), script).split("\n") == ["layer 0", "d", "new", "only0"]
        assert sorted(p.read_text() for layer in layers for p in layer.iterdir()) == before
        # and nothing of it is there the next time
        assert shell(box(mount), "ls /x").split() == ["both", "only0", "only1"]

    def test_memory_has_its_size(self, box: Box, layers: list[Path]) -> None:
        script = "head -c 2M /dev/zero > /x/f; stat -c %s /x/f"
        mounts = (Dev(), Overlay("/x", layers, size="1M"))
        completed = run(box(*mounts), ["sh", "-c", script], capture_output=True, text=True)
        assert "No space left on device" in completed.stderr
        assert int(completed.stdout) <= 2**20

    def test_memory_can_not_be_reached(
        self, box: Box, mounted: Mounted, layers: list[Path]
    ) -> None:
        seen = mounted(box(Overlay("/x", layers)))
        assert not [path for path in seen if path in ("/upper", "/0") or path.startswith("/x/")]
        assert "tmpfs" not in {s.fstype for s in seen.values() if s.path[:4] not in ("/", "/usr")}
        # what the program sees of the layers are names of no meaning
        assert {"lowerdir=0:1", "upperdir=upper", "workdir=work"} <= seen["/x"].options

    def test_keeps_what_is_written_in_an_upper_of_the_callers(
        self, box: Box, shell: Shell, layers: list[Path], tmp_path: Path
    ) -> None:
        upper, work = tmp_path / "up\\per", tmp_path / "work"
        upper.mkdir()
        work.mkdir()
        if refused := refusal_of_upper(upper, work):
            pytest.skip(refused)
        mount = Overlay("/x", layers, upper=upper, work=work)
        assert shell(box(mount), "cd /x; cat only0 > new; ls").split() == [
            "both",
            "new",
            "only0",
            "only1",
        ]
        assert [p.name for p in upper.iterdir()] == ["new"]
        assert shell(box(mount), "ls /x/new") == "/x/new"

    @pytest.mark.usefixtures("privileged")
    def test_root_has_mode_and_owner_of_the_first_layer(
        self, box: Box, shell: Shell, layers: list[Path]
    ) -> None:
        layers[0].chmod(0o1770)
        os.chown(layers[0], 5, 6)
        assert shell(box(Overlay("/x", layers)), "stat -c '%a %u %g' /x") == "1770 5 6"

    def test_over_its_own_lower(self, shell: Shell, layers: list[Path]) -> None:
        container = Container(mounts=(Overlay(layers[0], layers[:1]), Proc()))
        assert shell(container, 'cd "$1"; echo x > new; ls', str(layers[0])).split() == [
            "both",
            "new",
            "only0",
        ]
        assert not (layers[0] / "new").exists()

    def test_relative_lower_is_the_callers(
        self, box: Box, shell: Shell, layers: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(layers[0].parent)
        assert shell(box(Overlay("/x", ["a:b"])), "ls /x").split() == ["both", "only0"]

    def test_entries_are_made_in_it(self, box: Box, shell: Shell, layers: list[Path]) -> None:
        mounts = (Overlay("/x", layers, read_only=True), Dir("/x/d"), Symlink("/x/l", "d"))
        assert shell(box(*mounts), "ls /x; readlink /x/l").split() == [
            *("both", "d", "l", "only0", "only1"),
            "d",
        ]
        assert not (layers[0] / "d").exists()

    def test_of_many_layers_and_many_of_them(self, box: Box, shell: Shell, tmp_path: Path) -> None:
        layers = [tmp_path / str(n) for n in range(64)]
        for layer in layers:
            layer.mkdir()
            (layer / layer.name).touch()
        mounts = (Overlay("/x", layers), Overlay("/y", layers))
        assert shell(box(*mounts), "ls /x /y | wc -l") == str(2 * 65 + 1)

    def test_of_a_file_fails(self, box: Box, layers: list[Path]) -> None:
        error = refusal(box(Overlay("/x", [layers[0] / "both"])))
        assert (error.step.kind, error.errno) == ("stage", errno.EINVAL)
        assert error.hint

    def test_of_nothing_fails(self, box: Box, tmp_path: Path) -> None:
        error = refusal(box(Overlay("/x", [tmp_path / "missing"])))
        assert (error.step.kind, error.errno) == ("open_tree", errno.ENOENT)

    def test_failure_leaves_nothing(self, box: Box, layers: list[Path], tmp_path: Path) -> None:
        upper = tmp_path / "upper"
        upper.mkdir()
        error = refusal(box(Overlay("/x", layers, upper=upper, work="/proc")))
        assert error.step.kind == "new_mount"
        assert error.hint


def refusal_of_upper(upper: Path, work: Path) -> str:
    """Have mount(8) try whether the filesystem takes it; return what mount(8) says, if not."""
    options = f"lowerdir={LOWER},upperdir={upper},workdir={work}".replace("\\", "\\\\")
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-mr"]
    command = [*unshare, "mount", "-t", "overlay", "-o", options, "none", "/mnt"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stderr


class TestFile:
    @pytest.mark.usefixtures("privileged")
    def test_has_its_content_and_mode(self, box: Box, shell: Shell, new_root: Path) -> None:
        old = os.umask(0o077)
        try:
            script = "od -An -tx1 /etc/x; stat -c '%a %u' /etc/x"
            mount = File("/etc/x", b"\0\xffa", mode=0o604)
            assert shell(box(mount), script) == " 00 ff 61\n604 0"
        finally:
            os.umask(old)
        assert (new_root / "etc/x").read_bytes() == b""

    def test_can_not_be_written_replaced_or_removed(self, box: Box) -> None:
        script = "echo x > /x; chmod 777 /x; rm /x; mv /x /y; cat /x"
        completed = run(
            box(File("/x", "content")), ["sh", "-c", script], capture_output=True, text=True
        )
        assert completed.stdout == "content"
        assert completed.stderr.count("Read-only file system") == 2
        assert completed.stderr.count("busy") == 2

    def test_may_be_written_and_is_gone_with_the_container(
        self, box: Box, shell: Shell, new_root: Path
    ) -> None:
        (new_root / "x").write_text("mine")
        mount = File("/x", "content", read_only=False)
        assert shell(box(mount), "echo more >> /x; cat /x") == "contentmore"
        assert shell(box(mount), "cat /x") == "content"
        assert (new_root / "x").read_text() == "mine"

    @pytest.mark.parametrize("size", [0, 4096, 65536, 65537, 3_000_000])
    def test_of_any_size(self, box: Box, shell: Shell, size: int) -> None:
        assert shell(box(File("/x", b"x" * size)), "wc -c < /x") == str(size)

    def test_over_the_callers_own(self, shell: Shell) -> None:
        before = Path("/etc/hostname").read_text() if have("/etc/hostname") else None
        if before is None:
            pytest.skip("no /etc/hostname here")
        container = Container(mounts=(File("/etc/hostname", "inside\n"), Proc()))
        assert shell(container, "cat /etc/hostname") == "inside"
        assert Path("/etc/hostname").read_text() == before

    def test_many(self, box: Box, shell: Shell) -> None:
        files = [File(f"/etc/f{n}", str(n)) for n in range(30)]
        assert shell(box(*files), "cat /etc/f*") == "".join(sorted(map(str, range(30))))


class TestEntries:
    def test_are_made_in_the_root_and_stay(self, box: Box, shell: Shell, new_root: Path) -> None:
        container = box(Dir("/a/b", 0o700), Symlink("/a/l", "/usr/bin"))
        for _ in range(2):
            assert shell(container, "readlink /a/l; stat -c %a /a/b") == "/usr/bin\n700"
        assert os.readlink(new_root / "a/l") == "/usr/bin"

    def test_in_the_root_but_through_a_link_on_a_mount_are_refused(
        self, box: Box, new_root: Path, source: Path
    ) -> None:
        (new_root / "link").symlink_to("data")
        error = refusal(box(Bind(source, "/data"), Dir("/link/new")))
        assert (error.step.kind, error.errno) == ("make_directory", errno.EXDEV)
        assert error.hint
        assert not (source / "new").exists()

    def test_before_their_mount_are_its_target(
        self, box: Box, shell: Shell, new_root: Path
    ) -> None:
        assert shell(box(Dir("/x", 0o711), Tmpfs("/x")), "stat -c %a /x") == "1777"
        assert oct((new_root / "x").stat().st_mode)[-3:] == "711"

    def test_in_place_of_something_else_are_refused(self, box: Box, new_root: Path) -> None:
        (new_root / "x").touch()
        for mount in (Dir("/x"), Symlink("/x", "y")):
            error = refusal(box(mount))
            assert error.errno in (errno.EEXIST, errno.ENOTDIR)
            assert error.hint


class TestReadOnlyRoot:
    def test_can_not_be_written_but_for_the_mounts(
        self, box: Box, shell: Shell, new_root: Path
    ) -> None:
        container = box(Tmpfs("/tmp"), Tmpfs("/a/b"), read_only=True)
        script = "touch /tmp/x /a/b/x; touch /x 2>&1 || true; touch /a/x 2>&1 || true"
        said = shell(container, script)
        assert said.count("Read-only file system") == 2
        assert (new_root / "a/b").is_dir()  # made before
        (new_root / "still").touch()  # the caller's own is as it was

    def test_holds_for_what_was_mounted_below_it(self, tmp_path: Path) -> None:
        # the mounts below are made in an outer container, whose pyns makes an inner one of them
        root = tmp_path / "root"
        outer = Container(mounts=(Tmpfs(root), Dir(root / "usr"), Tmpfs(root / "below"), Proc()))
        names = [n for n in ("bin", "lib", "lib64", "sbin") if os.path.islink(f"/{n}")]
        links = "".join(f"os.symlink({os.readlink(f'/{n}')!r}, r + {'/' + n!r})\n" for n in names)
        script = (
            f"import os, sys; from pyns import *\nr = {str(root)!r}\n{links}"
            "box = Container(root=r, read_only=True, mounts=(Bind('/usr'), Tmpfs('/mine')))\n"
            "sys.exit(run(box, ['sh', '-c', 'touch /mine/x; touch /x; touch /below/x']).returncode)"
        )
        completed = run(outer, [sys.executable, "-P", "-c", script], capture_output=True, text=True)
        said = completed.stderr.splitlines()
        assert [line.split("'")[1] for line in said] == ["/x", "/below/x"]
        assert [line for line in said if "Read-only" not in line] == []

    def test_without_a_root_of_its_own(self, shell: Shell, tmp_path: Path) -> None:
        container = Container(mounts=(Proc(), Tmpfs("/mnt")), read_only=True)
        script = 'touch /mnt/x; echo x > /dev/null; touch "$1/x" 2>&1 || true'
        assert shell(container, script, str(tmp_path)).endswith("Read-only file system")
        (tmp_path / "x").touch()

    def test_needs_no_mounts(self, shell: Shell) -> None:
        said = shell(Container(mounts=(), read_only=True), "touch /x 2>&1 || true")
        assert said.endswith("Read-only file system")


class TestMasks:
    def test_dockers_are_hidden_and_protected(self, box: Box) -> None:
        container = box(
            Sysfs(), masked_paths=masks.MASKED_PATHS, read_only_paths=masks.READ_ONLY_PATHS
        )
        script = (
            'for p; do if [ -d "$p" ]; then ls -A "$p"; elif [ -e "$p" ]; then cat "$p"; fi; done;'
            "echo x > /proc/sys/kernel/core_pattern || echo b > /proc/sysrq-trigger"
        )
        args = ["sh", "-c", script, "sh", *masks.MASKED_PATHS]
        completed = run(container, args, capture_output=True, text=True)
        assert completed.stdout == ""
        assert completed.stderr.count("Read-only file system") == 1 + os.path.exists(
            "/proc/sysrq-trigger"
        )

    def test_hide_what_the_caller_s_root_has(self, box: Box, shell: Shell, new_root: Path) -> None:
        (new_root / "d").mkdir()
        (new_root / "d" / "secret").write_text("secret")
        (new_root / "f").write_text("secret")
        container = box(masked_paths=["/d", "/f", "/missing", "/d/secret"])
        assert shell(container, "ls -A /d; cat /f; ls -d /missing 2>&1 || true").endswith(
            "No such file or directory"
        )

    def test_a_null_device_that_is_another_file_is_not_taken(
        self, box: Box, shell: Shell, new_root: Path
    ) -> None:
        # CVE-2025-31133: the root's /dev/null is a link to what is to be opened up
        (new_root / "dev").mkdir()
        (new_root / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
        container = box(masked_paths=["/proc/timer_list", "/proc/keys"])
        assert shell(container, "cat /proc/keys; stat -c %t:%T /proc/keys") == "1:3"
        # nor the one that a mount brings
        hidden = Container(mounts=(Tmpfs("/dev"), Proc()), masked_paths=["/proc/keys"])
        assert shell(hidden, "stat -c %t:%T /proc/keys") == "1:3"

    def test_a_mask_through_a_link_is_refused(self, box: Box, new_root: Path) -> None:
        (new_root / "link").symlink_to("usr")
        error = refusal(box(masked_paths=["/link/bin"]))
        assert (error.step.kind, error.errno) == ("mask", errno.ELOOP)
        assert error.hint

    def test_masked_can_not_be_changed_on_the_host(self, box: Box) -> None:
        before = os.stat("/dev/null").st_mode
        container = box(masked_paths=["/proc/keys"])
        completed = run(container, ["chmod", "600", "/proc/keys"], capture_output=True)
        assert b"Read-only file system" in completed.stderr
        assert os.stat("/dev/null").st_mode == before

    def test_read_only_paths_with_mounts_below(self, box: Box, shell: Shell) -> None:
        container = box(Tmpfs("/x"), Tmpfs("/x/y"), Tmpfs("/z"), read_only_paths=["/x", "/no"])
        said = shell(container, "touch /z/f; touch /x/f 2>&1 || touch /x/y/f 2>&1 || true")
        assert said.count("Read-only file system") == 2


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """Mount a tmpfs that is shared, as every mount is under systemd."""
    path = tmp_path / "shared"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", path], check=True)
        yield path
    finally:
        subprocess.run(["umount", "-R", path], check=True)


@pytest.mark.usefixtures("privileged")
class TestPropagation:
    @pytest.mark.parametrize("propagation", ["private", "slave", "shared", "unbindable"])
    def test_is_that_of_every_mount(self, mounted: Mounted, shared: Path, propagation: str) -> None:
        container = Container(propagation=propagation)
        tags = {
            path: {field.split(":")[0] for field in seen.propagation}
            for path, seen in mounted(container).items()
        }
        if propagation == "slave":
            assert tags[str(shared)] == {"master"}
            assert tags["/proc"] == set()  # its own
        else:
            expected = set() if propagation == "private" else {propagation}
            assert set(map(frozenset, tags.values())) == {frozenset(expected)}

    @pytest.mark.parametrize("propagation", ["private", "slave", "shared", "unbindable"])
    @pytest.mark.parametrize("rooted", [False, True], ids=["host's root", "own root"])
    def test_nothing_gets_out_and_slave_lets_in(
        self, box: Box, shared: Path, propagation: str, rooted: bool
    ) -> None:
        inner = shared / "later"
        inner.mkdir()
        inside = "/data/later" if rooted else str(inner)
        own = Tmpfs("/data/own" if rooted else shared / "own")
        mounts = (*((Bind(shared, "/data"),) if rooted else ()), own)
        container = (
            box(*mounts, propagation=propagation)
            if rooted
            else Container(mounts=(Proc(), *mounts), propagation=propagation)
        )
        script = 'echo ready; read go; grep -c " $1 " /proc/self/mountinfo; mount -t tmpfs t "$1"'
        child = clone_into(
            container, ["sh", "-c", script, "sh", inside], stdin=-1, stdout=-1, text=True
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            assert os.path.ismount(shared / "own") is False
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "x", inner], check=True)
            try:
                before = Path("/proc/self/mountinfo").read_text()
                found, _ = child.communicate("go\n", timeout=20)
                assert found == ("1\n" if propagation == "slave" else "0\n")
                assert Path("/proc/self/mountinfo").read_text() == before
            finally:
                subprocess.run(["umount", inner], check=True)

    def test_shared_is_shared_with_namespaces_made_inside(self, shell: Shell) -> None:
        script = (
            "unshare -m --propagation unchanged sh -c 'mount -t tmpfs -o size=1M x /mnt';"
            "grep -c ' /mnt ' /proc/self/mountinfo || true"
        )
        assert int(shell(Container(propagation="shared"), script)) > int(shell(Container(), script))


def test_everything_at_once_leaves_nothing_on_the_host(
    box: Box, shell: Shell, new_root: Path, source: Path
) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    container = box(
        Dev(mqueue=True),
        Sysfs(),
        CgroupFs(),
        Tmpfs("/tmp", size="1M"),
        Dir("/tmp/x"),
        Symlink("/lib-link", "usr/lib"),
        File("/etc/hosts", "127.0.0.1 localhost\n"),
        Overlay("/data", [source], size="1M"),
        read_only=True,
        masked_paths=masks.MASKED_PATHS,
        read_only_paths=masks.READ_ONLY_PATHS,
        propagation="slave",
    )
    assert shell(container, "cat /etc/hosts /data/file; ls /tmp") == (
        "127.0.0.1 localhost\nfrom the sourcex"
    )
    assert Path("/proc/self/mountinfo").read_text() == before
    assert {p.name for p in source.iterdir()} == {"file", "sub"}
    made = {"dev", "sys", "tmp", "etc", "data", "proc", "usr", "lib-link"}
    links = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}
    assert {p.name for p in new_root.iterdir()} - links == made
    assert [p for p in (new_root / "etc").iterdir() if p.read_bytes()] == []


def test_without_a_mount_namespace_they_are_refused() -> None:
    for field, value in (
        ("read_only", True),
        ("masked_paths", ["/x"]),
        ("read_only_paths", ["/x"]),
        ("propagation", "slave"),
    ):
        arguments: dict[str, Any] = {field: value}
        with pytest.raises(ValueError, match=r"add Namespace\.MOUNT"):
            Container(namespaces=Namespace(0), **arguments)

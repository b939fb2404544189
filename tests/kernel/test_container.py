"""What a program sees from inside is what the description said."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Bind, Container, Namespace, Proc, SpawnError, Tmpfs, clone_into, namespaces, run

pytestmark = pytest.mark.usefixtures("namespaces")

Box = Callable[..., Container]
Shell = Callable[..., str]

# what an ordinary user has with any other
LENT = {"USER"} if os.geteuid() != 0 else set()
KINDS = ("MOUNT", "UTS", "IPC", "PID", "NET", "CGROUP")


def inodes_inside(container: Container) -> dict[Namespace, int]:
    process = clone_into(container, ["sleep", "60"])
    try:
        return namespaces.of(process.pid)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_makes_the_one_namespace_that_was_asked_for_and_no_other(kind: str) -> None:
    inside = inodes_inside(Container(namespaces=Namespace[kind]))
    outside = namespaces.of()
    assert {k.name for k in outside if inside[k] != outside[k]} == {kind} | LENT


def test_default_namespaces_are_all_but_user_and_time() -> None:
    inside = inodes_inside(Container())
    outside = namespaces.of()
    assert {k.name for k in outside if inside[k] != outside[k]} == set(KINDS) | LENT


def test_no_namespaces_leave_everything_shared() -> None:
    assert inodes_inside(Container(namespaces=Namespace(0))) == namespaces.of()


def test_program_is_pid_1_and_sees_only_its_own_processes(shell: Shell) -> None:
    assert shell(Container(), "echo $$; cd /proc; echo [0-9]*") == "1\n1"


def test_child_of_the_program_is_pid_2(shell: Shell) -> None:
    assert shell(Container(), "sh -c 'echo $$' ; true") == "2"


def test_names_are_set_inside_only(shell: Shell) -> None:
    before = os.uname()
    box = Container(hostname="demo", domainname=b"example")
    script = "uname -n; cat /proc/sys/kernel/domainname"
    assert shell(box, script) == "demo\nexample"
    assert os.uname() == before


def test_loopback_works_inside_and_is_not_the_hosts(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = (
            "import socket, sys\n"
            "own = socket.create_server(('127.0.0.1', 0))\n"
            "socket.create_connection(own.getsockname(), 5).close()\n"
            f"print(socket.socket().connect_ex(('127.0.0.1', {port})))"
        )
        assert shell(Container(), 'python3 -c "$1"', script) == "111"  # ECONNREFUSED


def test_loopback_stays_down_when_asked(shell: Shell) -> None:
    script = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 1)))"
    assert shell(Container(loopback=False), 'python3 -c "$1"', script) == "101"  # ENETUNREACH


def test_new_root_hides_the_host(box: Box, shell: Shell, new_root: Path) -> None:
    (new_root / "hello").write_text("from the root")
    assert shell(box(), "cat /hello; test ! -e /etc/passwd") == "from the root"
    mounted = shell(box(), "cut -d' ' -f5 /proc/self/mountinfo").split()
    # the host may have mounts of its own below /usr
    assert {path for path in mounted if not path.startswith("/usr/")} == {"/", "/usr", "/proc"}


def test_old_root_cannot_be_reached(box: Box, shell: Shell) -> None:
    assert shell(box(), "cd /../../..; test ! -e etc; ls -d usr") == "usr"
    assert shell(box(), "ls -di / | cut -d' ' -f1") == shell(box(), "ls -di /.. | cut -d' ' -f1")


def test_mounts_are_not_seen_on_the_host(box: Box, shell: Shell) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert shell(box(Tmpfs("/tmp")), "ls /tmp") == ""
    assert Path("/proc/self/mountinfo").read_text() == before


def test_propagation_is_private_inside(shell: Shell) -> None:
    script = "grep -c -e shared: -e master: /proc/self/mountinfo || true"
    assert shell(Container(), script) == "0"


def test_without_a_fresh_proc_pids_there_are_the_callers(shell: Shell) -> None:
    box = Container(namespaces=Namespace.PID | Namespace.MOUNT, mounts=())
    own, listed = shell(box, "echo $$; exec readlink /proc/self").split()
    assert own == "1"
    assert int(listed) > 1


class TestBind:
    def test_is_writable_and_the_very_directory(
        self, box: Box, shell: Shell, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.mkdir()
        shell(box(Bind(source, "/data")), "echo written > /data/file")
        assert (source / "file").read_text() == "written\n"

    def test_read_only_refuses_writes(self, box: Box, shell: Shell, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        script = "touch /data/file 2>&1 || true"
        assert shell(box(Bind(source, "/data", read_only=True)), script).endswith(
            "Read-only file system"
        )
        assert list(source.iterdir()) == []

    def test_read_only_goes_for_the_mounts_below(self, tmp_path: Path) -> None:
        (tmp_path / "outer").mkdir()
        outer = Container(mounts=(Tmpfs(tmp_path / "outer/inner"), Proc()))
        # the mount below is made in an outer container, whose pyns binds both into an inner one
        script = (
            "import sys; from pyns import *\n"
            f"inner = Container(mounts=(Bind({str(tmp_path / 'outer')!r}, '/mnt', True), Proc()))\n"
            "sys.exit(run(inner, ['touch', '/mnt/inner/file']).returncode)"
        )
        completed = run(outer, [sys.executable, "-P", "-c", script], capture_output=True, text=True)
        assert completed.returncode == 1
        assert "Read-only file system" in completed.stderr

    @pytest.mark.usefixtures("privileged")
    def test_without_recursion_leaves_the_mounts_below(self, shell: Shell) -> None:
        box = Container(mounts=(Bind("/", "/mnt", recursive=False), Proc()))
        assert shell(box, "ls /mnt/proc") == ""

    @pytest.mark.usefixtures("ordinary")
    def test_without_recursion_shows_an_ordinary_user_nothing_that_was_hidden(self) -> None:
        with pytest.raises(SpawnError, match="recursive=True") as caught:
            run(Container(mounts=(Bind("/", "/mnt", recursive=False), Proc())), ["true"])
        assert (caught.value.step.kind, caught.value.errno) == ("open_tree", errno.EINVAL)

    def test_of_a_file(self, box: Box, shell: Shell, tmp_path: Path, new_root: Path) -> None:
        (tmp_path / "file").write_text("content")
        assert shell(box(Bind(tmp_path / "file", "/etc/file")), "cat /etc/file") == "content"
        assert (new_root / "etc/file").read_text() == ""  # the target that was made for it

    def test_takes_bytes_and_path_like(self, box: Box, shell: Shell, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        mount = Bind(os.fsencode(tmp_path / "x"), b"/data")
        assert shell(box(mount), "ls -d /data") == "/data"


class TestTmpfs:
    def test_has_its_size_and_mode(self, box: Box, shell: Shell) -> None:
        mount = Tmpfs("/scratch", size="1M", mode=0o700)
        assert shell(box(mount), "stat -fc %b*%S /scratch; stat -c %a /scratch") == "256*4096\n700"

    def test_is_gone_with_the_container(self, box: Box, shell: Shell, new_root: Path) -> None:
        shell(box(Tmpfs("/scratch")), "echo secret > /scratch/file")
        assert list((new_root / "scratch").iterdir()) == []

    def test_is_nosuid_and_nodev(self, box: Box, shell: Shell) -> None:
        script = "grep ' /scratch ' /proc/self/mountinfo"
        options = shell(box(Tmpfs("/scratch")), script).split()[5].split(",")
        assert {"rw", "nosuid", "nodev"} <= set(options)


class TestTarget:
    """A target that others control never leads outside."""

    @pytest.mark.parametrize("link", ["/", "../../../..", "/elsewhere/../..", "elsewhere/../../.."])
    def test_symlink_is_resolved_beneath_the_root(
        self, box: Box, shell: Shell, new_root: Path, link: str
    ) -> None:
        (new_root / "elsewhere").mkdir()
        (new_root / "link").symlink_to(link)
        before = sorted(os.listdir("/"))
        assert shell(box(Tmpfs("/link/pyns-made-this")), "ls -d /pyns*") == "/pyns-made-this"
        assert sorted(os.listdir("/")) == before
        assert (new_root / "pyns-made-this").is_dir()

    def test_missing_ones_are_made_whatever_the_umask(
        self, box: Box, shell: Shell, new_root: Path
    ) -> None:
        old = os.umask(0o077)
        try:
            shell(box(Tmpfs("/a/b/c")), "true")
        finally:
            os.umask(old)
        assert [oct((new_root / p).stat().st_mode & 0o7777) for p in ("a", "a/b", "a/b/c")] == [
            "0o755"
        ] * 3

    def test_later_mounts_lie_on_earlier_ones(self, box: Box, shell: Shell, new_root: Path) -> None:
        assert shell(box(Tmpfs("/a"), Tmpfs("/a/b")), "ls /a") == "b"
        assert list((new_root / "a").iterdir()) == []


class TestCwd:
    def test_is_a_path_inside(self, box: Box, shell: Shell, new_root: Path) -> None:
        (new_root / "work").mkdir()
        assert shell(box(), "pwd", cwd="/work") == "/work"

    def test_through_a_descriptor_of_the_callers_is_refused(self, box: Box) -> None:
        host = os.open("/etc", os.O_RDONLY)
        try:
            with pytest.raises(OSError, match="proc/self/fd"):
                run(box(), ["true"], cwd=f"/proc/self/fd/{host}", pass_fds=[host])
        finally:
            os.close(host)

    def test_default_with_a_root_is_the_root(self, box: Box, shell: Shell) -> None:
        assert shell(box(), "pwd") == "/"

    def test_default_without_a_root_is_the_callers(self, shell: Shell) -> None:
        assert shell(Container(), "pwd -P") == os.getcwd()


class TestPath:
    def test_is_searched_inside(self, box: Box, new_root: Path) -> None:
        (new_root / "own").mkdir()
        program = new_root / "own" / "program"
        program.write_text("#!/usr/bin/sh\necho inside\n")
        program.chmod(0o755)
        with pytest.raises(FileNotFoundError):
            run(Container(namespaces=Namespace(0)), ["program"], env={"PATH": "/own:/usr/bin"})
        completed = run(
            box(), ["program"], env={"PATH": "/nowhere:/own:/usr/bin"}, capture_output=True
        )
        assert completed.stdout == b"inside\n"

    def test_of_the_host_means_nothing_inside(self, box: Box, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        with pytest.raises(FileNotFoundError) as caught:
            run(box(), [program])
        assert caught.value.filename == program


def test_root_may_be_the_hosts_own(shell: Shell) -> None:
    assert shell(Container(root="/"), "test -d /etc; echo $$") == "1"


def test_no_descriptor_of_the_callers_is_open_inside(shell: Shell) -> None:
    extra = os.open("/", os.O_RDONLY)
    os.set_inheritable(extra, True)
    try:
        # 3 is the listing's own
        assert shell(Container(), "ls /proc/self/fd").split() == ["0", "1", "2", "3"]
    finally:
        os.close(extra)

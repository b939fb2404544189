"""The real refusals, and what is said of them."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Bind,
    Container,
    Dir,
    IdMap,
    Namespace,
    Overlay,
    Proc,
    SpawnError,
    Tmpfs,
    clone_into,
    kernel,
    run,
    seccomp,
)
from pyns.cgroups import Cgroup, current, hierarchies
from pyns.cgroups.files import Directory

Box = Callable[..., Container]
PLAIN = Container(namespaces=Namespace(0))
OWN = {"uid_map": IdMap.current("uid", 0), "gid_map": IdMap.current("gid", 0)}
ALL = Namespace.USER | Namespace.MOUNT | Namespace.PID


def said_of(container: Container, program: str | Path, *arguments: str, **options: Any) -> str:
    """Return what is said of a program that can't be executed, beside the step."""
    with pytest.raises(OSError, match="Errno") as caught:
        clone_into(container, [str(program), *arguments], **options)
    step, *hints = caught.value.__notes__
    assert step.startswith("step ")
    return " ".join(hints)


def hint_of(container: Container, **options: Any) -> str:
    with pytest.raises(SpawnError) as caught:
        clone_into(container, ["true"], **options)
    return str(caught.value.hint)


@pytest.fixture
def inside() -> Callable[..., str]:
    """Run Python in a container, as root of a user namespace; return what it prints.

    `refused` of a container is the hint of the SpawnError that it gives.
    """
    prelude = """
    import ctypes, os, sys
    from pyns import *
    def refused(container):
        try:
            clone_into(container, ["true"]).wait()
        except SpawnError as error:
            print(error.hint)
        else:
            print("it runs")
    """

    def execute(code: str, *arguments: object, **fields: Any) -> str:
        box = Container(**{"namespaces": Namespace.USER | Namespace.MOUNT, **OWN, **fields})
        text = textwrap.dedent(prelude) + textwrap.dedent(code)
        command = [sys.executable, "-P", "-c", text, *map(str, arguments)]
        done = run(box, command, capture_output=True, text=True, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        return str(done.stdout).strip()

    return execute


class TestProgram:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Callable[..., Path]:
        def write(content: bytes, mode: int = 0o755) -> Path:
            path = tmp_path / "program"
            path.write_bytes(content)
            path.chmod(mode)
            return path

        return write

    @pytest.fixture
    def true(self) -> bytes:
        return Path(shutil.which("true") or "/bin/true").read_bytes()

    @pytest.mark.parametrize(
        ("content", "mode", "said"),
        [
            (
                b"#!/no/such/thing\n",
                0o755,
                "not the interpreter that it asks for, '/no/such/thing'",
            ),
            (b"#!/bin/sh\r\n", 0o755, "its lines end with CR LF"),
            (b"echo hello\n", 0o755, "is neither an ELF program nor begins with #!"),
            (b"", 0o755, "is empty"),
            (b"#!/bin/sh\n", 0o644, "is not executable, its mode is 644: chmod +x"),
        ],
        ids=["interpreter", "CR LF", "text", "empty", "mode"],
    )
    def test_is_no_program(
        self, script: Callable[..., Path], content: bytes, mode: int, said: str
    ) -> None:
        assert said in said_of(PLAIN, script(content, mode))

    def test_is_a_directory(self, tmp_path: Path) -> None:
        assert said_of(PLAIN, tmp_path) == f"'{tmp_path}' is a directory"

    def test_is_for_another_machine(self, script: Callable[..., Path], true: bytes) -> None:
        own = os.uname().machine
        number, other = (183, "aarch64") if own == "x86_64" else (62, "x86_64")
        path = script(true[:18] + struct.pack("<H", number) + true[20:])
        try:
            said = said_of(PLAIN, path)
        except pytest.fail.Exception:
            pytest.skip(f"execve of a program for {other}: it runs (binfmt_misc)")
        assert said == f"'{path}' is a program for {other}, this machine is {own}"

    @pytest.mark.parametrize(
        ("size", "at", "value", "said"),
        [
            (40, 0, b"", "is cut off: it has 40 bytes, and its ELF header alone would have 64"),
            (100, 0, b"", "is cut off: it has 100 bytes, and its program headers end at "),
            (-1, 16, b"\1\0", "is an object file, to be linked first, and no program"),
            (-1, 56, b"\0\0", "is broken: it has no program headers (elf(5))"),
        ],
        ids=["header", "program headers", "object", "no program headers"],
    )
    def test_is_no_whole_program(
        self,
        script: Callable[..., Path],
        true: bytes,
        size: int,
        at: int,
        value: bytes,
        said: str,
    ) -> None:
        path = script((true[:at] + value + true[at + len(value) :])[:size])
        assert said_of(PLAIN, path).startswith(f"'{path}' {said}")

    def test_has_no_loader(self, script: Callable[..., Path], true: bytes) -> None:
        at = true.index(b"/ld-")
        path = script(true[:at] + b"/xx-" + true[at + 4 :])
        assert "but not the loader that it asks for, '/lib" in said_of(PLAIN, path)

    @pytest.mark.usefixtures("namespaces")
    def test_has_no_loader_inside(self, new_root: Path) -> None:
        shutil.copy(shutil.which("true") or "/bin/true", new_root / "program")
        box = Container(root=new_root, mounts=())
        said = said_of(box, "/program", cwd="/")
        assert said.startswith("'/program' is there, but not the loader that it asks for, '/lib")

    @pytest.mark.usefixtures("namespaces")
    def test_lies_on_a_mount_without_execution(self, box: Box) -> None:
        said = said_of(box(Bind("/usr/bin", "/mnt", noexec=True)), "/mnt/env")
        assert said == ("'/mnt/env' lies on a mount from which nothing may be executed (noexec)")

    @pytest.mark.usefixtures("namespaces")
    def test_that_the_host_has_is_not_taken_for_one_that_is_inside(
        self, box: Box, new_root: Path
    ) -> None:
        (new_root / "over").mkdir()
        (new_root / "over/program").write_bytes(b"")
        (new_root / "over/program").chmod(0o755)
        assert said_of(box(), "/over/program") == "'/over/program' is empty"
        lower = new_root.parent / "lower"
        lower.mkdir()
        (lower / "program").write_bytes(b"text")
        (lower / "program").chmod(0o755)
        over = Overlay("/over", lower=[lower], userxattr=True)
        assert said_of(box(over), "/over/program") == ""

    def test_is_being_written(self, script: Callable[..., Path], true: bytes) -> None:
        path = script(true)
        with path.open("r+b"):
            said = said_of(PLAIN, path)
        assert said == f"'{path}' is open for writing by process {os.getpid()}"

    def test_has_too_many_arguments(self) -> None:
        true = shutil.which("true") or "/bin/true"
        assert "131072 bytes" in said_of(PLAIN, true, "x" * 131072)
        assert "RLIMIT_STACK" in said_of(PLAIN, true, *["x" * 1000] * 9000)
        small = Container(namespaces=Namespace(0), rlimits={"stack": (1 << 20, "unlimited")})
        if os.geteuid() == 0:  # others have a hard limit
            assert "262144 is the most" in said_of(small, true, *["x" * 1000] * 300)


@pytest.mark.usefixtures("namespaces")
class TestNamespaces:
    @pytest.mark.parametrize("kind", [Namespace.USER, Namespace.NET, Namespace.MOUNT])
    def test_are_forbidden_by_a_limit(self, inside: Callable[..., str], kind: Namespace) -> None:
        name = f"max_{kind.words().replace('mount', 'mnt')}_namespaces"
        code = """
            open(f"/proc/sys/user/{sys.argv[1]}", "w").write("0")
            refused(Container(namespaces=Namespace.parse(sys.argv[2])))
        """
        assert inside(code, name, kind.words()) == (
            f"user.{name} is 0, which forbids them. As root: sysctl -w user.{name}=10000"
        )

    @pytest.mark.usefixtures("limits")
    def test_of_cgroups_are_forbidden_by_a_limit(self, inside: Callable[..., str]) -> None:
        code = """
            open("/proc/sys/user/max_cgroup_namespaces", "w").write("0")
            kinds = Namespace.CGROUP | Namespace.PID
            refused(Container(namespaces=kinds, limits=Limits(pids_max=10), init=True, mounts=[]))
        """
        assert inside(code).startswith("user.max_cgroup_namespaces is 0, which forbids them")

    def test_are_too_many(self, inside: Callable[..., str]) -> None:
        code = """
            open("/proc/sys/user/max_uts_namespaces", "w").write("1")
            box = Container(namespaces=Namespace.UTS)
            with clone_into(box, ["sleep", "1000"]) as process:
                refused(box)
                process.kill()
        """
        said = inside(code)
        assert said.startswith("A limit on namespaces is reached: user.max_uts_namespaces is 1;")

    def test_are_not_for_those_without_ids(self, inside: Callable[..., str]) -> None:
        said = inside("refused(Container(namespaces=Namespace.USER))", uid_map=(), gid_map=())
        assert said.startswith("The caller's uid is none of its own user namespace's")

    def test_are_not_made_in_a_chroot(self, inside: Callable[..., str]) -> None:
        code = """
            os.chroot("/mnt/a")
            refused(Container(namespaces=Namespace.USER))
        """
        mounts = [Proc(), Tmpfs("/mnt"), Dir("/mnt/a"), Bind("/proc", "/mnt/a/proc")]
        said = inside(code, mounts=mounts, namespaces=ALL)
        assert said == "The caller runs in a chroot, where nobody may make user namespaces"

    def test_are_not_made_in_a_chroot_that_is_a_mount(self, inside: Callable[..., str]) -> None:
        code = """
            os.chroot("/mnt")
            refused(Container(namespaces=Namespace.USER))
            other_ids = Bind("/", "/mnt", idmap=[IdMap(1, 0)])
            refused(Container(namespaces=Namespace.MOUNT, mounts=[other_ids]))
        """
        for said in inside(code, mounts=[Bind("/", "/mnt")]).splitlines():
            assert said.startswith("The caller runs in a chroot that is a mount, where nobody may")

    def test_have_no_mounts_of_their_own_in_a_chroot(self, inside: Callable[..., str]) -> None:
        code = """
            os.chroot("/mnt/a")
            refused(Container(namespaces=Namespace.MOUNT))
        """
        mounts = [Proc(), Tmpfs("/mnt"), Dir("/mnt/a"), Bind("/proc", "/mnt/a/proc")]
        said = inside(code, mounts=mounts, namespaces=ALL)
        assert said.startswith("The caller's / is no mount, as in a chroot: mount --bind")

    def test_take_a_capability(self, inside: Callable[..., str]) -> None:
        said = inside("refused(Container(namespaces=Namespace.UTS))", capabilities=())
        assert "New namespaces need CAP_SYS_ADMIN" in said

    @pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
    def test_are_forbidden_by_a_filter(self, inside: Callable[..., str], error: int) -> None:
        rules = seccomp.deny(["clone3"], error=error)
        said = inside("refused(Container(namespaces=Namespace.UTS))", seccomp=rules)
        assert said.startswith("A seccomp filter forbids clone3 to the caller")

    @pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
    @pytest.mark.parametrize(
        ("call", "fields"),
        [
            ("unshare", "namespaces=Namespace.TIME"),
            ("setns", "namespaces=Namespace(0), join={Namespace.UTS: os.getpid()}"),
            ("mount", "namespaces=Namespace.MOUNT"),
            ("open_tree", "namespaces=Namespace.MOUNT, mounts=[Bind('/usr', '/mnt')]"),
            ("mount_setattr", "namespaces=Namespace.MOUNT, read_only=True"),
            ("openat2", "namespaces=Namespace.MOUNT, mounts=[Tmpfs('/mnt')]"),
            ("fsconfig", "namespaces=Namespace.MOUNT, mounts=[Tmpfs('/mnt')]"),
            ("umount2", "namespaces=Namespace.MOUNT, root='/usr', mounts=[]"),
            ("prlimit64", "namespaces=Namespace(0), rlimits={'core': 0}"),
        ],
    )
    def test_a_call_that_a_filter_forbids_is_named(
        self, inside: Callable[..., str], call: str, fields: str, error: int
    ) -> None:
        if "TIME" in fields and not kernel.is_at_least((6, 2), os.uname().release):
            pytest.skip(f"execve enters a time namespace since 6.2, not {os.uname().release}")
        rules = seccomp.deny([call], error=error)
        said = inside(f"refused(Container({fields}))", seccomp=rules)
        assert said.startswith(f"A seccomp filter forbids {call} to the caller")

    def test_a_filter_is_not_to_blame_for_what_the_kernel_refuses(
        self, inside: Callable[..., str]
    ) -> None:
        rules = seccomp.deny(["mount"], error=errno.EPERM)
        said = inside(
            "refused(Container(namespaces=Namespace.UTS))",
            seccomp=rules,
            capabilities=(),
            no_new_privileges=True,
        )
        assert "New namespaces need CAP_SYS_ADMIN" in said

    def test_with_a_new_proc_take_one_that_is_whole(self, inside: Callable[..., str]) -> None:
        code = "refused(Container(namespaces=Namespace.PID | Namespace.MOUNT | Namespace.USER))"
        said = inside(code, namespaces=ALL, masked_paths=["/proc/meminfo"], mounts=[Proc()])
        assert said.startswith("Mounts lie over the caller's /proc (/proc/meminfo), ")

    def test_with_a_new_proc_take_a_pid_namespace(self, inside: Callable[..., str]) -> None:
        code = "refused(Container(namespaces=Namespace.MOUNT | Namespace.USER, mounts=[Proc()]))"
        said = inside(code, namespaces=ALL, masked_paths=["/proc/meminfo"], mounts=[Proc()])
        assert said.startswith("A new /proc shows the PID namespace")


class TestIds:
    @pytest.mark.usefixtures("namespaces")
    def test_are_those_of_the_user_namespace(self, inside: Callable[..., str]) -> None:
        code = """
        two = [IdMap(0, 0, 2)]
        refused(Container(namespaces=Namespace.USER, uid_map=two, gid_map=two))
        """
        assert inside(code).startswith("The uids 0 to 1 are not in one range of the caller's own ")

    @pytest.mark.usefixtures("namespaces", "ordinary")
    def test_take_a_range(self) -> None:
        try:
            IdMap.subordinate("uid")
        except ValueError as error:
            missing = str(error)
        else:
            pytest.skip(f"uid {os.geteuid()} has a range")
        maps = (IdMap(0, 100000, 10),)
        box = Container(namespaces=Namespace.USER, uid_map=maps, gid_map=maps)
        if shutil.which("newuidmap") is None:
            pytest.skip("there is no newuidmap in PATH")
        assert hint_of(box) == missing


class TestPlaces:
    @pytest.mark.usefixtures("namespaces", "ordinary")
    def test_that_may_not_be_searched_are_named(self) -> None:
        if os.access("/root", os.X_OK):
            pytest.skip("access('/root', X_OK): it may be searched")
        for box in Container(root="/root/x"), Container(mounts=[Bind("/root/x", "/mnt")]):
            assert hint_of(box).startswith("/root is not to be searched by uid ")

    @pytest.mark.usefixtures("namespaces")
    def test_that_can_t_be_made_on_a_full_filesystem_are_told(self) -> None:
        root = Tmpfs("/", size="1M", inodes=1)
        assert "filesystem that it would be made on is full" in hint_of(
            Container(root=root, mounts=[Proc()])
        )
        assert "is full: of a Tmpfs, size or inodes" in hint_of(
            Container(root=root, mounts=[Dir("/a")])
        )


@pytest.mark.usefixtures("root_only")
class TestCgroups:
    def test_with_an_empty_cpuset_take_nobody(self) -> None:
        found = [h for h in hierarchies() if h.version == 1 and "cpuset" in h.controllers]
        if not found:
            pytest.skip("no v1 hierarchy with cpuset in /proc/self/mountinfo")
        path = Path(found[0].mount_point, f"pyns-hints-{os.getpid()}")
        path.mkdir()
        try:
            with Directory(str(path)) as directory:
                group = Cgroup({found[0]: directory})
                box = Container(namespaces=Namespace(0), cgroup=group)
                assert hint_of(box).startswith(f"{path}/cpuset.cpus is empty")
        finally:
            path.rmdir()

    def test_below_what_is_not_the_caller_s_are_not_to_be_born_in(self) -> None:
        # the caller's own group, which another user finds his below
        found = [h.directory(own) for h, own in current().items() if h.version == 2]
        if not found or found[0] is None:
            pytest.skip("no cgroup2 in /proc/self/mountinfo")
        path = Path(found[0], f"pyns-hints-{os.getpid()}")
        path.mkdir()
        code = f"""
            import os
            from pyns import Container, Namespace, SpawnError, clone_into
            from pyns.cgroups import Cgroup
            os.setresgid(*[65534] * 3), os.setresuid(*[65534] * 3)
            group = Cgroup.open({path.name!r})
            try:
                clone_into(Container(namespaces=Namespace(0), cgroup=group), "x")
            except SpawnError as error:
                print(error.hint)
        """
        try:
            for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
                os.chown(path / name, 65534, 65534)
            done = subprocess.run(
                [sys.executable, "-P", "-c", textwrap.dedent(code)],
                capture_output=True,
                text=True,
                timeout=20,
            )
            assert done.stderr == ""
            assert "cgroup.procs belongs to uid 0, the caller is uid 65534" in done.stdout
        finally:
            path.rmdir()

"""The preset for code that nobody trusts, and what it is made of."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Bind,
    Container,
    Dir,
    File,
    IdMap,
    Limits,
    Namespace,
    Overlay,
    Proc,
    SpawnError,
    Symlink,
    Tmpfs,
    clone_into,
    run,
)
from pyns.sandbox import possible_limits

pytestmark = pytest.mark.usefixtures("namespaces")

Shell = Callable[..., str]
Sandbox = Callable[..., Container]


class TestRoot:
    """A root that is a new filesystem."""

    PROGRAMS = (
        Bind("/usr", read_only=True),
        *(
            Symlink(f"/{name}", os.readlink(f"/{name}"))
            for name in ("bin", "lib", "lib64", "sbin")
            if os.path.islink(f"/{name}")
        ),
    )

    def test_is_empty_but_for_what_is_mounted(self, shell: Shell) -> None:
        box = Container(root=Tmpfs("/", mode=0o755), mounts=[*self.PROGRAMS, Proc(), Dir("/a/b")])
        names = {mount.place.decode()[1:] for mount in self.PROGRAMS}
        assert set(shell(box, "ls /").split()) == names | {"proc", "a"}
        assert shell(box, "ls /a; stat -c %a:%F /; pwd") == "b\n755:directory\n/"

    def test_can_be_read_only(self, shell: Shell) -> None:
        box = Container(root=Tmpfs("/"), mounts=[*self.PROGRAMS, Tmpfs("/tmp")], read_only=True)
        said = shell(box, "touch /tmp/x; touch /x 2>&1 || echo no")
        assert said.endswith(f"{os.strerror(errno.EROFS)}\nno")

    def test_leaves_nothing_of_the_callers_mounts(self, shell: Shell) -> None:
        box = Container(root=Tmpfs("/"), mounts=[*self.PROGRAMS, Proc()])
        places = [line.split()[4] for line in shell(box, "cat /proc/self/mountinfo").splitlines()]
        below = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
        usr = {place for place in below if place.startswith("/usr/")}
        assert sorted(places) == sorted({"/", "/usr", "/proc"} | usr)

    def test_is_a_limited_overlay_of_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "image").mkdir(mode=0o755)
        (tmp_path / "image/file").write_text("kept")
        box = Container(
            root=Overlay("/", [tmp_path / "image"], size="1M", userxattr=os.geteuid() != 0),
            mounts=[*self.PROGRAMS, File("/etc/x", "x")],
        )
        script = "cat /file /etc/x; echo new > /file; cat /file; head -c 2M /dev/zero > /big"
        done = run(box, ["sh", "-c", script], capture_output=True)
        assert done.stdout == b"keptxnew\n"
        assert done.returncode != 0
        assert (tmp_path / "image/file").read_text() == "kept"
        assert os.listdir(tmp_path / "image") == ["file"]

    def test_takes_sources_whose_links_go_through_the_root(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(f"{'../' * 20}usr")
        box = Container(root=Tmpfs("/"), mounts=[*self.PROGRAMS, Bind(tmp_path / "link", "/again")])
        assert shell(box, "ls /again") == shell(box, "ls /usr")


class TestEnvironment:
    def test_is_the_containers_where_none_is_given(self, shell: Shell) -> None:
        box = Container(namespaces=Namespace(0), env={"PATH": os.environ["PATH"], "A": "b"})
        assert "A=b" in shell(box, "env").split()
        assert "HOME" not in shell(box, "env")
        assert "A=" not in shell(box, "env", env={"PATH": os.environ["PATH"]})

    def test_says_where_programs_are(self) -> None:
        box = Container(namespaces=Namespace(0), env={"PATH": "/nonexistent"})
        with pytest.raises(FileNotFoundError):
            run(box, ["true"])


class TestUserNamespacesInside:
    BOX = Container(
        namespaces=Namespace.USER, capabilities=(), no_new_privileges=True, max_user_namespaces=0
    )

    def test_are_forbidden(self) -> None:
        said = run(self.BOX, ["unshare", "-U", "true"], capture_output=True, text=True)
        assert said.returncode != 0
        assert os.strerror(errno.ENOSPC) in said.stderr

    def test_can_be_limited_to_some(self) -> None:
        box = dataclasses.replace(self.BOX, max_user_namespaces=1)
        script = "unshare -U sh -c 'unshare -U true && echo two || echo one'"
        assert run(box, ["sh", "-c", script], capture_output=True, text=True).stdout == "one\n"

    def test_limit_is_not_the_hosts(self) -> None:
        before = Path("/proc/sys/user/max_user_namespaces").read_text()
        run(self.BOX, ["true"], check=True)
        assert Path("/proc/sys/user/max_user_namespaces").read_text() == before

    def test_limit_can_not_be_raised(self) -> None:
        script = "echo 5 > /proc/sys/user/max_user_namespaces"
        assert run(self.BOX, ["sh", "-c", script], capture_output=True).returncode != 0


class TestSandbox:
    def test_runs_the_hosts_programs(self, sandbox: Sandbox, shell: Shell) -> None:
        said = shell(sandbox(), "id -un; id -u; id -G; pwd; hostname").split()
        assert said == ["user", "1000", "1000", "/", "sandbox"]

    def test_is_not_root_outside(self, sandbox: Sandbox, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        run(sandbox(mounts=[Bind(tmp_path, "/out")]), ["touch", "/out/file"], check=True)
        assert (tmp_path / "file").stat().st_uid == (os.geteuid() or 65534)

    def test_reads_what_only_the_caller_may_look_up(
        self, sandbox: Sandbox, shell: Shell, tmp_path: Path
    ) -> None:
        (tmp_path / "job").mkdir(mode=0o755)
        (tmp_path / "job/input").write_text("42")
        (tmp_path / "job/input").chmod(0o644)
        tmp_path.chmod(0o700)
        box = sandbox(mounts=[Bind(tmp_path / "job", "/job", read_only=True)])
        assert shell(box, "cat /job/input") == "42"

    @pytest.mark.usefixtures("privileged")
    @pytest.mark.parametrize("overlay", [False, True])
    def test_opens_no_device_of_an_image(
        self, sandbox: Sandbox, new_root: Path, overlay: bool
    ) -> None:
        os.mknod(new_root / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        (new_root / "zero").chmod(0o666)
        root: Any = Overlay("/", [new_root], size="1M") if overlay else new_root
        command, usr = ["head", "-c1", "/zero"], Bind("/usr", read_only=True)
        with_devices = sandbox(root, mounts=[usr], nodev=False)
        assert run(with_devices, command, capture_output=True).stdout == b"\0"
        done = run(sandbox(root, mounts=[usr]), command, capture_output=True, text=True)
        assert (done.stdout, done.returncode) == ("", 1)
        assert os.strerror(errno.EACCES) in done.stderr

    def test_takes_an_image(self, sandbox: Sandbox, new_root: Path, shell: Shell) -> None:
        box = sandbox(new_root, mounts=[Bind("/usr", read_only=True)])
        assert shell(box, "touch /tmp/x; touch /x 2>/dev/null || echo no") == "no"

    def test_has_nothing_of_the_callers_environment(
        self, sandbox: Sandbox, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET", "x")
        assert "SECRET" not in shell(sandbox(), "env")

    def test_fields_replace_those_of_the_preset(self, sandbox: Sandbox) -> None:
        box = sandbox(hostname="other", init=False)
        assert (box.hostname, box.init, box.capabilities) == ("other", False, ())

    def test_limits_are_set_where_the_caller_may_have_a_cgroup(self) -> None:
        box = Container.sandbox()
        assert box.limits == possible_limits(None)
        if box.limits is not None:
            usage = run(box, ["true"], check=True).usage
            assert usage is not None
            assert usage.memory_peak

    def test_limits_that_are_given_are_never_left_out(self) -> None:
        assert Container.sandbox(limits=Limits(pids_max=9)).limits == Limits(pids_max=9)

    def test_never_maps_the_hosts_root(self) -> None:
        with pytest.raises(ValueError, match="would be the host's root"):
            Container.sandbox(host_id=0)

    @pytest.mark.parametrize("host_id", [-1, 2**32 - 1])
    def test_id_that_is_none_is_refused(self, host_id: int) -> None:
        with pytest.raises(ValueError, match="out of range"):
            Container.sandbox(host_id=host_id)

    def test_id_that_root_of_a_user_namespace_has_not_is_refused_with_what_to_give(self) -> None:
        code = (
            "from pyns import Container, IdMap, run\n"
            "try: Container.sandbox(limits=None)\n"
            "except ValueError as error: print(error)\n"
            "own = (IdMap(1000, 0),)\n"
            "box = Container.sandbox(limits=None, uid_map=own, gid_map=own)\n"
            "print(run(box, ['id', '-u'], capture_output=True, text=True).stdout)\n"
        )
        uids, gids = IdMap.current("uid", 0), IdMap.current("gid", 0)
        outer = Container(namespaces=Namespace.USER, uid_map=uids, gid_map=gids)
        done = run(outer, [sys.executable, "-P", "-c", code], capture_output=True, text=True)
        assert done.stderr == ""
        said = "host_id=65534 is no uid of the caller's user namespace: give one of "
        assert done.stdout.startswith(said)
        assert done.stdout.split()[-1] == "1000"

    def test_all_that_can_be_written_is_limited(self, sandbox: Sandbox, shell: Shell) -> None:
        for line in shell(sandbox(), "cat /proc/self/mountinfo").splitlines():
            fields, _, source = line.partition(" - ")
            options, fstype = fields.split()[5].split(","), source.split()[0]
            if fstype == "tmpfs" and "rw" in options:
                assert "size=" in source, line
                assert "nr_inodes=" in source, line
            assert fstype in ("proc", "devpts", "tmpfs") or "ro" in options, line

    def test_failing_start_names_the_step(self, sandbox: Sandbox) -> None:
        with pytest.raises(SpawnError) as caught:
            run(sandbox(mounts=[Bind("/nonexistent")]), ["true"])
        assert caught.value.step.kind == "open_tree"


class TestEntering:
    """Who enters a sandbox is as confined as who is in it."""

    LOOK = "grep -E '^(Uid|Gid|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ulimit -a; env; pwd"

    def test_by_its_process_brings_no_more_than_is_there(self, sandbox: Sandbox) -> None:
        box = sandbox()
        args = ["sh", "-c", self.LOOK]
        confined = run(box, args, cwd="/tmp", capture_output=True, text=True, check=True).stdout
        assert "NoNewPrivs:\t1" in confined
        with clone_into(box, ["sleep", "60"]) as inside:
            try:
                entered = run(
                    inside, args, cwd="/tmp", capture_output=True, text=True, check=True
                ).stdout
                with clone_into(inside, ["sleep", "60"]) as second:
                    again = run(second, args, cwd="/tmp", capture_output=True, text=True).stdout
                    second.kill()
            finally:
                inside.kill()
        assert entered == confined
        assert again == confined

    def test_by_its_pid_is_as_the_caller_says(self, sandbox: Sandbox) -> None:
        with clone_into(sandbox(), ["sleep", "60"]) as inside:
            try:
                said = run(
                    inside.pid,
                    ["grep", "NoNewPrivs", "/proc/self/status"],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            finally:
                inside.kill()
        assert said == "NoNewPrivs:\t0\n"

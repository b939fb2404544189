"""A program is restricted as the description said, seen from inside; and no more than that."""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, Namespace, SpawnError, run

Shell = Callable[..., str]
# as every user may have it
SAME = Namespace(0)
STATUS = "exec cat /proc/self/status"


def fields(status: str) -> dict[str, str]:
    return {name: text.strip() for name, _, text in (x.partition(":") for x in status.splitlines())}


def box(**given: Any) -> Container:
    return Container(namespaces=SAME, **given)


class TestRlimits:
    def test_are_exactly_those_that_were_asked_for(self, shell: Shell) -> None:
        script = "exec cat /proc/self/limits"
        plain = shell(box(), script).splitlines()
        limited = shell(box(rlimits={"nofile": (33, 44), "core": 0}), script).splitlines()
        changed = [line[:40].split() for line in limited if line not in plain]
        assert [line[1:4] for line in changed if line[1] == "open"] == [["open", "files", "33"]]
        assert {line[1] for line in changed} <= {"open", "core"}
        assert "Max core file size        0                    0   " in "\n".join(limited)

    def test_hold(self, shell: Shell) -> None:
        script = "exec 3</dev/null 4</dev/null; (exec 5</dev/null) 2>&1 || true"
        assert "Too many open files" in shell(box(rlimits={"nofile": 5}), script)

    def test_of_the_caller_stay(self, shell: Shell) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        shell(box(rlimits={"nofile": 10}), ":")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before

    @pytest.mark.usefixtures("namespaces")
    def test_may_be_lower_than_the_files_that_mounts_need(self, shell: Shell) -> None:
        assert shell(Container(rlimits={"nofile": 4}), "echo $$") == "1"

    def test_above_the_hard_limit_are_refused_with_what_is_missing(self) -> None:
        with pytest.raises(SpawnError, match="EPERM") as caught:
            run(box(rlimits={"nofile": "unlimited"}), ["true"])
        assert "CAP_SYS_RESOURCE on the host" in str(caught.value)
        assert "set the resource limit nofile to unlimited" in str(caught.value)


class TestCapabilities:
    SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

    def inside(self, shell: Shell, container: Container, **options: Any) -> dict[str, int]:
        status = fields(shell(container, STATUS, **options))
        return {name: int(status[name], 16) for name in self.SETS}

    @pytest.mark.usefixtures("root_only")
    @pytest.mark.parametrize(
        "options", [{}, {"user": 65534, "extra_groups": []}], ids=["0", "65534"]
    )
    @pytest.mark.parametrize(
        ("names", "mask"), [((), 0), (["net_raw", "CAP_CHOWN"], 1 | 1 << 13)], ids=["none", "two"]
    )
    def test_kept_ones_are_in_all_five_sets_and_no_others(
        self, shell: Shell, options: dict[str, Any], names: Any, mask: int
    ) -> None:
        container = box(capabilities=names)
        assert self.inside(shell, container, **options) == dict.fromkeys(self.SETS, mask)

    @pytest.mark.usefixtures("root_only", "namespaces")
    def test_none_are_left_in_a_container_of_every_namespace(self, shell: Shell) -> None:
        container = Container(hostname="x", capabilities=(), rlimits={"core": 0})
        assert self.inside(shell, container) == dict.fromkeys(self.SETS, 0)
        script = "mount -t tmpfs none /mnt 2>/dev/null || echo refused"
        assert shell(container, script) == "refused"

    @pytest.mark.usefixtures("root_only")
    def test_kept_one_works_for_another_user(self, shell: Shell, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        tmp_path.joinpath("file").touch()
        script = "chown 5 file 2>/dev/null || echo refused"
        options = {"user": 65534, "cwd": tmp_path}
        assert shell(box(capabilities=()), script, **options) == "refused"
        assert shell(box(capabilities=["chown"]), script, **options) == ""

    @pytest.mark.usefixtures("root_only")
    def test_of_the_caller_stay(self, shell: Shell) -> None:
        before = fields(Path("/proc/thread-self/status").read_text())
        self.inside(shell, box(capabilities=()), user=65534)
        after = fields(Path("/proc/thread-self/status").read_text())
        assert [after[name] for name in self.SETS] == [before[name] for name in self.SETS]

    @pytest.mark.usefixtures("ordinary")
    def test_ordinary_user_is_told_what_is_missing(self) -> None:
        with pytest.raises(SpawnError, match=r"EPERM.*It takes CAP_SETPCAP, as root or in a user"):
            run(box(capabilities=()), ["true"])

    @pytest.mark.usefixtures("root_only")
    def test_one_that_the_caller_lacks_can_not_be_kept(self) -> None:
        outer = (
            "from pyns import *\n"
            "try: run(Container(namespaces=Namespace(0), capabilities=['net_raw']), ['true'])\n"
            "except SpawnError as error: print(error)"
        )
        command = [sys.executable, "-P", "-c", outer]
        done = run(box(capabilities=["setpcap"]), command, capture_output=True, text=True)
        assert "have the capabilities cap_net_raw: Operation not permitted" in done.stdout
        assert "the caller lacks one of them" in done.stdout


class TestNoNewPrivileges:
    def test_is_set_when_asked_for(self, shell: Shell) -> None:
        assert fields(shell(box(no_new_privileges=True), STATUS))["NoNewPrivs"] == "1"

    def test_is_otherwise_as_the_caller_has_it(self, shell: Shell) -> None:
        with open("/proc/thread-self/status") as own:
            assert fields(shell(box(), STATUS))["NoNewPrivs"] == fields(own.read())["NoNewPrivs"]


class TestDieWithParent:
    CODE = """
import sys
from pyns import Container, Namespace, clone_into
child = clone_into(Container(namespaces=Namespace.parse(sys.argv[1]) if sys.argv[1] else
                             Namespace(0), die_with_parent=True), ["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
"""

    def end_of_the_child(self, words: str, options: str = "") -> None:
        code = self.CODE.replace('"60"]', f'"60"]{options}')
        command = [sys.executable, "-P", "-c", code, words]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pidfd = os.pidfd_open(int(parent.stdout.readline()))
            try:
                assert select.select([pidfd], [], [], 0.2)[0] == []
                parent.kill()
                assert select.select([pidfd], [], [], 20)[0] == [pidfd]
            finally:
                os.close(pidfd)

    def test_holds_against_sigkill(self) -> None:
        self.end_of_the_child("")

    @pytest.mark.usefixtures("namespaces")
    def test_holds_for_pid_1(self) -> None:
        self.end_of_the_child("pid,mount")

    @pytest.mark.usefixtures("root_only")
    def test_holds_for_another_user(self) -> None:
        self.end_of_the_child("pid", ", user=65534, group=65534, extra_groups=[]")

    def test_leaves_no_descriptor_behind(self, shell: Shell) -> None:
        script = "ls /proc/self/fd"
        inside = shell(box(die_with_parent=True), script, close_fds=False)
        assert inside == shell(box(), script, close_fds=False)

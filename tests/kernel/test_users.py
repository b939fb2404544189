"""User and time namespaces: who one is inside, and who may what."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Bind, Container, IdMap, Namespace, SpawnError, Tmpfs, clone_into, namespaces, run

pytestmark = pytest.mark.usefixtures("namespaces")

Shell = Callable[..., str]
USER = Namespace.USER
RANGE = (IdMap(0, 100_000, 65_536),)
MAPS = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups"


class TestOwnId:
    def test_is_the_same_inside_by_default(self, shell: Shell) -> None:
        script = f"id -u; id -g; {MAPS}"
        uid, gid = os.geteuid(), os.getegid()
        said = shell(Container(namespaces=USER), script).split()
        assert said == [str(n) for n in (uid, gid, uid, uid, 1, gid, gid, 1)] + ["deny"]

    def test_is_root_inside_when_mapped_so(self, shell: Shell) -> None:
        box = Container(
            namespaces=USER, uid_map=IdMap.current("uid", 0), gid_map=IdMap.current("gid", 0)
        )
        assert shell(box, "id -u; id -g").split() == ["0", "0"]

    @pytest.mark.parametrize("inside", [0, 1, 1000, 2**32 - 2])
    def test_can_be_any_id(self, shell: Shell, inside: int) -> None:
        box = Container(namespaces=USER, uid_map=IdMap.current("uid", inside))
        assert shell(box, "id -u") == str(inside)

    def test_has_no_name_when_nothing_is_mapped(self, shell: Shell) -> None:
        box = Container(namespaces=USER, uid_map=(), gid_map=())
        assert shell(box, "id -u; cat /proc/self/uid_map") == "65534"

    def test_makes_files_that_are_the_callers_outside(self, shell: Shell, tmp_path: Path) -> None:
        box = Container(
            namespaces=USER | Namespace.MOUNT | Namespace.PID, uid_map=IdMap.current("uid", 0)
        )
        shell(box, 'touch "$1/file"', str(tmp_path))
        assert (tmp_path / "file").stat().st_uid == os.geteuid()

    def test_owns_what_is_mounted(self, shell: Shell) -> None:
        box = Container(
            namespaces=USER | Namespace.MOUNT,
            uid_map=IdMap.current("uid", 0),
            mounts=[Tmpfs("/tmp"), Tmpfs("/tmp/a/b")],
        )
        said = shell(box, "stat -c %u /tmp /tmp/a /tmp/a/b", cwd="/")
        assert said.split() == ["0", "0", "0"]

    def test_namespaces_belong_to_it(self, shell: Shell) -> None:
        # its capabilities hold for the network namespace that it has made
        box = Container(namespaces=USER | Namespace.NET | Namespace.UTS, hostname="mine")
        assert shell(box, "uname -n") == "mine"


class TestOrdinaryUser:
    @pytest.mark.usefixtures("ordinary")
    def test_gets_a_user_namespace_with_any_other(self) -> None:
        plan = Container(namespaces=Namespace.PID).plan(["true"])
        assert "new namespaces: user, pid" in str(plan)
        process = clone_into(Container(namespaces=Namespace.PID), ["sleep", "60"])
        try:
            inside, outside = namespaces.of(process.pid), namespaces.of()
            assert {kind for kind in outside if inside[kind] != outside[kind]} == {
                Namespace.USER,
                Namespace.PID,
            }
        finally:
            process.kill()
            process.wait()

    @pytest.mark.usefixtures("ordinary")
    def test_gets_none_without_any(self) -> None:
        assert "user" not in str(Container(namespaces=Namespace(0)).plan(["true"]))

    @pytest.mark.usefixtures("ordinary")
    def test_may_not_map_others(self) -> None:
        with pytest.raises(SpawnError) as caught:
            run(Container(namespaces=USER, uid_map=RANGE), ["true"])
        assert caught.value.step.kind == "wait_for_parent"
        assert caught.value.errno in (errno.EPERM, errno.ENOENT)
        assert caught.value.hint

    @pytest.mark.usefixtures("ordinary")
    def test_keeps_his_groups(self) -> None:
        with pytest.raises(SpawnError) as caught:
            run(Container(namespaces=USER), ["true"], extra_groups=[])
        assert (caught.value.step.kind, caught.value.errno) == ("set_groups", errno.EPERM)


@pytest.mark.usefixtures("privileged")
class TestRanges:
    def test_are_written_by_the_parent_while_the_child_waits(self, shell: Shell) -> None:
        box = Container(namespaces=USER, uid_map=RANGE, gid_map=RANGE)
        said = shell(box, f"id; {MAPS}").splitlines()
        assert said[0] == "uid=0(root) gid=0(root) groups=0(root)"
        assert [line.split() for line in said[1:3]] == [["0", "100000", "65536"]] * 2
        assert said[3] == "allow"

    def test_may_be_many(self, shell: Shell) -> None:
        maps = [IdMap(2 * n, 1000 + 2 * n) for n in range(340)]
        box = Container(namespaces=USER, uid_map=maps, gid_map=RANGE)
        assert shell(box, "wc -l < /proc/self/uid_map") == "340"

    def test_make_files_of_the_mapped_ids(self, shell: Shell, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        for parent in tmp_path.parents:
            if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o111)
        box = Container(namespaces=USER, uid_map=RANGE, gid_map=RANGE)
        shell(box, 'touch "$1/file"; chown 7:8 "$1/file"', str(tmp_path))
        status = (tmp_path / "file").stat()
        assert (status.st_uid, status.st_gid) == (100_007, 100_008)

    def test_with_a_user_inside(self, shell: Shell) -> None:
        box = Container(namespaces=USER, uid_map=RANGE, gid_map=RANGE)
        said = shell(box, "id -u; id -g; id -G", user=5, group=6, extra_groups=[7, 8])
        assert said.split() == ["5", "6", "6", "7", "8"]

    def test_that_the_kernel_refuses_fail_the_step(self) -> None:
        # ids that the caller's user namespace, the box around it, does not have
        nested = (
            "from pyns import *\n"
            "box = Container(namespaces=Namespace.USER, uid_map=[IdMap(0, 4000000)])\n"
            "try: run(box, ['true'])\n"
            "except SpawnError as error: print(error.step.kind, error.errno)"
        )
        box = Container(namespaces=USER, uid_map=(IdMap(0, 0, 65_536),), gid_map=RANGE)
        done = run(box, [sys.executable, "-P", "-c", nested], stdout=-1, cwd="/")
        assert done.stdout.split() == [b"wait_for_parent", str(errno.EPERM).encode()]

    def test_a_failure_ends_the_helper(self) -> None:
        # the guard sees that no thread stays
        with pytest.raises(FileNotFoundError):
            run(Container(namespaces=USER, uid_map=RANGE), ["/does/not/exist"])

    def test_from_eight_threads_at_once(self) -> None:
        script = (
            "import threading; from pyns import *\n"
            "maps = [IdMap(0, 100000, 65536)]\n"
            "box = Container(namespaces=Namespace.USER, uid_map=maps, gid_map=maps)\n"
            "def work():\n"
            "    for _ in range(20): assert run(box, ['true']).returncode == 0\n"
            "threads = [threading.Thread(target=work) for _ in range(8)]\n"
            "[t.start() for t in threads]; [t.join() for t in threads]; print('done')"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", script], stdout=-1, check=True, timeout=50
        )
        assert done.stdout == b"done\n"


class TestSubordinate:
    def test_ranges_are_read(self, tmp_path: Path) -> None:
        file = tmp_path / "subuid"
        me = os.geteuid()
        file.write_text(f"# comment\nnobody-else:1:2\n{me}:100000:1000\n{me}:300000:5\nbroken\n")
        assert IdMap.subordinate("uid", file=str(file)) == (
            IdMap(0, me),
            IdMap(1, 100_000, 1000),
            IdMap(1001, 300_000, 5),
        )

    def test_of_nobody(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError):
            IdMap.subordinate("uid", "no-such-user")
        with pytest.raises(ValueError, match="has no range for 4000000: add 4000000:1"):
            IdMap.subordinate("gid", 4_000_000, file=str(tmp_path / "none"))

    @pytest.mark.parametrize("kind", ["uid", "gid"])
    def test_are_those_of_getsubids(self, kind: str, shell: Shell, tmp_path: Path) -> None:
        if shutil.which("getsubids") is None:
            pytest.skip("getsubids: not in PATH")
        tmp_path.chmod(0o755)
        name = pwd.getpwuid(65534).pw_name
        file = tmp_path / "ranges"
        file.write_text(f"{name}:100000:1000\nroot:1:2\n{name}:7:x\n{name}:300000:5\n")
        box = Container(namespaces=USER | Namespace.MOUNT, mounts=[Bind(file, f"/etc/sub{kind}")])
        script = (
            "from pyns import IdMap\n"
            f"print(*IdMap.subordinate('{kind}', '{name}')[1:], sep=', ')\n"
            f"try: IdMap.subordinate('{kind}', 4000000)\n"
            "except ValueError as error: print(error)"
        )
        said = shell(box, 'exec "$1" -P -c "$2"', sys.executable, script, cwd="/").splitlines()
        assert said == [
            "1 100000 1000, 1001 300000 5",
            f"getsubids has no range for 4000000: add 4000000:100000:65536 to /etc/sub{kind}",
        ]

    @pytest.mark.usefixtures("ordinary")
    def test_work_through_newuidmap(self, shell: Shell) -> None:
        if shutil.which("newuidmap") is None:
            pytest.skip("newuidmap: not in PATH")
        try:
            maps = {"uid_map": IdMap.subordinate("uid"), "gid_map": IdMap.subordinate("gid")}
        except ValueError as error:
            pytest.skip(str(error))
        box = Container(namespaces=USER, **maps)  # type: ignore[arg-type]
        assert shell(box, "id -u; wc -l < /proc/self/uid_map").split() == ["0", "2"]


class TestTime:
    @pytest.fixture(autouse=True)
    def _since_6_2(self) -> None:
        major, minor = map(int, os.uname().release.split(".")[:2])
        if (major, minor) < (6, 2):
            pytest.skip(f"execve enters a new time namespace since Linux 6.2, not {major}.{minor}")

    def test_clocks_are_ahead(self, shell: Shell) -> None:
        box = Container(
            namespaces=Namespace.TIME, time_offsets={"boottime": 100_000.5, "monotonic": 200_000}
        )
        assert shell(box, "cat /proc/self/timens_offsets").split() == [
            *("monotonic", "200000", "0"),
            *("boottime", "100000", "500000000"),
        ]
        script = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME))"
        inside = float(shell(box, 'python3 -c "$1"', script))
        assert inside > 100_000

    def test_negative_offsets(self, shell: Shell) -> None:
        box = Container(namespaces=Namespace.TIME, time_offsets={"monotonic": -0.25})
        assert shell(box, "grep mono /proc/self/timens_offsets").split()[1:] == ["-1", "750000000"]

    def test_is_the_one_namespace_that_is_new(self) -> None:
        process = clone_into(Container(namespaces=Namespace.TIME), ["sleep", "60"])
        try:
            inside, outside = namespaces.of(process.pid), namespaces.of()
            new = {kind for kind in outside if inside[kind] != outside[kind]}
            assert new - {Namespace.USER} == {Namespace.TIME}
        finally:
            process.kill()
            process.wait()

    def test_that_would_be_before_the_boot_is_refused(self) -> None:
        box = Container(namespaces=Namespace.TIME, time_offsets={"boottime": -(10**9)})
        with pytest.raises(SpawnError) as caught:
            run(box, ["true"])
        assert (caught.value.step.kind, caught.value.errno) == ("write_proc", errno.ERANGE)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"uid_map": [IdMap(0, 0)], "namespaces": Namespace.PID}, "add Namespace.USER"),
        ({"uid_map": [IdMap(0, 5, 10), IdMap(9, 100)], "namespaces": USER}, "overlap inside at 9"),
        (
            {"gid_map": [IdMap(0, 5, 10), IdMap(50, 14)], "namespaces": USER},
            "overlap outside at 14",
        ),
        (
            {"uid_map": [IdMap(n, n) for n in range(341)], "namespaces": USER},
            "the kernel takes 340",
        ),
        (
            {"uid_map": [IdMap(2 * n, 10**6 + 2 * n) for n in range(340)], "namespaces": USER},
            "less than 4096 bytes",
        ),
        ({"time_offsets": {"realtime": 1}, "namespaces": Namespace.TIME}, "is no clock"),
        ({"time_offsets": {"boottime": 1e300}, "namespaces": Namespace.TIME}, "out of range"),
        ({"time_offsets": {"boottime": 1}}, "add Namespace.TIME"),
    ],
    ids=["no-user", "inside", "outside", "341", "text", "clock", "huge", "no-time"],
)
def test_nonsense_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Container(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "numbers", [(-1, 0, 1), (0, 2**32 - 1, 1), (0, 0, 0), (2, 0, 2**32 - 2), (0, 0, 2**32)]
)
def test_map_out_of_range_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"out of range|after the last id"):
        IdMap(*numbers)

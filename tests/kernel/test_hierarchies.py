"""The model of cgroups(7), and its three rules, as the kernel holds them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyns import CgroupError, Container, Namespace, clone_into
from pyns.cgroups import Cgroup, Hierarchy, current, hierarchies

PLAIN = Container(namespaces=Namespace(0))


def mounted(path: Path, **what: object) -> Hierarchy:
    try:
        return Hierarchy.mount(str(path), **what)  # type: ignore[arg-type]
    except CgroupError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENODEV):
            pytest.skip(str(error))
        raise


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Hierarchy]:
    """Mount a v1 hierarchy that has a name and no controller."""
    hierarchy = mounted(tmp_path, name="pyns-test")
    yield hierarchy
    hierarchy.unmount()


class TestMount:
    def test_of_a_name_makes_a_hierarchy_with_everybody_at_its_root(
        self, named: Hierarchy, tmp_path: Path
    ) -> None:
        assert named == Hierarchy(1, (), str(tmp_path), "/", "pyns-test")
        assert named in hierarchies()
        assert current()[named] == "/"
        assert current(1)[named] == "/"
        assert str(os.getpid()) in (tmp_path / "cgroup.procs").read_text().split()

    def test_is_gone_after_unmount(self, tmp_path: Path) -> None:
        hierarchy = mounted(tmp_path, name="pyns-test")
        hierarchy.unmount()
        assert "pyns-test" not in {h.name for h in hierarchies()}
        for _ in range(1000):  # the kernel takes its time to forget it
            if "pyns-test" not in Path("/proc/self/cgroup").read_text():
                break
            time.sleep(0.01)
        else:
            pytest.fail("it is still there")

    def test_of_v2_shows_the_one_that_there_is(self, tmp_path: Path) -> None:
        there = [h for h in hierarchies() if h.version == 2]
        if not there:
            pytest.skip("no v2 hierarchy is mounted here to compare with")
        hierarchy = mounted(tmp_path, version=2)
        try:
            assert hierarchy.version == 2
            assert hierarchy.controllers == there[0].controllers
            # mounted twice, it is one hierarchy all the same; the guard sees that its options stay
            assert len([h for h in hierarchies() if h.version == 2]) == 1
        finally:
            hierarchy.unmount()

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ({}, "needs a name"),
            ({"version": 3}, "there are 1 and 2"),
            ({"version": 2, "name": "x"}, "without a name"),
            ({"name": "a,b"}, "no name of a controller"),
            ({"name": "a\nb"}, "no name of a controller"),
            ({"controllers": ["none"]}, "no name of a controller"),
        ],
        ids=str,
    )
    def test_of_nonsense_is_refused(
        self, tmp_path: Path, what: dict[str, object], said: str
    ) -> None:
        with pytest.raises(ValueError, match=said):
            Hierarchy.mount(str(tmp_path), **what)  # type: ignore[arg-type]

    def test_of_an_unknown_controller_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CgroupError, match="mount the cgroup hierarchy nonsense") as caught:
            mounted(tmp_path, controllers=["nonsense"])
        assert caught.value.errno in (errno.EINVAL, errno.ENOENT)

    def test_on_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(CgroupError) as caught:
            mounted(tmp_path / "none", name="pyns-test")
        assert caught.value.errno == errno.ENOENT

    def test_unmount_twice(self, tmp_path: Path) -> None:
        hierarchy = mounted(tmp_path, name="pyns-test")
        hierarchy.unmount()
        with pytest.raises(CgroupError, match="unmount") as caught:
            hierarchy.unmount()
        assert caught.value.errno == errno.EINVAL

    def test_unmount_in_use(self, tmp_path: Path) -> None:
        hierarchy = mounted(tmp_path, name="pyns-test")
        with (tmp_path / "cgroup.procs").open(), pytest.raises(CgroupError) as caught:
            hierarchy.unmount()
        hierarchy.unmount()
        assert caught.value.errno == errno.EBUSY


class TestThreeRules:
    def test_1_a_controller_is_attached_to_at_most_one_hierarchy(self, tmp_path: Path) -> None:
        attached = [h for h in hierarchies() if h.version == 1 and h.controllers]
        if len(attached) < 2:
            pytest.skip(f"fewer than two v1 hierarchies with controllers: {attached}")
        one, other = attached[0].controllers[0], attached[1].controllers[0]
        with pytest.raises(CgroupError, match=f"{one} is attached to the hierarchy at") as caught:
            mounted(tmp_path, controllers=[one, other])
        assert caught.value.errno == errno.EBUSY

    def test_2_a_hierarchy_may_have_several_controllers(self, tmp_path: Path) -> None:
        rows = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
        free = [name for name, hierarchy, _, on in rows if hierarchy == "0" and on == "1"]
        pair = [name for name in ("net_cls", "net_prio", "perf_event") if name in free][:2]
        if len(pair) < 2:
            joint = [h for h in hierarchies() if len(h.controllers) > 1]
            assert joint, f"/proc/cgroups has no two free controllers, and {hierarchies()} no pair"
            return
        hierarchy = mounted(tmp_path, controllers=pair)
        try:
            assert set(hierarchy.controllers) == set(pair)
            assert current()[hierarchy] == "/"
        finally:
            hierarchy.unmount()

    def test_3_a_process_is_in_one_cgroup_of_each_hierarchy(self, named: Hierarchy) -> None:
        top = Path(named.mount_point)
        (top / "a").mkdir()
        (top / "b").mkdir()
        process = clone_into(PLAIN, ["sleep", "60"])
        try:
            before = current(process.pid)
            for group in ("a", "b"):
                (top / group / "cgroup.procs").write_text(str(process.pid))
                now = current(process.pid)
                assert now[named] == f"/{group}"
                # where it is in the others stays as it was
                assert {h: p for h, p in now.items() if h != named} == {
                    h: p for h, p in before.items() if h != named
                }
            assert (top / "a" / "cgroup.procs").read_text() == ""
            assert (top / "b" / "cgroup.procs").read_text() == f"{process.pid}\n"
        finally:
            process.kill()
            process.wait()
            (top / "a").rmdir()
            (top / "b").rmdir()

    @pytest.mark.usefixtures("limits")
    def test_3_as_groups_have_it(self) -> None:
        with (
            Cgroup.create("a") as one,
            Cgroup.create("b") as other,
            clone_into(PLAIN, ["sleep", "60"]) as process,
        ):
            one.add(process.pid)
            assert (one.processes, other.processes) == ([process.pid], [])
            other.add(process.pid)
            assert (one.processes, other.processes) == ([], [process.pid])
            process.kill()


def test_current_of_a_process_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        current(4_000_000)

"""Why a controller is not there, from what /proc says; and who is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyns.cgroups import delegation, moving


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Make a /proc of a host with an unmounted v1 hierarchy, and v2 mounted on `tmp_path/v2`."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("5:net_cls,net_prio:/\n0::/\n")
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2/cgroup.controllers").write_text("cpu\n")
    line = f"30 20 0:26 / {tmp_path}/v2 rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
    (tmp_path / "self/mountinfo").write_text(line)
    (tmp_path / "cmdline").write_text("quiet cgroup_disable=memory,io cgroup_disable=misc\n")
    return tmp_path


@pytest.mark.parametrize(
    ("controller", "said"),
    [
        ("memory", "booted with cgroup_disable=memory,io: take memory off the boot command line"),
        ("blkio", "booted with cgroup_disable=memory,io: take blkio off"),
        ("misc", "booted with cgroup_disable=misc: "),
        ("net_prio", "mount -t cgroup -o net_cls,net_prio cgroup DIRECTORY"),
        ("pids", "The kernel was built without it (CONFIG_CGROUP_PIDS)"),
        ("nonsense", "The kernel was built without it"),
    ],
)
def test_missing_controller(proc: Path, controller: str, said: str) -> None:
    assert said in delegation.why_not_on_this_host(controller, str(proc))


def test_missing_controller_in_a_container(proc: Path) -> None:
    (proc / "v2/cgroup.type").write_text("domain\n")
    assert "whoever made this container" in delegation.why_not_on_this_host("pids", str(proc))


def test_missing_controller_without_v2(proc: Path) -> None:
    (proc / "self/mountinfo").write_text("")
    said = delegation.why_not_on_this_host("pids", str(proc))
    assert "v2 is not mounted here, where it may be" in said


@pytest.mark.parametrize(("count", "more"), [(1, False), (5, False), (6, True)])
def test_at_most_five_processes_are_named(count: int, more: bool) -> None:
    said = moving.name_processes([1] * count)
    assert said.count("1 (") == min(count, 5)
    assert said.endswith(", ...") is more

"""A container that is used again: what is remembered of it is never another start's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Bind, CgroupFs, Container, Limits, Namespace, Proc, Tmpfs, clone_into, run

Shell = Callable[..., str]


@pytest.fixture
def bare() -> Container:
    return Container(namespaces=Namespace(0))


def test_every_start_has_its_own_directory(bare: Container, shell: Shell, tmp_path: Path) -> None:
    places = [tmp_path / name for name in "abc"]
    for place in places:
        place.mkdir()
    assert [shell(bare, "pwd", cwd=place) for place in places] == [str(p) for p in places]


def test_every_start_has_its_own_umask_and_session(bare: Container, shell: Shell) -> None:
    assert [shell(bare, "umask", umask=mask) for mask in (0o22, 0o77, 0o22)] == [
        "0022",
        "0077",
        "0022",
    ]
    script = "ps -o sid= -p $$" if os.path.exists("/usr/bin/ps") else "cut -d' ' -f6 /proc/$$/stat"
    own = str(os.getsid(0))
    said = [shell(bare, script, start_new_session=new).strip() for new in (False, True, False)]
    assert [sid == own for sid in said] == [True, False, True]


def test_every_start_has_its_own_fds(bare: Container) -> None:
    for text in ("one", "two", "three"):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        with open(reader, "rb"):
            completed = run(bare, ["cat"], stdin=reader, capture_output=True)
            named = run(bare, ["ls", f"/proc/self/fd/{reader}"], pass_fds=[reader])
        assert (completed.stdout, named.returncode) == (text.encode(), 0)


def test_every_start_has_the_environment_of_its_moment(
    bare: Container, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for value in ("1", "2", "2", "3"):
        monkeypatch.setenv("PYNS_TEST", value)
        said.append(shell(bare, "echo $PYNS_TEST"))
    monkeypatch.delenv("PYNS_TEST")
    said.append(shell(bare, "echo $PYNS_TEST"))
    assert said == ["1", "2", "2", "3", ""]
    assert shell(bare, "echo $A", env={"A": "own", "PATH": os.environ["PATH"]}) == "own"
    assert shell(bare, "echo $A") == ""


@pytest.mark.usefixtures("root_only")
def test_every_start_of_root_has_its_own_user(bare: Container, shell: Shell) -> None:
    assert [shell(bare, "id -u", user=uid, extra_groups=[]) for uid in (0, 7, 8, 7)] == [
        "0",
        "7",
        "8",
        "7",
    ]


@pytest.mark.usefixtures("namespaces")
def test_sources_are_looked_up_at_every_start(shell: Shell, tmp_path: Path) -> None:
    box = Container(mounts=[Bind(tmp_path / "link", "/mnt"), Proc()])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(name)
        assert shell(box, "cat /mnt/file", cwd="/") == name


@pytest.mark.usefixtures("namespaces")
def test_remembers_what_the_plan_says(shell: Shell) -> None:
    box = Container(mounts=[Tmpfs("/tmp"), Proc()])
    for _ in range(3):
        assert shell(box, "ls /tmp; echo $$", cwd="/").split() == ["1"]
    (setup,) = box.setups.values()
    planned = {step.kind for step in box.plan(["sh"])}
    assert {step.kind for step in setup.steps} - {"duplicate"} == planned - {"execute"}


@pytest.mark.usefixtures("namespaces")
def test_remembers_no_plan_that_depends_on_the_host(shell: Shell) -> None:
    box = Container(mounts=[Proc(), CgroupFs("/mnt")])
    shell(box, "ls /mnt", cwd="/")
    assert box.setups == {}


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("init", [False, True])
def test_every_start_has_its_own_group(init: bool) -> None:
    box = Container(namespaces=Namespace.PID, mounts=[], limits=Limits(pids_max=8), init=init)
    kept: list[int] = []
    processes = []
    for _ in range(3):
        processes.append(clone_into(box, ["sleep", "60"]))
        kept.append(os.dup(0))  # so that the next one's fds have other numbers
    try:
        for process in processes:
            group = process.cgroup
            assert group is not None
            with open(f"/proc/{group.processes[-1]}/cgroup") as file:
                places = {os.path.basename(line.rstrip()) for line in file}
            assert {os.path.basename(path) for path in group.paths} <= places
    finally:
        for fd in kept:
            os.close(fd)
        for process in processes:
            with process:
                process.kill()
    assert len(box.setups) == (0 if init else 1)


@pytest.mark.usefixtures("limits")
def test_names_the_group_of_this_start(caplog: pytest.LogCaptureFixture) -> None:
    box = Container(namespaces=Namespace(0), limits=Limits(pids_max=8))
    for _ in range(3):
        caplog.clear()
        with caplog.at_level("DEBUG", "pyns"), clone_into(box, ["true"]) as process:
            assert process.cgroup is not None
            [plan] = [text for text in caplog.messages if text.startswith("start a program")]
            assert all(path in plan for path in process.cgroup.paths)


def test_remembers_a_limited_number(bare: Container, tmp_path: Path) -> None:
    for number in range(100):
        place = tmp_path / str(number)
        place.mkdir()
        assert run(bare, ["true"], cwd=place).returncode == 0
    assert 0 < len(bare.setups) <= 32

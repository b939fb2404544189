"""The wheels that are released, and the workflows that release them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

# a pattern that matches nothing is no error of cibuildwheel's: say what is wanted
WANTED = {
    f"{python}-{libc}linux_{machine}"
    for python in ("cp311", "cp314t", "cp315t")
    for libc in ("many", "musl")
    for machine in ("x86_64", "aarch64")
}


def test_each_target_and_no_other_is_built(checkout: Path) -> None:
    program = shutil.which("cibuildwheel", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("cibuildwheel is not installed (group packaging)")
    command = [program, "--print-build-identifiers", "--platform", "linux"]
    command += ["--archs", ",".join(sorted({name.rsplit("linux_")[1] for name in WANTED}))]
    said = subprocess.run(
        [*command, str(checkout)], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(said.stdout.split()) == WANTED


@pytest.fixture
def workflows(checkout: Path) -> dict[str, str]:
    found = {path.name: path.read_text() for path in (checkout / ".github/workflows").glob("*.yml")}
    if not found:
        pytest.skip(f"no workflows in {checkout}: an sdist has none")
    return found


def test_every_action_is_pinned_by_a_hash_and_says_its_version(workflows: dict[str, str]) -> None:
    for text in workflows.values():
        for action in re.findall(r"uses: *(.*)", text):
            pinned = re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+(\.\d+)+", action)
            assert pinned or action.startswith("./"), action


def test_one_action_has_one_hash(workflows: dict[str, str]) -> None:
    pins = set(re.findall(r"uses: *([\w./-]+@\w+)", "".join(workflows.values())))
    assert len({pin.split("@")[0] for pin in pins}) == len(pins)


def test_no_workflow_may_more_than_its_jobs_ask_for(workflows: dict[str, str]) -> None:
    assert [name for name, text in workflows.items() if "\npermissions: {}\n" not in text] == []


def test_every_python_that_is_promised_is_tested(checkout: Path, workflows: dict[str, str]) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    promised = {
        c.removeprefix(prefix)
        for c in project["classifiers"]
        if (prefix := "Programming Language :: Python :: ") in c and c[-1].isdigit() and "." in c
    }
    tested = set(re.findall(r"3\.\d+", re.findall(r"python: \[(.*)\]", workflows["test.yml"])[0]))
    assert promised <= tested
    assert min(promised, key=lambda v: int(v[2:])) == project["requires-python"].lstrip(">=")

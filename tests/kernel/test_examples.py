"""What the README and the examples show is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyns import Container

TOP = Path(__file__).parent.parent.parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (TOP / "README.md").read_text(), re.DOTALL)


def python(*args: str) -> str:
    return subprocess.run(
        [sys.executable, "-P", *args], check=True, stdout=-1, text=True, timeout=60
    ).stdout


@pytest.mark.usefixtures("namespaces", "limits")
def test_stress_shows_what_the_article_promises() -> None:
    said = python(str(TOP / "examples/stress.py"))
    assert "inside:  I am PID 1 on container" in said
    assert "inside:  /proc shows the processes ['1']" in said
    assert re.search(r"inside:  \S+ cgroup /pyns/\d+-\d+-\d+-1", said)
    assert re.search(r"memory peak (99|100)\.\d MiB of 100", said)
    assert "the OOM killer took 1 process(es)" in said
    assert "cgroups left behind: none" in said
    assert "I got them" not in said


@pytest.mark.usefixtures("namespaces", "limits")
def test_readme_first_example() -> None:
    said = python("-c", blocks("python")[0])
    assert said.startswith("I am 1 on demo\n")
    assert "Usage(wall_seconds=" in said


@pytest.mark.usefixtures("namespaces", "limits")
def test_readme_ten_lines(new_root: Path) -> None:
    said = python("-c", blocks("python")[1].replace("/srv/box", str(new_root)))
    assert said.startswith("uid=0 gid=0")  # no names: the new root has no /etc/passwd


@pytest.mark.usefixtures("privileged")
def test_readme_plan() -> None:
    shown = blocks("python")[2].partition("\n")[2].rstrip()
    shown = shown.replace("'/root'", repr(os.getcwd()))
    shown = re.sub(r"of \d+ places", f"of {len(os.get_exec_path())} places", shown)
    assert str(Container(hostname="box").plan(["id"])) == shown

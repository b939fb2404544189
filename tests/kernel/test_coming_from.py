"""What docs/coming_from.md says about other tools: their options exist, and pyns's side works."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pyns
import pyns.aio
from pyns import Container, Namespace, Process, cgroups, clone_into

PAGE = Path(__file__).parent.parent.parent / "docs" / "coming_from.md"
BOX = Container(namespaces=Namespace(0))
ARGS = ["true"]
# what would change the host, or has nothing to do it with: whether the arguments fit is looked at
NOT_CALLED = {
    "IdMap.subordinate",
    "namespaces.keep",
    "Cgroup.create",
    "pyns.aio.create_subprocess_exec",
}


class Row(NamedTuple):
    tool: str
    line: int
    left: str
    right: str


def rows() -> Iterator[Row]:
    tool = ""
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line.startswith("## "):
            tool = re.sub(r"\W.*", "", line[3:])
        cells = re.split(r" (?<!\\)\| ", line.strip("| "))
        if line.startswith("| ") and len(cells) == 2 and "`" in line:
            yield Row(tool, number, cells[0], cells[1].replace("\\|", "|"))


ROWS = list(rows())
EXPRESSIONS = {
    f"{row.tool}:{row.line}-{code[:30]}": code
    for row in ROWS
    for code in re.findall(r"`([^`]+)`", row.right)
    if re.search(r"[(.]", code)
}


def test_each_tool_has_its_table() -> None:
    assert {row.tool for row in ROWS} == {"subprocess", "unshare", "bwrap", "nsjail", "runc"}
    assert len(EXPRESSIONS) > 120


@pytest.fixture
def process() -> Iterator[Process]:
    with clone_into(BOX, ["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def limited() -> Iterator[Process]:
    box = Container(namespaces=Namespace(0), limits=pyns.Limits(pids_max=10))
    with clone_into(box, ["sleep", "60"]) as process:
        yield process
        process.kill()


def run(target: Any, args: Any, **options: Any) -> Any:
    """Run it where nothing has to be there for it; else see what it would do."""
    if isinstance(target, Container) and target is not BOX:
        inspect.signature(pyns.run).bind(target, args, **options)
        return target
    return pyns.run(target, args, **options)


@pytest.mark.parametrize("code", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_what_pyns_says_is_right(code: str, request: pytest.FixtureRequest) -> None:
    for pattern, fixture in {
        r"Limits|cgroup": "limits",
        r"user=|extra_groups=": "privileged",
    }.items():
        if re.search(pattern, code):
            request.getfixturevalue(fixture)
    names: dict[str, Any] = {
        name: getattr(module, name) for module in (cgroups, pyns) for name in module.__all__
    }
    names |= {"pyns": pyns, "run": run, "box": BOX, "args": ARGS}
    if "process" in code:
        names["process"] = request.getfixturevalue("limited" if "cgroup" in code else "process")
    with open(os.devnull) as file:
        names["fd"] = file.fileno()
        call = ast.parse(code, mode="eval").body
        if isinstance(call, ast.Call) and ast.unparse(call.func) in NOT_CALLED:
            name = ast.unparse(call.func)
            arguments = eval(f"(lambda *a, **k: (a, k))({code[len(name) + 1 : -1]})", names)
            inspect.signature(eval(name, names)).bind(*arguments[0], **arguments[1])
            return
        value = eval(code, names)
        if isinstance(value, Container):
            assert len(value.plan(ARGS)) > 3
        elif isinstance(value, Process):
            with value:
                assert value.wait() == 0
        elif isinstance(value, subprocess.CompletedProcess):
            assert value.returncode == 0


@pytest.mark.parametrize("tool", ["unshare", "bwrap", "nsjail"])
def test_their_options_exist(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool}: not in PATH")
    done = subprocess.run([tool, "--help"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"--[\w-]+", done.stdout + done.stderr))
    asked = {
        option
        for row in ROWS
        if row.tool == tool and "nsenter" not in row.left and "0.11" not in row.left
        for option in re.findall(r"--[\w-]+", row.left)
    }
    assert asked
    assert asked <= known

"""A container with a root of its own, in which the host's programs run."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Completed, Container, IdMap, Namespace, Proc, kernel, run

Shell = Callable[..., str]


@pytest.fixture
def root_only() -> None:
    """Skip where credentials can't be changed."""
    if os.geteuid() != 0:
        pytest.skip(f"geteuid() is {os.geteuid()}: 0 is needed for another user or capabilities")


@pytest.fixture
def box(new_root: Path) -> Callable[..., Container]:
    """Describe a container whose root has the host's /usr and a /proc of its own."""

    def make(*mounts: Any, **fields: Any) -> Container:
        usual = (Bind("/usr", read_only=True), Proc())
        return Container(root=new_root, mounts=(*usual, *mounts), **fields)

    return make


@pytest.fixture
def shell() -> Shell:
    """Run a script in a container; return what it prints, without the last newline."""

    def execute(container: Container, script: str, *args: str, **options: Any) -> str:
        completed: Completed = run(
            container, ["sh", "-ec", script, "sh", *args], capture_output=True, text=True, **options
        )
        assert (completed.returncode, completed.stderr) == (0, "")
        return str(completed.stdout).rstrip("\n")

    return execute


@pytest.fixture
def admin() -> Callable[..., str]:
    """Run Python in a process of its own that may change its namespaces; return what it prints.

    With the privileges of root, or those that a container lends: all its namespaces are then those
    of a user namespace in which it is root.
    """

    def execute(code: str, *arguments: object) -> str:
        box = Container(namespaces=Namespace(0))
        if os.geteuid() != 0:
            has_time = kernel.is_at_least((6, 2), os.uname().release)
            box = Container(
                namespaces=~Namespace(0) if has_time else ~Namespace.TIME,
                uid_map=IdMap.current("uid", 0),
                gid_map=IdMap.current("gid", 0),
            )
        command = [sys.executable, "-P", "-c", textwrap.dedent(code), *map(str, arguments)]
        done = run(box, command, capture_output=True, text=True, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        return str(done.stdout).rstrip("\n")

    return execute

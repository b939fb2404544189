"""What a subject of the benchmarks is: it starts a program, and says what it does differently."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from typing import ClassVar

from bench.floor import Start
from bench.isolation import EVERY, Place
from pyns import Namespace


class Subject:
    """Something that starts programs.

    Attributes:
        name: as it stands in the tables.
        differences: what it does more, or less, than it is asked for; for the report.
        makes: namespaces that it can make. What it can't is missing from its isolation.
        always: those that it can't leave out: it is not asked without them.
        forks: whether it forks this process, whose pages are to be copied at the next write then.
        pid: of the program, inside a new PID namespace.
        sets_hostname: whether it sets one, in a new UTS namespace.
        brings_loopback_up: whether it does, in a new NET namespace.
        enters_root: whether the directory itself becomes /; else it is bound below another.
    """

    name: ClassVar[str]
    differences: ClassVar[str] = ""
    makes: ClassVar[Namespace] = EVERY
    always: ClassVar[Namespace] = Namespace(0)
    forks: ClassVar[bool] = False
    pid: ClassVar[int] = 1
    sets_hostname: ClassVar[bool] = True
    brings_loopback_up: ClassVar[bool] = True
    enters_root: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        self.place = place

    @classmethod
    def is_asked_for(cls, namespaces: Namespace) -> bool:
        """Whether this isolation is one of its own."""
        return cls.always in namespaces and bool(namespaces & cls.makes or not namespaces)

    def missing(self) -> str | None:
        """Return why it does not run here, found out by trying; None if it does."""
        return None

    def version(self) -> str:
        """Return what it calls itself."""
        return f"{platform.python_implementation()} {platform.python_version()}"

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        """Return what starts argv, waits for its end, and raises if it failed."""
        raise NotImplementedError


def first_line(command: Sequence[str]) -> str:
    """Return the first line that a command says; nothing if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines() if done.returncode == 0 else []
    return lines[0] if lines else ""

"""Who is measured, and for which isolation."""

from __future__ import annotations

from bench.calls import (
    Aio,
    AsyncioExec,
    BareC,
    BenchExec,
    CloneInto,
    PosixSpawn,
    PreexecFn,
    Run,
    SubprocessRun,
)
from bench.isolation import SETS
from bench.subject import Subject
from bench.tools import Bwrap, Crun, Isolate, Minijail, MkosiSandbox, Nsjail, Runc, Unshare

SUBJECTS: tuple[type[Subject], ...] = (
    BareC,  # the first: what the others are held against
    CloneInto,
    Run,
    Aio,
    SubprocessRun,
    PosixSpawn,
    AsyncioExec,
    PreexecFn,
    Unshare,
    Bwrap,
    Nsjail,
    Minijail,
    Isolate,
    Crun,
    Runc,
    BenchExec,
    MkosiSandbox,
)


def pairs() -> list[tuple[str, str]]:
    """Return the names of the sets, each with the names of the subjects that are asked for it."""
    return [
        (isolation, kind.name)
        for isolation, namespaces in SETS.items()
        for kind in SUBJECTS
        if kind.is_asked_for(namespaces)
    ]

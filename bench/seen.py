"""What the program has seen of its isolation, and whether that is what was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bench.floor import Start
from bench.isolation import EVERY, HOSTNAME, Place
from bench.rounds import Stamp
from bench.subject import Subject
from pyns import Namespace

FILES = {kind: kind.words().replace("mount", "mnt") for kind in EVERY}


def report(
    place: Place, namespaces: Namespace, prepare: Callable[[list[str]], Start]
) -> dict[str, str]:
    """Start the program once, and return what it reports."""
    path = place.root / "report"
    inside = "/report" if Namespace.MOUNT in namespaces else str(path)
    path.touch()
    path.chmod(0o666)  # one who gives the program another uid
    with Stamp():  # not over the first bytes of the caller's own stdout
        prepare([place.probe(namespaces), inside])()
    seen: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(" ")
        seen[name] = f"{seen[name]}\n{value}" if name in seen else value
    path.unlink()
    return seen


def new_namespaces(seen: dict[str, str]) -> Namespace:
    """Return the namespaces in which the program was not together with us."""
    new = Namespace(0)
    for kind, name in FILES.items():
        if seen[name] != os.readlink(f"/proc/self/ns/{name}"):
            new |= kind
    return new


def check(subject: Subject, namespaces: Namespace) -> None:
    """Assert that the subject isolates what it says, no less and no more."""
    place = subject.place
    seen = report(place, namespaces, lambda argv: subject.prepare(namespaces, argv))
    expected = namespaces & subject.makes
    assert new_namespaces(seen) == expected
    if Namespace.PID in expected:
        assert seen["getpid"] == str(subject.pid)
    if Namespace.MOUNT in expected:
        assert (seen["root"] == str(place.root.stat().st_ino)) == subject.enters_root
        assert seen["self"] == seen["getpid"], "/proc is of another PID namespace"
    if Namespace.UTS in expected:
        assert (seen["hostname"] == HOSTNAME) == subject.sets_hostname
    if Namespace.NET in expected:
        assert (seen["loopback"] == "up") == subject.brings_loopback_up


def cgroups_of_caller() -> str:
    """Return what /proc/self/cgroup says here."""
    return Path("/proc/self/cgroup").read_text().rstrip("\n")

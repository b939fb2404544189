"""What the tests of a run share: the subjects that are here, and scenes that are measured once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bench.calls import BareC
from bench.floor import Start
from bench.isolation import Place
from bench.progress import Progress
from bench.rounds import WARMUP_ROUNDS, Rounds, interleave
from bench.scales import Scale
from bench.seen import check
from bench.subject import Subject
from bench.subjects import SUBJECTS
from bench.tools import Tool
from pyns import Namespace

Scene = dict[str, Rounds]  # by the name of the subject, or of what it does
Record = Callable[..., None]  # the fixture of conftest.py

_FORKING = tuple(kind.name for kind in SUBJECTS if kind.forks)
# what runs in this process, and would have to copy pages after a fork
_SETTLING = tuple(kind.name for kind in SUBJECTS if not kind.forks and not issubclass(kind, Tool))


class Suite:
    """See above.

    Attributes:
        place: where the program lies.
        scale: how much is measured.
        missing: why a subject does not run here.
    """

    def __init__(self, config: pytest.Config, scale: Scale, place: Place) -> None:
        self.place = place
        self.scale = scale
        self.progress = Progress(config)
        self.missing: dict[str, str] = {}
        self._here: dict[str, Subject] = {}
        self._scenes: dict[str, Any] = {}
        for kind in SUBJECTS:
            subject = kind(place)
            reason = subject.missing()
            if reason is None:
                self._here[kind.name] = subject
            else:
                self.missing[kind.name] = reason

    def subject(self, name: str) -> Subject:
        """Return one that runs here; skip the test if it does not."""
        if name in self.missing:
            pytest.skip(f"{name}: {self.missing[name]}")
        return self._here[name]

    def told(self) -> dict[str, dict[str, str]]:
        """Return what the report says of each subject."""
        return {
            kind.name: {
                "differences": kind.differences,
                "version": self._here[kind.name].version() if kind.name in self._here else "",
                "missing": self.missing.get(kind.name, ""),
            }
            for kind in SUBJECTS
        }

    def need(self, namespaces: Namespace) -> None:
        """Skip the test if the kernel refuses these namespaces to this user."""
        try:
            check(self._here[BareC.name], namespaces)
        except PermissionError as error:
            pytest.skip(f"new namespaces: {error}")

    def ready(self, namespaces: Namespace, *names: str) -> dict[str, Start]:
        """Return what starts the subjects that are asked for this, or those of them named.

        Each has shown before that the isolation is there.
        """
        self.need(namespaces)
        argv = [self.place.probe(namespaces)]
        starts = {}
        for name, subject in self._here.items():
            if subject.is_asked_for(namespaces) and (name in names or not names):
                check(subject, namespaces)
                starts[name] = subject.prepare(namespaces, argv)
        return starts

    def once(self, scene: str, measure: Callable[[], Any]) -> Any:
        """Return what a scene has measured: for the first test that asks, it is measured."""
        if scene not in self._scenes:
            self._scenes[scene] = measure()
        return self._scenes[scene]

    def in_turn(
        self, scene: str, subjects: Mapping[str, Start], share: float = 1, **options: Any
    ) -> Scene:
        """Measure subjects in turn, in a share of the usual rounds, and show how far it is."""
        count = max(1, round(self.scale.rounds * share))
        with self.progress.of(scene, count) as tell:
            return interleave(
                subjects,
                count,
                warmup=min(WARMUP_ROUNDS, count - 1),
                forking=[name for name in subjects if name.startswith(_FORKING)],
                settling=[name for name in subjects if name.startswith(_SETTLING)],
                progress=tell,
                **options,
            )

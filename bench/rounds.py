"""How it is timed: the subjects in turn, so that what disturbs the machine meets all alike."""

from __future__ import annotations

import mmap
import os
import random
import resource
import statistics
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

from bench.floor import Start

WARMUP_ROUNDS = 3
_STAMP = struct.Struct("=Q")


@dataclass
class Rounds:
    """What was measured of one subject, in seconds.

    Attributes:
        total: of each round, from the start to where the program's end is known.
        started: of each round, from the start to the program's first statement.
        kernel: CPU time in the kernel, of all rounds: the starter's and the program's.
        faults: minor page faults, likewise. Both are 0 where nobody looked.
    """

    total: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    kernel: float = 0.0
    faults: int = 0

    def add(self, more: Rounds) -> None:
        """Take rounds in that were measured later."""
        self.total += more.total
        self.started += more.started
        self.kernel += more.kernel
        self.faults += more.faults

    def figures(self, floor: Rounds | None = None) -> dict[str, float]:
        """Return what is told of them; with a floor measured in the same rounds, beside it.

        `ratio` and `extra` are medians over the rounds, of the quotient and of the difference.
        What disturbs the machine for longer than the rounds last leaves the minima as they are.
        """
        count = len(self.total)
        figures = {
            "min": min(self.total),
            "median": statistics.median(self.total),
            "p99": percentile(self.total, 99),
            "per_second": count / sum(self.total),
        }
        if self.kernel or self.faults:
            figures |= {"kernel": self.kernel / count, "faults": self.faults / count}
        if self.started:
            figures["started"] = statistics.median(self.started)
        if floor is not None:
            pairs = zip(self.total, floor.total, strict=True)
            figures["ratio_of_minima"] = min(self.total) / min(floor.total)
            figures["ratio"] = quotient(self.total, floor.total)
            figures["extra"] = statistics.median(own - other for own, other in pairs)
        return figures


def quotient(own: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the quotients, round by round."""
    return statistics.median(one / other for one, other in zip(own, others, strict=True))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Stamp:
    """Where the program writes the time of its first statement: a file that is its stdout.

    A context manager: inside it, what this process has as stdout.
    """

    def __enter__(self) -> Self:
        self._file = os.memfd_create("stamp")
        os.ftruncate(self._file, mmap.PAGESIZE)
        self._page = mmap.mmap(self._file, mmap.PAGESIZE)
        self._stdout = os.dup(1)
        os.dup2(self._file, 1)
        return self

    def __exit__(self, *exc: object) -> None:
        os.dup2(self._stdout, 1)
        os.close(self._stdout)
        self._page.close()
        os.close(self._file)

    def clear(self) -> None:
        """Forget the last one's."""
        _STAMP.pack_into(self._page, 0, 0)

    @property
    def seconds(self) -> float:
        """The time, as time.monotonic() has it; 0 if the program could not write it."""
        nanoseconds: int = _STAMP.unpack_from(self._page)[0]
        return nanoseconds / 1e9


def interleave(
    subjects: Mapping[str, Start],
    count: int,
    *,
    warmup: int = WARMUP_ROUNDS,
    forking: Collection[str] = (),
    settling: Collection[str] = (),
    between: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Rounds]:
    """Start each subject once a round, in another order each round.

    Args:
        subjects: by name.
        count: of rounds.
        warmup: rounds before them, which are not counted.
        forking: subjects that fork this process. They come last in a round: after them, whatever
            is written to is copied first, and others would pay for it.
        settling: subjects that are started once more after these, uncounted: they pay for it.
        between: called before each start.
        progress: called with the number of the round.
    """
    measured = {name: Rounds() for name in subjects}
    order, shuffled = list(subjects.items()), random.Random(0)
    with Stamp() as stamp:
        for number in range(-warmup, count):
            progress(number)
            # what one leaves behind (the kernel takes namespaces down later) meets all alike
            shuffled.shuffle(order)
            order.sort(key=lambda subject: subject[0] in forking)
            for name, start in order:
                between()
                one = time_once(start, stamp)
                if number >= 0:
                    measured[name].add(one)
            if forking:
                for name in settling:
                    subjects[name]()
    return measured


def time_once(start: Start, stamp: Stamp) -> Rounds:
    """Time one start."""
    stamp.clear()
    before = _used()
    begin = time.monotonic()
    start()
    end = time.monotonic()
    after = _used()
    started = [stamp.seconds - begin] if stamp.seconds else []
    return Rounds([end - begin], started, after[0] - before[0], after[1] - before[1])


def _used() -> tuple[float, int]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_stime + children.ru_stime, own.ru_minflt + children.ru_minflt


def stage_seconds(moments: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, float]:
    """Return the median of what each stage took, of moments in ns at which the stages ended."""
    spans = zip(*([b - a for a, b in pairwise(one)] for one in moments), strict=True)
    return {
        name: statistics.median(span) / 1e9 for name, span in zip(names[1:], spans, strict=True)
    }

"""How much is measured: once to see that it works, in short for CI, normally, in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How many rounds, and which points of each sweep.

    Attributes:
        rounds: of subjects in turn.
        axes: argument of a test → the values that it is called with.
        checked: whether ratios are held against expected.json.
    """

    rounds: int
    axes: Mapping[str, Sequence[int]]
    checked: bool = False


def _axes(
    megabytes: Sequence[int], mounts: Sequence[int], binds: Sequence[int], spawners: Sequence[int]
) -> dict[str, Sequence[int]]:
    return {"megabytes": megabytes, "host_mounts": mounts, "binds": binds, "spawners": spawners}


_FEW = _axes((10, 256), (25, 500), (1, 20), (1, 2))
_MOST = _axes(
    (10, 100, 1000, 4000, 8000), (25, 100, 500, 1000, 5000), (1, 10, 50, 100, 500), (1, 2, 4, 8)
)

SCALES = {
    "once": Scale(1, _FEW),
    "short": Scale(30, _FEW, checked=True),
    "normal": Scale(300, _MOST),
    "full": Scale(1000, _MOST),
}

"""How the new root comes about: a copy of a directory, the mounts in it, pivot_root."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from pyns.mounts import Mount, StrPath
from pyns.steps import HostRoot, NewRoot, PivotRoot, Step


def root_steps(root: StrPath | None, mounts: Iterable[Mount]) -> Iterator[Step]:
    """Yield the steps from the host's mount tree to the container's.

    Args:
        root: directory of the caller's that becomes /; None to keep the caller's root.
        mounts: in this order, beneath that root.
    """
    mounts = tuple(mounts)
    if root is not None:
        # first: a mount made beneath it now would be hidden under the copy
        yield NewRoot(os.fsencode(root))
    elif mounts:
        yield HostRoot()
    for mount in mounts:
        yield from mount.steps()
    if root is not None:
        # last: the sources of the mounts are paths in the old root
        yield PivotRoot()

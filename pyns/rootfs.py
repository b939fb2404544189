"""How the new root comes about: a copy of a directory, the mounts in it, pivot_root."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from pyns.entries import arrange
from pyns.masks import mask_steps, prepare_steps
from pyns.mount_steps import AttachRoot, SetRootAttributes
from pyns.mounts import Filesystem, Mount, StrPath
from pyns.steps import HostRoot, NewRoot, PivotRoot, Step


def root_steps(
    root: StrPath | Filesystem | None,
    mounts: Iterable[Mount],
    *,
    attributes: int = 0,
    masked: Sequence[bytes] = (),
    protected: Sequence[bytes] = (),
) -> Iterator[Step]:
    """Yield the steps from the host's mount tree to the container's.

    Args:
        root: directory of the caller's, or a new filesystem, that becomes /; None to keep the
            caller's root.
        mounts: in this order, beneath that root.
        attributes: MOUNT_ATTR_... of the root, with what was mounted below it before.
        masked: paths beneath the root that are hidden.
        protected: paths beneath the root that are read-only.
    """
    arranged = arrange(mounts, has_root=root is not None)
    if isinstance(root, Filesystem):
        yield HostRoot()
        yield from root.make()
        yield AttachRoot()
    elif root is not None:
        # first: a mount made beneath it now would be hidden under the copy
        yield NewRoot(os.fsencode(root))
    elif arranged or attributes or masked or protected:
        yield HostRoot()
    if masked:
        yield from prepare_steps()
    if attributes and not isinstance(root, Filesystem):
        # before the mounts, which say for themselves whether they can be written
        yield SetRootAttributes(attributes, below=True)
    for mount, entries in arranged:
        yield from mount.steps(entries) if isinstance(mount, Filesystem) else mount.steps()
    if attributes:
        # after the mounts: missing targets would be EROFS
        yield SetRootAttributes(attributes, below=False)
    # after the mounts, which may bring what is to be hidden
    yield from mask_steps(masked, protected)
    if root is not None:
        # last: the sources of the mounts are paths in the old root
        yield PivotRoot()

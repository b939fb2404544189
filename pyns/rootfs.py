"""How the new root comes about: a copy of a directory, the mounts in it, pivot_root."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from pyns.entries import arrange
from pyns.masks import mask_steps, prepare_steps
from pyns.mount_steps import AttachRoot, SetAside, SetRootAttributes, TakeUp
from pyns.mounts import Filesystem, Mount, StrPath
from pyns.namespaces import Namespace
from pyns.steps import (
    HostRoot,
    NewRoot,
    OpenTree,
    PivotRoot,
    SetAttributes,
    SetNamespaces,
    Step,
    Unshare,
)


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


def from_template(steps: Iterable[Step], template: int, propagation: str) -> Iterator[Step]:
    """Yield the same steps to a root of one's own, without a copy of the host's mount tree.

    What is taken from the host is taken first, and before anything is mounted on it, it is given
    its propagation. The mount namespace is a copy of the template.

    Args:
        steps: those of `root_steps`, in a mount namespace of their own.
        template: fd of a mount namespace with next to nothing in it.
        propagation: of the host's mounts, inside.
    """
    inside: list[Step] = []
    in_hand = False
    for step in steps:
        if isinstance(step, NewRoot):
            yield OpenTree(step.path, True, propagation, is_root=True)
            yield SetAside()
            inside += TakeUp(), AttachRoot(b"/")
        elif isinstance(step, AttachRoot):
            inside.append(AttachRoot(b"/"))
        elif isinstance(step, OpenTree):
            yield OpenTree(step.source, step.recursive, propagation)
            in_hand = True
        elif in_hand and isinstance(step, SetAttributes):
            yield step
        elif in_hand:
            yield SetAside()
            inside += [] if isinstance(step, SetAside) else [TakeUp(), step]
            in_hand = False
        else:
            inside.append(step)
    yield from template_steps(template)
    yield from inside


def template_steps(template: int) -> Iterator[Step]:
    """Yield the steps from the caller's mount namespace to a copy of the template."""
    yield SetNamespaces(Namespace.MOUNT, "the template", template)
    yield Unshare(Namespace.MOUNT)

"""A mount namespace with next to nothing in it, for containers with a root of their own to copy.

To copy the host's costs 3 µs for each of its mounts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from pyns.helping import carry_out
from pyns.idmap import in_first_user_namespace
from pyns.mount_steps import AttachRoot
from pyns.namespaces import Namespace
from pyns.rootfs import template_steps
from pyns.steps import (
    MOUNT_ATTR_RDONLY,
    Clone,
    Keep,
    NewMount,
    PivotRoot,
    SetPropagation,
    WaitForParent,
)


class OpenMountNamespace(WaitForParent):
    """Has the parent open the mount namespace that the child is in (mount_namespaces(7))."""

    give: Callable[[int], None]

    def describe(self) -> str:  # noqa: D102  as of any step
        return "have the parent open the mount namespace"

    def help_child(self, pid: int, keep: Keep) -> None:  # noqa: ARG002  the fd is given away
        """Open it, and give the fd away."""
        self.give(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))


class _Kept(NamedTuple):
    fd: int
    identity: tuple[int, int]

    def is_open(self) -> bool:
        """Whether the fd is still that of the template: programs may close all there are."""
        with suppress(OSError):
            return _identity(self.fd) == self.identity
        return False


# For the process's life: to make it takes longer than it saves. None: the kernel refuses.
_kept: dict[str, _Kept | None] = {}


def open_template() -> int | None:
    """Return an fd of the template, which is made when it is first asked for and stays open.

    All signals have to be blocked. A child of fork(2) uses its parent's: nothing is ever mounted in
    it.

    Returns:
        The fd; None where there can't be one, and the host's mounts are to be copied.
    """
    kept = _kept.get("template", _NOT_OPEN)
    if kept is not None and not kept.is_open():
        _kept.pop("template", None)
        made = _make()
        kept = _kept.setdefault("template", made)
        if made is not kept and made is not None:  # another thread came first
            os.close(made.fd)
    return None if kept is None else kept.fd


_NOT_OPEN = _Kept(-1, (0, 0))


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _make() -> _Kept | None:
    """Make it, and try whether the caller may use it; None if not, or not for all he may want."""
    try:
        # in another one a new /proc has to see one that is mounted already: there is none (EPERM).
        # Who is there does not come back; who goes there later may not use it any more (EPERM)
        if not in_first_user_namespace():
            return None
    except OSError:  # no /proc
        return None
    opened: list[int] = []
    options = ((b"size", b"4096"), (b"nr_inodes", b"1"), (b"mode", b"0"))
    carry_out(
        Clone(Namespace.MOUNT),
        SetPropagation(),
        NewMount(b"tmpfs", options, MOUNT_ATTR_RDONLY),
        AttachRoot(),
        PivotRoot(),
        OpenMountNamespace(-1, opened.append),
    )
    for fd in opened:
        trial, report = carry_out(Clone(Namespace(0)), *template_steps(fd))
        if report.index == len(trial) - 1:
            return _Kept(fd, _identity(fd))
        os.close(fd)
    return None

"""Which file a path is inside a container that is not there any more, seen from outside.

A plan says what was mounted where. So a path can be followed by hand, name by name and through no
link that is not read and followed here as well; nothing outside the container's root is touched.
What can't be known this way is `UnknownError`: filesystems with contents of their own, such as proc
or an overlay, and whatever the caller himself may not look at.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import NamedTuple, Self

from pyns import linux, steps
from pyns import mount_steps as filling
from pyns.namespaces import Namespace
from pyns.steps import MOUNT_ATTR_NOEXEC, Step

Names = tuple[bytes, ...]
_LINKS_MAX = 40  # of one path, as for the kernel


class UnknownError(Exception):
    """What lies there can't be known from outside."""


class Fresh:
    """A new tmpfs, in which is what the plan makes: names → what a link says; else None."""

    def __init__(self) -> None:
        self.entries: dict[Names, bytes | None] = {}

    def make(self, names: Names, link: bytes | None = None) -> None:
        """Have an entry, and directories above it."""
        for count in range(1, len(names)):
            self.entries.setdefault(names[:count], None)
        self.entries.setdefault(names, link)


class Place(NamedTuple):
    """Something inside.

    Attributes:
        names: its path inside, without any link.
        fd: of the file, opened with O_PATH; -1 for what lies in a `Fresh`.
        noexec: whether nothing on its mount can be executed.
        fresh: the tmpfs that it lies in.
        within: its path there.
    """

    names: Names
    fd: int = -1
    noexec: bool = False
    fresh: Fresh | None = None
    within: Names = ()

    @property
    def path(self) -> str:
        """The path inside."""
        return os.fsdecode(b"/" + b"/".join(self.names))


class Inside:
    """The files of a container; to be closed by `with`.

    Args:
        plan: all its steps. Those about mounts have been done.

    Raises:
        UnknownError: there is something among the mounts that can't be looked into.
        OSError: likewise, as the caller may not.
    """

    def __init__(self, plan: Iterable[Step]) -> None:
        self._mounts: dict[Names, Place | None] = {}
        self._proc = os.stat("/proc/self").st_dev if os.path.exists("/proc/self") else -1
        with ExitStack() as undo:
            self._undo = undo
            self._mounts[()] = self._opened(b"/")
            self._directory: Names | None = None
            self._aside: deque[Place | None] = deque()
            for step in plan:
                self._note(step)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def find(self, path: bytes) -> Place:
        """Return what a path is to the program.

        Raises:
            UnknownError: it can't be known.
            FileNotFoundError, NotADirectoryError: there is none.
            OSError: the caller may not look (EACCES), or there are too many links (ELOOP).
        """
        if path.startswith(b"/"):
            return self._walk(_names(path))
        if self._directory is None:
            raise UnknownError
        return self._walk((*self._directory, *_names(path)))

    def _opened(self, source: bytes, names: Names = ()) -> Place:
        fd = os.open(source, linux.O_PATH | os.O_CLOEXEC)
        self._undo.callback(os.close, fd)
        noexec = bool(os.statvfs(source).f_flag & linux.ST_NOEXEC)
        return Place(names, fd, noexec)

    # The mount in hand; None: something that is not looked into.
    _hand: Place | None = None
    _joined = False  # another mount namespace, in which a path is something else

    def _note(self, step: Step) -> None:
        hand = self._hand
        match step:
            case steps.SetNamespaces() if Namespace.MOUNT in step.namespaces:
                self._joined = True
                self._mounts = {(): None}
            case steps.NewRoot() | steps.OpenTree() | filling.TakeMount() if self._joined:
                raise UnknownError
            case steps.NewRoot():
                self._mounts = {(): self._opened(step.path)}
            case steps.OpenTree() | filling.TakeMount():
                self._hand = self._opened(step.source) if step.recursive else None
            case steps.NewMount(fstype=b"tmpfs"):
                noexec = bool(step.attributes & MOUNT_ATTR_NOEXEC)
                self._hand = Place((), noexec=noexec, fresh=Fresh())
            case steps.NewMount() | filling.OpenWithin():
                self._hand = None
            case filling.SetAside():
                self._aside.append(hand)
            case filling.TakeUp():
                self._hand = self._aside.popleft()
            case _ if step.takes:
                for _ in range(step.takes):
                    self._aside.popleft()
            case steps.SetAttributes() if hand is not None:
                noexec = hand.noexec or bool(step.attributes & MOUNT_ATTR_NOEXEC)
                self._hand = hand._replace(noexec=noexec)
            case filling.MakeDirectory() | filling.MakeSymlink():
                self._make(step)
            case filling.WriteFile() if hand is not None and hand.fresh is not None:
                hand.fresh.make(_names(step.path))
            case filling.AttachRoot():
                self._mounts = {(): hand}
            case steps.Attach():
                names = self._walk(_names(step.target), makes=True).names
                self._mounts[names] = None if hand is None else hand._replace(names=names)
            case filling.Mask():
                self._mask(step.path)
            case steps.PivotRoot():
                self._directory = ()
            case steps.ChangeDirectory():
                self._directory = self.find(step.path).names
            case filling.SetRootAttributes() if step.attributes & MOUNT_ATTR_NOEXEC:
                raise UnknownError
            case _:
                pass

    def _make(self, step: filling.MakeDirectory | filling.MakeSymlink) -> None:
        link = step.to if isinstance(step, filling.MakeSymlink) else None
        if not step.in_hand:
            self._walk(_names(step.path), makes=True, link=link)
        elif self._hand is not None and self._hand.fresh is not None:
            self._hand.fresh.make(_names(step.path), link)

    def _mask(self, path: bytes) -> None:
        # where nothing is known, it hides nothing that is
        with suppress(FileNotFoundError, NotADirectoryError, UnknownError):
            self._mounts[self._walk(_names(path)).names] = None

    def _walk(self, path: Names, *, makes: bool = False, link: bytes | None = None) -> Place:
        """Follow a path; `makes`: what is missing in a tmpfs is made, at last a link."""
        way = [self._mounted(())]
        rest, links = deque(path), 0
        while rest:
            name = rest.popleft()
            if name == b"..":
                way = way[:-1] or way
                continue
            made = makes, link if not rest else None
            found, text = self._step(way[-1], name, made)
            if text is None:
                way.append(found)
                continue
            links += 1
            if links > _LINKS_MAX:
                raise UnknownError
            if text.startswith(b"/"):
                way = way[:1]
            rest.extendleft(reversed(_names(text)))
        return way[-1]

    def _mounted(self, names: Names) -> Place:
        place = self._mounts[names]
        if place is None:
            raise UnknownError
        return place

    def _step(
        self, place: Place, name: bytes, made: tuple[bool, bytes | None]
    ) -> tuple[Place, bytes | None]:
        """Return what lies there by a name, and what it says if it is a link."""
        names = (*place.names, name)
        if names in self._mounts:
            return self._mounted(names), None
        if place.fresh is not None:
            within = (*place.within, name)
            if made[0] and within not in place.fresh.entries:
                place.fresh.make(within, made[1])
                return Place(names, noexec=place.noexec, fresh=place.fresh, within=within), None
            if within not in place.fresh.entries:
                raise FileNotFoundError(os.fsdecode(name))
            below = Place(names, noexec=place.noexec, fresh=place.fresh, within=within)
            return below, place.fresh.entries[within]
        if os.fstat(place.fd).st_dev == self._proc:
            raise UnknownError  # of a process that is gone
        fd = os.open(name, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.fd)
        self._undo.callback(os.close, fd)
        status = os.fstat(fd)
        text = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(status.st_mode) else None
        noexec = bool(os.fstatvfs(fd).f_flag & linux.ST_NOEXEC)
        # what was asked for the mount of a copy holds for all of it
        return Place(names, fd, noexec or place.noexec), text


def _names(path: bytes) -> Names:
    return tuple(name for name in path.split(b"/") if name not in (b"", b"."))

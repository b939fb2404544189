"""A cgroup: one logical group, a directory in each of several hierarchies.

On v2 all controllers share one directory; on v1 each hierarchy has its own; on a hybrid host the
group has both kinds. Nothing here knows how processes are started.
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Collection
from contextlib import ExitStack
from itertools import starmap
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from pyns import log
from pyns.cgroups import (
    delegation,
    freezing,
    killing,
    limiting,
    moving,
    owning,
    placing,
    v1,
    v2,
)
from pyns.cgroups.entry import Entry, closed_entry, open_entry
from pyns.cgroups.events import KINDS, Kind, Trigger
from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy, current
from pyns.cgroups.limits import Limits
from pyns.cgroups.meter import USAGE, Meter, Run
from pyns.cgroups.stats import ALL_FIELDS, Stats
from pyns.cgroups.watch import Watch
from pyns.errors import CgroupError

_VERSIONS = {1: v1, 2: v2}


class Cgroup:
    """A cgroup of this host, in every hierarchy that it needs.

    It is made by `create`, found by `open`, or the caller's `own`. A context manager: at the end of
    the `with` its processes are killed and it is removed.
    """

    def __init__(self, directories: dict[Hierarchy, Directory]) -> None:
        self._directories = directories
        self._meter = Meter(directories)
        self._watches: WeakSet[Watch] = WeakSet()
        self._was_killed = False  # by cgroup.kill

    @classmethod
    def create(
        cls,
        name: str | None = None,
        *,
        limits: Limits | None = None,
        parent: Cgroup | None = None,
    ) -> Cgroup:
        """Make a cgroup and put its limits into force.

        Args:
            name: of the directories, below the parent; "docker/a1b2" makes `docker` as well if it
                is missing, and that goes with the last group in it. None for a name that says who
                owns it, so that `sweep` knows it.
            limits: what to limit. Their controllers are needed; those that only count are used
                where the caller may.
            parent: the group above. None: `pyns` at the root of each hierarchy, if the caller may
                write there, else the caller's own group (which must be delegated to it).

        Returns:
            The group. It is the caller's to remove.

        Raises:
            ValueError: the name is not one; these limits can't be said on this host's hierarchies.
            CgroupError: the host or the parent lacks a controller (EOPNOTSUPP); it is there already
                (EEXIST); the caller may not (EACCES, EROFS); v2: the parent has processes of its
                own (EBUSY).

        Needs: write access to the parent.
        Source: cgroups(7).

        Example:
            >>> with Cgroup.create(limits=Limits(pids_max=10)) as group:
            ...     group.processes
            []
        """
        limits = limits or Limits()
        *above, name = [placing.private_name()] if name is None else placing.split_name(name)
        paths = None if parent is None else parent._paths()
        needed = limiting.needed_controllers(limits, None if paths is None else list(paths))
        places = placing.places(needed, tuple(above), paths)
        # ValueError before anything is made
        writes = limiting.writes_to_fresh(limits, tuple([p.hierarchy for p in places]))
        limited = {hierarchy for hierarchy, _ in writes}
        group, refusal = cls({}), None
        try:
            for place in places:
                try:
                    group._directories[place.hierarchy] = placing.make(place, name, needed)
                except CgroupError as error:
                    if (
                        place.needed
                        or place.hierarchy in limited
                        or error.errno not in delegation.NOT_ALLOWED
                        or (parent is not None and not owning.is_inside(place.base))
                    ):
                        raise
                    # there is less to count, and no limit is missed
                    refusal = copy.copy(error)  # its traceback would hold this frame
            if not group._directories:
                raise refusal or CgroupError(errno.ENODEV, "make a cgroup: no hierarchy is there")
            for hierarchy, write in writes:
                limiting.put(hierarchy, group._directories[hierarchy], write)
        except BaseException:
            placing.forget()
            for directory in reversed(group._directories.values()):
                directory.remove()
                placing.remove_above(directory.path)
            raise
        if log.is_heard():
            log.debug("made the cgroup %s", ", ".join(group.paths))
        return group

    @classmethod
    def open(cls, name: str, *, parent: Cgroup | None = None) -> Cgroup:
        """Find a cgroup that is there.

        Args:
            name: as for `create`.
            parent: as for `create`.

        Returns:
            The group, in the hierarchies where it is.

        Raises:
            ValueError: the name is not one.
            CgroupError: there is none (ENOENT), or the caller may not look at it (EACCES).

        Needs: nothing.
        Source: cgroups(7).

        Example:
            >>> with Cgroup.create("docker/a1b2") as group:
            ...     Cgroup.open("docker/a1b2").paths == group.paths
            True
        """
        below = "/".join(placing.split_name(name))
        if parent is None:
            bases = {h: "/".join((b, *a)) for h, (b, a) in placing.default_bases().items()}
        else:
            bases = parent._paths()
        found, missing = {}, None
        for hierarchy, base in bases.items():
            try:
                found[hierarchy] = Directory(f"{base}/{below}")
            except CgroupError as error:
                if error.errno != errno.ENOENT:
                    raise
                missing = copy.copy(error)  # its traceback would hold this frame
        if not found:
            raise missing or CgroupError(errno.ENODEV, "open a cgroup: no hierarchy is there")
        return cls(found)

    @classmethod
    def of(cls, pid: int, *, foreign: bool = False) -> Cgroup:
        """Return the cgroup that a process is in.

        Args:
            pid: the process.
            foreign: whether to leave out the hierarchies in which the caller is in the same one.

        Returns:
            The group, in each hierarchy where its directory can be seen.

        Raises:
            FileNotFoundError: there is no such process (ENOENT).

        Needs: nothing.
        Source: cgroups(7).

        Example:
            >>> Cgroup.of(os.getpid()).paths == Cgroup.own().paths
            True
        """
        own = current() if foreign else {}
        directories = {
            hierarchy: hierarchy.directory(path)
            for hierarchy, path in current(pid).items()
            if own.get(hierarchy) != path
        }
        return cls({h: Directory(path) for h, path in directories.items() if path is not None})

    @classmethod
    def own(cls, *, leaf: str | None = None, everyone: bool = False) -> Cgroup:
        """Return the caller's own cgroup, to make children in that stay inside its limits.

        Args:
            leaf: v2: name of a child to move the caller into. v2 hands controllers down only from a
                group that has no processes, so the caller has to leave the group that is to have
                limited children. Where it has moved already, it stays.
            everyone: whether the other processes of the group move along. Without, their presence
                is an error.

        Returns:
            The group that the caller is in, or was in before it moved: a `parent=` for `create`, a
            `cgroup=` for a container with limits. It can't be killed or removed while the caller is
            below it.

        Raises:
            ValueError: the leaf is not a name.
            CgroupError: the group is not delegated to the caller (EACCES), or has other processes
                (EBUSY).

        Needs: write access to the group (delegation) for a leaf.
        Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of the kernel.

        Example:
            >>> Cgroup.own().paths == [h.directory(path) for h, path in current().items()]
            True
        """
        own = cls({})
        try:
            for hierarchy, path in current().items():
                directory = hierarchy.directory(path)
                if directory is not None and hierarchy.version == 2 and leaf is not None:
                    directory = owning.move_into_leaf(directory, leaf, everyone)
                if directory is not None:
                    own._directories[hierarchy] = Directory(directory)
        except BaseException:
            own.close()
            raise
        return own

    @property
    def paths(self) -> list[str]:
        """The directories, one for each hierarchy."""
        return list(self._paths().values())

    @property
    def processes(self) -> list[int]:
        """The pids in it, without those of groups below; none once it is removed."""
        pids: set[int] = set()
        for directory in self._directories.values():
            with killing.gone_is_fine():
                pids.update(directory.pids())
        return sorted(pids)

    @property
    def frozen(self) -> bool:
        """Whether its processes are frozen, by itself or by a group above."""
        return any(starmap(_is_frozen, self._directories.items()))

    def apply(self, limits: Limits) -> None:
        """Put limits into force; those that are None stay as they are.

        Args:
            limits: their controllers must be those of this group.

        Raises:
            ValueError: these limits can't be said on this host's hierarchies.
            CgroupError: the group lacks a controller (EOPNOTSUPP), or the kernel refuses a value;
                `.file` and `.value` say which.

        Needs: write access to the group.
        Source: cgroups(7).

        Example:
            >>> with Cgroup.create(limits=Limits(pids_max=10)) as group:
            ...     group.apply(Limits(pids_max=20))
        """
        offered = list(self._directories)
        needed = limiting.needed_controllers(limits, offered)
        placing.check_offered(needed, offered, "The cgroup")
        for hierarchy, write in limiting.writes_to_living(limits, self._directories):
            limiting.put(hierarchy, self._directories[hierarchy], write)

    def stats(self) -> Stats:
        """Return what its processes have used since it was made.

        Returns:
            The statistics; None for what this host does not count.

        Raises:
            CgroupError: it can't be read (ENODEV: it is removed).

        Needs: read access.
        Source: cgroups(7).

        Example:
            >>> with Cgroup.create(limits=Limits(memory_max="100M")) as group:
            ...     group.stats().oom_kills
            0
        """
        return self._meter.read(ALL_FIELDS)

    def usage(self) -> Stats:
        """Return those statistics that the usage of a process consists of; otherwise as `stats`."""
        return self._meter.read(USAGE)

    @property
    def meter(self) -> Meter:
        """What reads its statistics."""
        return self._meter

    def start_run(self) -> Run:
        """Begin to count what one run uses.

        Raises:
            CgroupError: the group is removed (ENODEV).
        """
        return Run(self._meter)

    def watch(
        self,
        kinds: Kind | Collection[Kind] | None = None,
        *,
        pressure: Trigger | Collection[Trigger] = (),
    ) -> Watch:
        """Begin to wait for what happens to it; a callback is a loop over that, in a thread.

        Args:
            kinds: what to wait for. None: whatever there is here, of:
                "oom_kill" (the OOM killer took a process), "oom" (it was asked to),
                "memory_max", "memory_high", "memory_low" (v2: that limit was hit), "pids_max" (v2:
                a fork was refused), "populated", "empty" (v2: the first process came, the last one
                went), "frozen", "thawed" (v2: by cgroup.freeze), "removed".
                Groups below are included, but on v1.
            pressure: which pressures to wait for besides ("pressure").

        Returns:
            The watch, to be closed. It has what happens from now on. Counts are exact, `count` of
            several at once; states are those at the time of looking, so that one that lasts for
            milliseconds only may be missed. What happens in the last moment before another process
            removes the group may be missed as well.

        Raises:
            ValueError: there is no such kind.
            CgroupError: a kind that was asked for is not to be had here (EOPNOTSUPP); a trigger is
                refused (EINVAL: without CAP_SYS_RESOURCE, its window has to be a multiple of 2
                seconds); the group is removed (ENODEV); the user has too many inotify instances
                (EMFILE).

        Needs: read access; v1 for OOM, and pressure: write access. Pressure in `async for` and
            other event loops: Linux 6.5 or 6.1 with its fixes (in `wait` and `for`: any).
        Source: Documentation/admin-guide/cgroup-v2.rst, Documentation/accounting/psi.rst and
            Documentation/admin-guide/cgroup-v1/memory.rst of the kernel.

        Example:
            >>> with Cgroup.create(limits=Limits(memory_max="100M")) as group:
            ...     with group.watch("oom_kill") as watch:
            ...         watch.wait(timeout=0.01)
        """
        if isinstance(kinds, str):
            kinds = (kinds,)
        for kind in kinds or ():
            if kind not in KINDS or kind == "pressure":
                hint = "that needs pressure=Trigger(...)" if kind == "pressure" else "unknown"
                raise ValueError(f"kinds={kinds!r}: {kind!r}: {hint}")
        triggers = (pressure,) if isinstance(pressure, Trigger) else tuple(pressure)
        watch = Watch(self._directories, kinds, triggers)
        self._watches.add(watch)
        return watch

    def add(self, pid: int) -> None:
        """Move a process into the group, with all its threads; in each hierarchy it leaves another.

        Args:
            pid: the process. One that pyns starts is better born in the group.

        Raises:
            CgroupError: there is no such process (ESRCH); not allowed (EACCES); v2: the group hands
                controllers down (EBUSY) or is threaded (EOPNOTSUPP).

        Needs: write access to the group, and on v2 to the one above both.
        Source: cgroups(7).

        Example:
            >>> with Cgroup.create() as group:
            ...     group.add(4_000_000)  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            pyns.errors.CgroupError: ...
        """
        for directory in self._directories.values():
            try:
                directory.write("cgroup.procs", str(pid))
            except CgroupError as error:
                error.hint = error.hint or moving.why_not_moved(error.errno, directory, pid)
                raise

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop all processes in it and below until `thaw`; returns when they have stopped.

        Args:
            timeout: seconds to wait for that.

        Raises:
            CgroupError: one does not stop in time (ETIMEDOUT); it goes on to be frozen then.

        Needs: write access.
        Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of the kernel (cgroup.freeze).

        Example:
            >>> with Cgroup.create() as group:
            ...     group.freeze()
            ...     group.frozen
            True
        """
        freezing.freeze(*self._freezer(), timeout)

    def thaw(self) -> None:
        """Let frozen processes go on; a group above that is frozen keeps them.

        Raises:
            CgroupError: not allowed (EACCES), or it is removed (ENODEV).

        Needs: write access.
        Source: cgroups(7).

        Example:
            >>> with Cgroup.create() as group:
            ...     group.thaw()
        """
        freezing.thaw(*self._freezer())

    def _freezer(self) -> tuple[Hierarchy, Directory]:
        """Return where it can be frozen, rather v2: all that is in it is in each hierarchy."""
        for hierarchy, directory in reversed(self._directories.items()):
            if hierarchy.version == 2 or "freezer" in hierarchy.controllers:
                return hierarchy, directory
        raise CgroupError(
            errno.EOPNOTSUPP,
            "freeze a cgroup without v2 or the freezer",
            controller="freezer",
            hint="It is removed" if not self._directories else None,
        )

    def wait_empty(self, timeout: float | None = None) -> bool:
        """Wait until no process is in it and below; nothing is killed.

        Args:
            timeout: seconds; None to wait for ever.

        Returns:
            Whether it is empty.

        Raises:
            CgroupError: it can't be read (EACCES).

        Needs: read access.
        Source: cgroups(7) (cgroup.events).

        Example:
            >>> with Cgroup.create() as group:
            ...     group.wait_empty()
            True
        """
        return killing.wait_empty(self._directories, timeout)

    def closed_entry(self, later: Collection[int] = ()) -> Entry:
        """Return how a child would enter it, as `open_entry`, without fds: for a dry run."""
        return closed_entry(self._paths().items(), later)

    def open_entry(self, later: Collection[int], files: ExitStack) -> Entry:
        """Open what a child needs to enter it.

        Args:
            later: the versions of cgroups that its program can enter itself. An init stays out of
                those that it would take memory and a process from.
            files: closes it.

        Raises:
            CgroupError: it is frozen (EBUSY): the child would hang before its first instruction,
                and the thread that cloned it too, even against SIGKILL. Or it is removed (ENODEV).
        """
        if not self._directories:
            raise CgroupError(errno.ENODEV, "enter a cgroup that is removed")
        if self.frozen:
            path = self.paths[0]
            raise CgroupError(
                errno.EBUSY, f"enter the cgroup {path}, which is frozen", file=path, hint="Thaw it"
            )
        return open_entry(self._directories, later, files, was_killed=self._was_killed)

    def kill(self) -> None:
        """Kill every process in it and below (SIGKILL), and wait until they are gone.

        Raises:
            ValueError: the caller itself is in it or below.
            CgroupError: a process does not go within ten seconds (EBUSY), or is in a PID namespace
                that the caller can't see (EPERM).

        Needs: write access (v2), the right to signal the processes (v1).
        Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of the kernel (cgroup.kill).

        Example:
            >>> with Cgroup.create() as group:
            ...     group.kill()
        """
        owning.refuse_if_inside(self._paths())
        self._kill()

    def end_processes(self) -> None:
        """Kill what a run has left, where it is known that the caller is not in the group.

        Who is only in v1's directories was moved there by somebody else, and goes with `remove`.
        """
        of_v2 = [d for h, d in self._directories.items() if h.version == 2]
        if not of_v2 or any(map(killing.is_populated, of_v2)):
            self._kill()

    def begin_to_end(self) -> list[Directory]:
        """Kill them where a single write does it (v2), wait for nothing, and return where."""
        killed = []
        for hierarchy, directory in self._directories.items():
            if hierarchy.version == 2 and killing.is_populated(directory):
                self._was_killed = True
                with killing.gone_is_fine():
                    directory.write("cgroup.kill", "1")
                    killed.append(directory)
        return killed

    def _kill(self) -> None:
        of_v1 = {h: d for h, d in self._directories.items() if h.version == 1}
        for directory in self.begin_to_end():
            killing.wait_killed(directory)
        freezer = next((d for h, d in of_v1.items() if "freezer" in h.controllers), None)
        killing.kill_v1(list(of_v1.values()), freezer)

    def remove(self, *, recursive: bool = True) -> None:
        """Kill what is in it, and remove it with all groups below; harmless when it is gone.

        Args:
            recursive: False to refuse if there are groups below; nothing is killed then.

        Raises:
            ValueError: the caller itself is in it or below.
            CgroupError: as `kill`; there are groups below (ENOTEMPTY).

        Needs: write access to the parent.
        Source: cgroups(7).

        Example:
            >>> group = Cgroup.create()
            >>> group.remove()
        """
        self._note_for_watches()
        for hierarchy, directory in list(self._directories.items()):
            if killing.remove_if_unused(directory):
                self._forget(hierarchy)
        if not self._directories:
            return  # there was nothing to kill
        if not recursive:
            for directory in self._directories.values():
                killing.refuse_children(directory)
        self.kill()
        self.discard()

    def discard(self) -> None:
        """Remove it with all groups below, as `remove`, when it has no processes any more.

        Raises:
            CgroupError: it has processes (EBUSY, after ten seconds).

        Needs: write access to the parent.
        Source: cgroups(7).

        Example:
            >>> group = Cgroup.create()
            >>> group.discard()
        """
        self._note_for_watches()
        for hierarchy, directory in list(self._directories.items()):
            killing.remove(directory)
            self._forget(hierarchy)

    def _note_for_watches(self) -> None:
        for watch in list(self._watches):
            watch.note()

    def _forget(self, hierarchy: Hierarchy) -> None:
        directory = self._directories.pop(hierarchy)
        log.debug("removed the cgroup %s", directory.path)
        placing.remove_above(directory.path)
        directory.close()

    def close(self) -> None:
        """Let go of the group, which stays: for one that was found by `open` or `own`.

        Needs: nothing.
        Source: close(2).

        Example:
            >>> group = Cgroup.own()
            >>> group.close()
            >>> group.paths
            []
        """
        while self._directories:
            self._directories.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Cgroup {', '.join(self.paths) or 'removed'}>"

    def __copy__(self) -> Self:
        return self  # it stands for a thing of the host's, of which there is one

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def _paths(self) -> dict[Hierarchy, str]:
        return {hierarchy: directory.path for hierarchy, directory in self._directories.items()}


def _is_frozen(hierarchy: Hierarchy, directory: Directory) -> bool:
    if hierarchy.version == 1:
        return "freezer" in hierarchy.controllers and v1.is_frozen(directory.read_if_there)
    events = directory.kept_text("cgroup.events") or ""
    if "populated 0" in events:  # nobody is to stop first, so it does not lag
        return "frozen 1" in events
    return v2.is_frozen(directory.read_if_there) or _freezing_above(hierarchy, directory)


def _freezing_above(hierarchy: Hierarchy, directory: Directory) -> bool:
    """Whether a v2 group above is to be frozen; cgroup.events tells only when all have stopped."""
    path = os.path.dirname(directory.path)
    while len(path) > len(hierarchy.mount_point):
        with killing.gone_is_fine(), Directory(path) as above:
            if v2.is_frozen(above.read_if_there):
                return True
        path = os.path.dirname(path)
    return False


def planned_entry(
    limits: Limits | None, parent: Cgroup | None, later: Collection[int] = ()
) -> Entry:
    """Return how a child would enter a group that `Cgroup.create` would make; makes nothing."""
    paths = None if parent is None else parent._paths()
    offered = None if paths is None else list(paths)
    needed = limiting.needed_controllers(limits or Limits(), offered)
    places = placing.places(needed, (), paths)
    return closed_entry(((p.hierarchy, f"{p.parent}/<new>") for p in places), later)

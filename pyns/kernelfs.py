"""The kernel's own filesystems: processes, devices' drivers, terminals, queues, cgroups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyns.cgroups import Hierarchy, hierarchies
from pyns.mount_steps import MakeDirectory, MakeSymlink
from pyns.mounts import Mount, StrPath, check_bools, check_mode, encode_target
from pyns.steps import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    Attach,
    NewMount,
    SetAttributes,
    Step,
)

_INERT = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
_HIDEPID = {0: b"0", 1: b"1", 2: b"2", 4: b"4", "ptraceable": b"4"}


@dataclass(frozen=True)
class Proc(Mount):
    """The process filesystem of the new PID namespace, nosuid, nodev and noexec.

    Args:
        target: where, inside.
        hidepid: what is seen of the processes of other users: None or 0 all, 1 that they are
            there, 2 nothing; 4 or "ptraceable": only the processes that one may ptrace. With 1
            and 2, whoever is in group 0 sees all.
        subset: "pid" leaves out all that is not about processes: /proc/sys, /proc/kcore, ...

    Raises:
        ValueError: the target is not absolute, is "/" or contains ".."; no such hidepid or subset.

    Needs: CAP_SYS_ADMIN in the mount and PID namespaces.
    Source: proc(5).

    Example:
        >>> Proc(hidepid="ptraceable")
        Proc(target='/proc', hidepid='ptraceable', subset=None)
    """

    target: StrPath = "/proc"
    hidepid: int | str | None = None
    subset: str | None = None

    def __post_init__(self) -> None:
        encode_target(self.target)
        if self.hidepid is not None and self.hidepid not in _HIDEPID:
            raise ValueError(f'hidepid={self.hidepid!r}: there are 0, 1, 2 and 4, "ptraceable"')
        if self.subset not in (None, "pid"):
            raise ValueError(f'subset={self.subset!r}: there is "pid"')

    def steps(self) -> Iterator[Step]:
        """Yield: make it, attach it."""
        options: list[tuple[bytes, bytes]] = []
        if self.hidepid is not None:
            options.append((b"hidepid", _HIDEPID[self.hidepid]))
        if self.subset is not None:
            options.append((b"subset", self.subset.encode()))
        yield NewMount(b"proc", tuple(options), _INERT)
        yield Attach(self.place)


@dataclass(frozen=True)
class Sysfs(Mount):
    """The kernel's view of devices and drivers, with the network devices of the new namespace.

    All else in it is the host's, so it is read-only unless told otherwise; nosuid, nodev, noexec.

    Args:
        target: where, inside.
        read_only: nothing can be written.

    Raises:
        ValueError: the target is not absolute, is "/" or contains "..".

    Needs: CAP_SYS_ADMIN in the network namespace, so in a user namespace a network namespace of
        its own.
    Source: sysfs(5).

    Example:
        >>> Sysfs()
        Sysfs(target='/sys', read_only=True)
    """

    target: StrPath = "/sys"
    read_only: bool = True

    def __post_init__(self) -> None:
        encode_target(self.target)
        check_bools(self, "read_only")

    def steps(self) -> Iterator[Step]:
        """Yield: make it, attach it."""
        yield NewMount(b"sysfs", (), _INERT | (MOUNT_ATTR_RDONLY if self.read_only else 0))
        yield Attach(self.place)


@dataclass(frozen=True)
class Mqueue(Mount):
    """The POSIX message queues of the new IPC namespace, nosuid, nodev and noexec.

    Args:
        target: where, inside.

    Raises:
        ValueError: the target is not absolute, is "/" or contains "..".

    Needs: CAP_SYS_ADMIN in the IPC namespace.
    Source: mq_overview(7).

    Example:
        >>> Mqueue()
        Mqueue(target='/dev/mqueue')
    """

    target: StrPath = "/dev/mqueue"

    def __post_init__(self) -> None:
        encode_target(self.target)

    def steps(self) -> Iterator[Step]:
        """Yield: make it, attach it."""
        yield NewMount(b"mqueue", (), _INERT)
        yield Attach(self.place)


@dataclass(frozen=True)
class Devpts(Mount):
    """Pseudo-terminals of the container's own, nosuid and noexec.

    Every mount of it is a new instance: the caller's terminals are not in it. /dev/ptmx has to be
    a link to its `ptmx`, as `Dev` makes it.

    Args:
        target: where, inside.
        mode: permission bits of a new terminal.
        gid: group of a new terminal, a number inside; None for that of who opens it.
        ptmxmode: permission bits of ptmx. The kernel's default, 0, lets nobody open it.
        max: how many terminals at most; None for the kernel's limit (kernel.pty.max).

    Raises:
        ValueError: the target is not absolute, is "/" or contains ".."; a number is out of range.

    Needs: CAP_SYS_ADMIN in the mount namespace.
    Source: pts(4).

    Example:
        >>> Devpts(gid=5, max=16).max
        16
    """

    target: StrPath = "/dev/pts"
    mode: int = 0o620
    gid: int | None = None
    ptmxmode: int = 0o666
    max: int | None = None

    def __post_init__(self) -> None:
        encode_target(self.target)
        check_mode(self.mode, 0o777)
        check_mode(self.ptmxmode, 0o777)
        # a max of 0 is none to the kernel
        for name, smallest, largest in (("gid", 0, 2**32 - 2), ("max", 1, 2**20)):
            number = getattr(self, name)
            if number is not None and not smallest <= number <= largest:
                raise ValueError(f"{name}={number!r} is out of range: {smallest} to {largest}")

    def steps(self) -> Iterator[Step]:
        """Yield: make it, attach it."""
        options = [(b"mode", b"%o" % self.mode), (b"ptmxmode", b"%o" % self.ptmxmode)]
        if self.gid is not None:
            options.append((b"gid", b"%d" % self.gid))
        if self.max is not None:
            options.append((b"max", b"%d" % self.max))
        yield NewMount(b"devpts", tuple(options), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
        yield Attach(self.place)


@dataclass(frozen=True)
class CgroupFs(Mount):
    """The cgroups that the container is in, read-only.

    In a CGROUP namespace the topmost directory is the container's own group; without one, all
    groups of the host can be read. Where the host has v2 alone, `target` is that hierarchy.
    Elsewhere it is a directory with one for each: `memory`, `cpu,cpuacct`, ..., `unified` for v2.

    Args:
        target: where, inside.
        hierarchies: those to mount; None for all that the caller sees mounted.

    Raises:
        ValueError: the target is not absolute, is "/" or contains "..".

    Needs: CAP_SYS_ADMIN in the mount and cgroup namespaces; a mounted /proc, outside.
    Source: cgroups(7), cgroup_namespaces(7).

    Example:
        >>> CgroupFs()
        CgroupFs(target='/sys/fs/cgroup', hierarchies=None)
    """

    target: StrPath = "/sys/fs/cgroup"
    hierarchies: tuple[Hierarchy, ...] | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the steps are the same each time: not where the host is looked at."""
        return self.hierarchies is not None

    def __post_init__(self) -> None:
        encode_target(self.target)

    def steps(self) -> Iterator[Step]:
        """Yield: make the one; or a directory for all, and in it each."""
        found = hierarchies() if self.hierarchies is None else self.hierarchies
        if [h.version for h in found] == [2]:
            yield _new_hierarchy(found[0])
            yield Attach(self.place)
            return
        names = [_directory_of(hierarchy) for hierarchy in found]
        # a writable one could not be used to write cgroups either, but to fill memory
        limits = ((b"mode", b"755"), (b"size", b"4096"), (b"nr_inodes", b"256"))
        yield NewMount(b"tmpfs", limits, _INERT)
        for name, hierarchy in zip(names, found, strict=True):
            yield MakeDirectory(b"/" + name, in_hand=True)
            for controller in hierarchy.controllers if hierarchy.version == 1 else ():
                if controller.encode() != name:
                    yield MakeSymlink(b"/" + controller.encode(), in_hand=True, to=name)
        yield SetAttributes(MOUNT_ATTR_RDONLY)
        yield Attach(self.place)
        for name, hierarchy in zip(names, found, strict=True):
            yield _new_hierarchy(hierarchy)
            yield Attach(self.place + b"/" + name)


def _directory_of(hierarchy: Hierarchy) -> bytes:
    if hierarchy.version == 2:
        return b"unified"
    return (",".join(hierarchy.controllers) or hierarchy.name).encode()


def _new_hierarchy(hierarchy: Hierarchy) -> NewMount:
    """Return the step that mounts it, from the caller's cgroup namespace's root on."""
    if hierarchy.version == 2:
        return NewMount(b"cgroup2", (), _INERT | MOUNT_ATTR_RDONLY)
    options = [(controller.encode(), b"") for controller in hierarchy.controllers]
    if hierarchy.name:
        options.append((b"name", hierarchy.name.encode()))
    if not hierarchy.controllers:
        options.append((b"none", b""))
    return NewMount(b"cgroup", tuple(options), _INERT | MOUNT_ATTR_RDONLY)

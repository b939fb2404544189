"""What a container is: a frozen description, checked before anything starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyns.capabilities import parse_capabilities
from pyns.cgroups import Cgroup, Limits
from pyns.idmap import IdMap, check_maps
from pyns.joining import Target, check_join
from pyns.mounts import Mount, Proc, StrPath, encode_path
from pyns.namespaces import Namespace
from pyns.rlimits import Rlimit, Rlimits, parse_rlimits
from pyns.seccomp import check_filter

if TYPE_CHECKING:
    from pyns.command import Arguments
    from pyns.plan import Plan

DEFAULT_NAMESPACES = (
    Namespace.MOUNT
    | Namespace.UTS
    | Namespace.IPC
    | Namespace.PID
    | Namespace.NET
    | Namespace.CGROUP
)
_CLOCKS = ("monotonic", "boottime")
_NAME_MAX = 64  # __NEW_UTS_LEN of the kernel


@dataclass(frozen=True, kw_only=True)
class Container:
    """What to isolate, and how.

    Everything that is not said stays as the caller has it.

    Args:
        namespaces: those to make; the rest is shared with the caller. `Namespace(0)` makes none.
        root: directory of the caller's that becomes /; None keeps the caller's.
        mounts: in this order, after the root. None: a fresh /proc if MOUNT and PID are new. Given
            ones are taken as they are, so /proc is among them when it is wanted.
        hostname: at most 64 bytes.
        domainname: NIS domain name, at most 64 bytes.
        loopback: whether lo is brought up. None: if NET is new.
        join: namespaces to be in that are there: Namespace.NET → path of its file, pid of a process
            that is in it, or an open file (of a namespace, or a pidfd).
        uid_map: which uids there are in a new USER namespace, and which these are outside. None:
            the caller's own, as the same. An unprivileged caller who asks for any namespace gets
            USER with it: it lends him the right to the others.
        gid_map: likewise. Unless the caller is privileged, his supplementary groups stay, and
            can't be changed.
        time_offsets: by how many seconds "monotonic" and "boottime" are ahead, in a new TIME
            namespace.
        cgroup: a group to be in. It is not removed.
        limits: limits of a group of its own, made for it below `cgroup` (or below the default
            parent, see `Cgroup.create`) and removed after it.
        rlimits: resource limits of the process (prlimit(2)): "nofile" → a number for both, or
            (soft, hard), or "unlimited". nproc counts all processes of its user, also outside.
        capabilities: those that the program keeps, by name ("net_bind_service"), in all five sets
            (effective, permitted, inheritable, bounding, ambient), also as another user; () drops
            all. None: as the caller has them, and as execve(2) and the uid make them.
        no_new_privileges: whether execve grants it nothing: no set-user-ID, no file capabilities.
        seccomp: filter of its system calls, raw BPF as `pyns.seccomp` makes it. Needs
            no_new_privileges, or CAP_SYS_ADMIN that the program keeps.
        die_with_parent: whether it is killed when the caller dies, even by SIGKILL. What counts
            is the end of the *thread* that starts it. A set-user-ID program lifts it,
            unless no_new_privileges.

    Raises:
        ValueError: the combination makes no sense; the message says what is missing.

    Needs: nothing, where unprivileged user namespaces are allowed; else CAP_SYS_ADMIN to make
        namespaces. Write access to cgroups for limits. Linux 6.2 for TIME.
    Source: namespaces(7), user_namespaces(7), time_namespaces(7), cgroups(7).

    Example:
        >>> box = Container(hostname="demo", limits=Limits(memory_max="100M"))
        >>> print(box.plan(["true"]))  # doctest: +ELLIPSIS
         1. ...
    """

    namespaces: Namespace = DEFAULT_NAMESPACES
    root: StrPath | None = None
    mounts: Sequence[Mount] | None = None
    hostname: str | bytes | None = None
    domainname: str | bytes | None = None
    loopback: bool | None = None
    join: Mapping[Namespace, Target] | tuple[tuple[Namespace, Target], ...] = ()
    uid_map: Sequence[IdMap] | None = None
    gid_map: Sequence[IdMap] | None = None
    time_offsets: Mapping[str, float] | tuple[tuple[str, float], ...] = ()
    cgroup: Cgroup | None = None
    limits: Limits | None = None
    # hardening
    rlimits: Mapping[str, Rlimit] | Rlimits | None = None
    capabilities: Collection[str] | None = None
    no_new_privileges: bool = False
    seccomp: bytes | None = None
    die_with_parent: bool = False

    def __post_init__(self) -> None:
        self._normalise()
        self._check_types()
        self._check_hardening()
        if self.root is not None:
            encode_path("root", self.root)
        for name in ("hostname", "domainname"):
            _check_name(name, getattr(self, name))
        for name, value, namespace in (
            ("root", self.root, Namespace.MOUNT),
            ("mounts", self.mounts, Namespace.MOUNT),
            ("hostname", self.hostname, Namespace.UTS),
            ("domainname", self.domainname, Namespace.UTS),
            ("loopback", self.loopback, Namespace.NET),
            ("uid_map", self.uid_map, Namespace.USER),
            ("gid_map", self.gid_map, Namespace.USER),
            ("time_offsets", self.time_offsets, Namespace.TIME),
        ):
            if value and namespace not in self.namespaces:
                raise ValueError(
                    f"{name}={value!r} would be the caller's own: add Namespace.{namespace.name}"
                )

    @property
    def all_mounts(self) -> tuple[Mount, ...]:
        """The mounts, with the fresh /proc where none were given."""
        if self.mounts is not None:
            return tuple(self.mounts)
        fresh = Namespace.MOUNT | Namespace.PID
        return (Proc(),) if self.namespaces & fresh == fresh else ()

    @property
    def joined(self) -> Namespace:
        """The kinds of namespaces that are joined."""
        kinds = Namespace(0)
        for kind in dict(self.join):
            kinds |= kind
        return kinds

    @property
    def joins(self) -> tuple[tuple[Namespace, Target], ...]:
        """The namespaces to join, each with where it is found."""
        return tuple(dict(self.join).items())

    @property
    def has_loopback(self) -> bool:
        """Whether lo is brought up."""
        return Namespace.NET in self.namespaces if self.loopback is None else self.loopback

    @property
    def may_hide_cwd(self) -> bool:
        """Whether the caller's directory may be below one of the mounts."""
        return self.root is None and bool(self.all_mounts)

    def _normalise(self) -> None:
        """Make a tuple of what may be an iterator, or changed later."""
        for name in ("mounts", "uid_map", "gid_map"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        join = self.join if isinstance(self.join, Mapping) else dict(self.join)
        object.__setattr__(self, "join", check_join(join))
        offsets = self.time_offsets
        pairs = offsets.items() if isinstance(offsets, Mapping) else offsets
        object.__setattr__(self, "time_offsets", tuple(pairs))

    def _check_types(self) -> None:
        for name in ("uid_map", "gid_map"):
            maps = getattr(self, name) or ()
            if not all(isinstance(item, IdMap) for item in maps):
                raise TypeError(f"{name}={maps!r}: give IdMap(inside, outside, count), ...")
            check_maps(name, maps)
        for clock, seconds in tuple(self.time_offsets):
            if clock not in _CLOCKS:
                raise ValueError(f"time_offsets: {clock!r} is no clock; there are {_CLOCKS}")
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f"time_offsets: {clock}={seconds!r} is not a number of seconds")
            if not abs(seconds) < 2**53:
                raise ValueError(f"time_offsets: {clock}={seconds!r} is out of range")
        if not isinstance(self.namespaces, Namespace):
            raise TypeError(
                f"namespaces={self.namespaces!r}: give Namespace.PID | ... , or parse()"
            )
        if both := self.namespaces & self.joined:
            raise ValueError(f"{both.words()}: either a new one, or join one")
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise TypeError(f"limits={self.limits!r}: give Limits(...)")
        if self.cgroup is not None and not isinstance(self.cgroup, Cgroup):
            raise TypeError(f"cgroup={self.cgroup!r}: give a pyns.cgroups.Cgroup")
        if self.loopback is not None and not isinstance(self.loopback, bool):
            raise TypeError(f"loopback={self.loopback!r} is not a bool")
        for mount in self.mounts or ():
            if not isinstance(mount, Mount):
                raise TypeError(
                    f"mounts: {mount!r} is not a mount, as Bind(...), Tmpfs(...), Proc()"
                )

    def _check_hardening(self) -> None:
        """Check what restricts the program, and keep each in its one form."""
        for name in ("no_new_privileges", "die_with_parent"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r} is not a bool")
        if self.rlimits is not None:
            object.__setattr__(self, "rlimits", parse_rlimits(self.rlimits))
        if self.capabilities is not None:
            object.__setattr__(self, "capabilities", parse_capabilities(self.capabilities))
        if self.seccomp is not None:
            check_filter(self.seccomp)
            self._check_privilege_of("seccomp")

    def _check_privilege_of(self, name: str) -> None:
        kept = self.capabilities
        if not self.no_new_privileges and kept is not None and "cap_sys_admin" not in kept:
            raise ValueError(f"{name} without CAP_SYS_ADMIN: add no_new_privileges=True")

    def plan(self, args: Arguments) -> Plan:
        """Return the steps that starting a program would take, without starting anything.

        Args:
            args: as for `clone_into`.

        Returns:
            The plan; `print` it. fds that would be opened for it are -1, and the name of a cgroup
            that would be made is <new>.

        Raises:
            ValueError: args makes no sense.
            CgroupError: the host lacks a controller that the limits need (EOPNOTSUPP).

        Needs: nothing.

        Example:
            >>> box = Container(namespaces=Namespace(0))
            >>> [step.kind for step in box.plan(["true"])][-2:]
            ['restore_signal_mask', 'execute']
        """
        # the only import upwards: a description that can show its plan is worth it
        from pyns.plan import dry_run

        return dry_run(self, args)


def _check_name(what: str, name: str | bytes | None) -> None:
    if name is None:
        return
    if not name:
        raise ValueError(f"{what} is empty: leave it out, or give a name")
    encoded = encode_path(what, name)
    if len(encoded) > _NAME_MAX:
        raise ValueError(f"{what}={name!r} is longer than the kernel's {_NAME_MAX} bytes")

"""What a container is: a frozen description, checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyns.cgroups import Cgroup, Limits
from pyns.entries import arrange
from pyns.kernelfs import Proc
from pyns.mounts import Mount, StrPath, encode_path, encode_target
from pyns.namespaces import Namespace
from pyns.steps import SetPropagation

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
_NOT_YET = Namespace.USER | Namespace.TIME
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
        read_only: the root is read-only, with all that was mounted below it outside. The `mounts`
            say for themselves: a Tmpfs can be written. Their targets are made before.
        masked_paths: absolute paths inside that are hidden: files read as empty, directories are.
            Missing ones are passed over. `pyns.masks.MASKED_PATHS` are Docker's.
        read_only_paths: absolute paths inside that are read-only, with all mounts below. Missing
            ones are passed over. `pyns.masks.READ_ONLY_PATHS` are Docker's.
        propagation: of every mount. "private": mounts of the host do not appear inside, nor the
            other way round. "slave": what the host mounts or unmounts later appears inside, below
            what is a copy of the host's and was shared there; never the other way round. "shared":
            as private, and namespaces that are made inside share mounts with the container.
            "unbindable": as private, and nothing inside can be bound elsewhere.
        hostname: at most 64 bytes.
        domainname: NIS domain name, at most 64 bytes.
        loopback: whether lo is brought up. None: if NET is new.
        cgroup: a group to be in. It is not removed.
        limits: limits of a group of its own, made for it below `cgroup` (or below the default
            parent, see `Cgroup.create`) and removed after it.

    Raises:
        ValueError: the combination makes no sense; the message says what is missing.

    Needs: CAP_SYS_ADMIN to make namespaces; write access to cgroups for limits.
    Source: namespaces(7), cgroups(7).

    Example:
        >>> box = Container(hostname="demo", limits=Limits(memory_max="100M"))
        >>> print(box.plan(["true"]))  # doctest: +ELLIPSIS
         1. ...
    """

    namespaces: Namespace = DEFAULT_NAMESPACES
    root: StrPath | None = None
    mounts: Sequence[Mount] | None = None
    read_only: bool = False
    masked_paths: Sequence[StrPath] = ()
    read_only_paths: Sequence[StrPath] = ()
    propagation: str = "private"
    hostname: str | bytes | None = None
    domainname: str | bytes | None = None
    loopback: bool | None = None
    cgroup: Cgroup | None = None
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if self.mounts is not None:
            # once: it may be an iterator
            object.__setattr__(self, "mounts", tuple(self.mounts))
        for name in ("masked_paths", "read_only_paths"):
            object.__setattr__(self, name, _paths(name, getattr(self, name)))
        self._check_types()
        self._check_mounts()
        if missing := self.namespaces & _NOT_YET:
            raise ValueError(f"namespaces: {missing.words()} is not supported yet")
        if self.root is not None:
            encode_path("root", self.root)
        for name in ("hostname", "domainname"):
            _check_name(name, getattr(self, name))
        for name, value, namespace in (
            ("root", self.root, Namespace.MOUNT),
            ("mounts", self.mounts, Namespace.MOUNT),
            ("read_only", self.read_only, Namespace.MOUNT),
            ("masked_paths", self.masked_paths, Namespace.MOUNT),
            ("read_only_paths", self.read_only_paths, Namespace.MOUNT),
            ("propagation", self.propagation.replace("private", ""), Namespace.MOUNT),
            ("hostname", self.hostname, Namespace.UTS),
            ("domainname", self.domainname, Namespace.UTS),
            ("loopback", self.loopback, Namespace.NET),
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
    def has_loopback(self) -> bool:
        """Whether lo is brought up."""
        return Namespace.NET in self.namespaces if self.loopback is None else self.loopback

    @property
    def may_hide_cwd(self) -> bool:
        """Whether the caller's directory may be below one of the mounts."""
        return self.root is None and bool(self.all_mounts or self.masked_paths)

    def _check_types(self) -> None:
        if not isinstance(self.namespaces, Namespace):
            raise TypeError(
                f"namespaces={self.namespaces!r}: give Namespace.PID | ... , or parse()"
            )
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise TypeError(f"limits={self.limits!r}: give Limits(...)")
        if self.cgroup is not None and not isinstance(self.cgroup, Cgroup):
            raise TypeError(f"cgroup={self.cgroup!r}: give a pyns.cgroups.Cgroup")
        if self.loopback is not None and not isinstance(self.loopback, bool):
            raise TypeError(f"loopback={self.loopback!r} is not a bool")
        if not isinstance(self.read_only, bool):
            raise TypeError(f"read_only={self.read_only!r} is not a bool")
        for mount in self.mounts or ():
            if not isinstance(mount, Mount):
                raise TypeError(
                    f"mounts: {mount!r} is not a mount, as Bind(...), Tmpfs(...), Proc()"
                )

    def _check_mounts(self) -> None:
        arrange(self.all_mounts, has_root=self.root is not None)
        if self.propagation not in SetPropagation.FLAGS:
            known = ", ".join(SetPropagation.FLAGS)
            raise ValueError(f"propagation={self.propagation!r}: there are {known}")

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
            >>> box = Container(namespaces=Namespace.UTS, hostname="demo")
            >>> [step.kind for step in box.plan(["true"])][:2]
            ['clone', 'set_hostname']
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


def _paths(what: str, paths: Sequence[StrPath]) -> tuple[StrPath, ...]:
    if isinstance(paths, (str, bytes)):
        raise TypeError(f"{what}={paths!r}: give a sequence of paths")
    paths = tuple(paths)
    for path in paths:
        encode_target(path, what)
    return paths

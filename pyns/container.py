"""What a container is: a frozen description, checked before anything starts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyns.capabilities import parse_capabilities
from pyns.cgroups import Cgroup, Limits
from pyns.command import encode_environment
from pyns.entries import arrange
from pyns.idmap import Caller, IdMap, check_maps
from pyns.joining import check_join
from pyns.kernelfs import Proc
from pyns.labels import check_label
from pyns.landlock import Landlock
from pyns.mounts import (
    Bind,
    Filesystem,
    Mount,
    StrPath,
    check_bools,
    encode_path,
    encode_target,
)
from pyns.namespaces import Namespace
from pyns.namespaces.targets import Target
from pyns.networking import Network
from pyns.rlimits import Rlimit, Rlimits, parse_rlimits
from pyns.scheduling import check_int, parse_cpus
from pyns.seccomp import check_filter
from pyns.steps import SetPropagation

if TYPE_CHECKING:
    from pyns.command import Arguments, Environment
    from pyns.plan import Plan

DEFAULT_NAMESPACES = (
    Namespace.MOUNT
    | Namespace.UTS
    | Namespace.IPC
    | Namespace.PID
    | Namespace.NET
    | Namespace.CGROUP
)
# files of /proc/sys/user: of each user namespace
USER_LIMITS = ("max_user_namespaces", "max_inotify_instances")
# what is a program's own, rather than its namespaces' or its cgroup's
_OF_PROGRAM = (
    "rlimits",
    "capabilities",
    "no_new_privileges",
    "seccomp",
    "landlock",
    "new_session",
    "new_keyring",
    "reset_signals",
    "die_with_parent",
    "oom_score_adj",
    "nice",
    "cpu_affinity",
    "timer_slack_ns",
    "core_scheduling",
    "apparmor_profile",
    "selinux_label",
    "env",
)
_CLOCKS = ("monotonic", "boottime")
_NAME_MAX = 64  # __NEW_UTS_LEN of the kernel


@dataclass(frozen=True, kw_only=True)
class Container:
    """What to isolate, and how.

    Everything that is not said stays as the caller has it.

    Args:
        namespaces: those to make; the rest is shared with the caller. `Namespace(0)` makes none.
        root: directory of the caller's that becomes /; or a new filesystem, `Tmpfs("/")` or
            `Overlay("/", ...)`; None keeps the caller's.
        mounts: in this order, after the root. None: a fresh /proc if MOUNT and PID are new. Given
            ones are taken as they are, so /proc is among them when it is wanted.
        read_only: the root is read-only, with all that was mounted below it outside. The `mounts`
            say for themselves: a Tmpfs can be written. Their targets are made before.
        nosuid: likewise for set-user-ID, set-group-ID and file capabilities in the root.
        nodev: likewise for devices, which can't be opened in the root then.
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
        network: devices beside lo: Veth, Device, UserNetwork. See docs/network.md.
        join: namespaces to be in that are there: Namespace.NET → path of its file, pid of a process
            that is in it, or an open file: a `Process`, `Fd(pidfd)`, that of a namespace.
        uid_map: which uids there are in a new USER namespace, and which these are outside. None:
            the caller's own, as the same. An unprivileged caller who asks for any namespace gets
            USER with it: it lends him the right to the others. A privileged one whose program keeps
            no `capabilities` enters USER when all else is done: what is mounted is looked up and
            made as himself, and the other namespaces are not the program's.
        gid_map: likewise. Unless the caller is privileged, his supplementary groups stay, and
            can't be changed.
        max_user_namespaces: how many user namespaces may be made inside; 0 forbids them. Takes
            `capabilities` without CAP_SYS_RESOURCE, with which it could be raised again.
        max_inotify_instances: how many inotify instances (inotify(7)) there may be inside. They are
            the caller's, too, who has 128 as a rule. Takes the same.
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
        landlock: files, ports and processes that it may reach. Needs what seccomp needs.
        new_session: whether it leads a session, without the caller's terminal, so that neither
            kill(0) nor TIOCSTI reaches what is outside.
        new_keyring: whether it has a session keyring of its own. Those of its user stay within
            reach of that user, whatever the namespaces: `pyns.seccomp.default` refuses keyctl.
        reset_signals: whether every signal has its default action and none is blocked, whatever the
            caller ignores and blocks.
        die_with_parent: whether it is killed when the caller dies, even by SIGKILL. What counts
            is the end of the *thread* that starts it. A set-user-ID program lifts it,
            unless no_new_privileges.
        oom_score_adj: from -1000 (never) to 1000 (first of all).
        nice: nice value, -20 to 19; not added to the caller's.
        cpu_affinity: numbers of the CPUs that it may run on.
        timer_slack_ns: how late its timers may be, in nanoseconds; 0: as those of the thread that
            starts it.
        core_scheduling: whether it and its children share a CPU core with nobody else at a time,
            against what SMT siblings can spy out. Needs SMT, and CONFIG_SCHED_CORE.
        apparmor_profile: AppArmor profile that it runs under.
        selinux_label: SELinux context that it runs in.
        env: environment where `clone_into` is given none; None: the caller's.
        init: whether pyns-init is PID 1, and the program its child: it passes signals on, reaps
            orphans and ends with the program. Its memory and process count for the caller's cgroup,
            not for `limits`. See docs/pid1.md.

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
    root: StrPath | Filesystem | None = None
    mounts: Sequence[Mount] | None = None
    read_only: bool = False
    nosuid: bool = False
    nodev: bool = False
    masked_paths: Sequence[StrPath] = ()
    read_only_paths: Sequence[StrPath] = ()
    propagation: str = "private"
    hostname: str | bytes | None = None
    domainname: str | bytes | None = None
    loopback: bool | None = None
    network: Sequence[Network] = ()
    join: Mapping[Namespace, Target] | tuple[tuple[Namespace, Target], ...] = ()
    uid_map: Sequence[IdMap] | None = None
    gid_map: Sequence[IdMap] | None = None
    max_user_namespaces: int | None = None
    max_inotify_instances: int | None = None
    time_offsets: Mapping[str, float] | tuple[tuple[str, float], ...] = ()
    cgroup: Cgroup | None = None
    limits: Limits | None = None
    # hardening
    rlimits: Mapping[str, Rlimit] | Rlimits | None = None
    capabilities: Collection[str] | None = None
    no_new_privileges: bool = False
    seccomp: bytes | None = None
    landlock: Landlock | None = None
    new_session: bool = False
    new_keyring: bool = False
    reset_signals: bool = False
    die_with_parent: bool = False
    oom_score_adj: int | None = None
    nice: int | None = None
    cpu_affinity: Collection[int] | None = None
    timer_slack_ns: int | None = None
    core_scheduling: bool = False
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    env: Environment | tuple[tuple[str, StrPath], ...] | None = None
    init: bool = False

    def __post_init__(self) -> None:
        self._normalise()
        for name in ("masked_paths", "read_only_paths"):
            object.__setattr__(self, name, _paths(name, getattr(self, name)))
        self._check_types()
        self._check_mounts()
        self._check_network()
        self._check_hardening()
        for name in ("hostname", "domainname"):
            _check_name(name, getattr(self, name))
        for name, value, namespace in (
            ("root", self.root, Namespace.MOUNT),
            ("mounts", self.mounts, Namespace.MOUNT),
            ("read_only", self.read_only, Namespace.MOUNT),
            ("nosuid", self.nosuid, Namespace.MOUNT),
            ("nodev", self.nodev, Namespace.MOUNT),
            ("masked_paths", self.masked_paths, Namespace.MOUNT),
            ("read_only_paths", self.read_only_paths, Namespace.MOUNT),
            ("propagation", self.propagation.replace("private", ""), Namespace.MOUNT),
            ("hostname", self.hostname, Namespace.UTS),
            ("domainname", self.domainname, Namespace.UTS),
            ("loopback", self.loopback, Namespace.NET),
            ("network", self.network, Namespace.NET),
            ("uid_map", self.uid_map, Namespace.USER),
            ("gid_map", self.gid_map, Namespace.USER),
            *((name, getattr(self, name) is not None, Namespace.USER) for name in USER_LIMITS),
            ("time_offsets", self.time_offsets, Namespace.TIME),
            ("init", self.init, Namespace.PID),
        ):
            if value and namespace not in self.namespaces:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} would be the caller's own: "
                    f"add Namespace.{namespace.name}"
                )

    @cached_property
    def setups(self) -> dict[Any, Any]:
        """What was built of it, for the next time: no part of the description."""
        return {}

    @cached_property
    def all_mounts(self) -> tuple[Mount, ...]:
        """The mounts, with the fresh /proc where none were given."""
        return default_mounts(self.namespaces) if self.mounts is None else tuple(self.mounts)

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
    def environment(self) -> Environment | None:
        """The environment where none is given; None: the caller's."""
        return None if self.env is None else dict(self.env)

    @property
    def has_loopback(self) -> bool:
        """Whether lo is brought up."""
        return Namespace.NET in self.namespaces if self.loopback is None else self.loopback

    @cached_property
    def needs_parent(self) -> bool:
        """Whether the child may have to wait for something that only its parent can do."""
        return bool(self.uid_map or self.gid_map or self.network or self.maps_mounts)

    @cached_property
    def maps_mounts(self) -> bool:
        """Whether mounts with other ids are to be made for it by the parent."""
        return any(isinstance(mount, Bind) and mount.idmap for mount in self.all_mounts)

    @cached_property
    def may_hide_cwd(self) -> bool:
        """Whether the caller's directory may be below one of the mounts."""
        return self.root is None and bool(self.all_mounts or self.masked_paths)

    @classmethod
    def sandbox(
        cls,
        root: StrPath | Filesystem | None = None,
        *,
        mounts: Sequence[Mount] = (),
        host_id: int = 65534,
        **fields: Any,
    ) -> Container:
        """Return the container for code that nobody trusts.

        It is in new namespaces of every kind but TIME, with a read-only root, /proc with Docker's
        masks, a minimal /dev and an empty /tmp of 256 MiB; it reaches no network, has no
        capabilities, can't gain any, makes no user namespace and only the system calls of
        `pyns.seccomp.default`; it dies with the caller. What it is protected from, and what not:
        docs/sandbox.md.

        Args:
            root: as for a Container. None: the host's programs and libraries (/usr and what of /etc
                they need), and nothing else of the host's.
            mounts: after those of the preset. It can write /tmp and what is mounted writable here.
            host_id: uid and gid that it has outside, if the caller is privileged; others can only
                lend their own. Inside it is 1000. What else runs under this id shares its files.
            fields: of a Container, in place of the preset's. `limits`, if not given: 1 GiB of
                memory, no swap and 256 processes where the caller may have a cgroup, which is
                tried; else none but the rlimits, which leave memory unlimited. Given ones are never
                left out, and with `cgroup` neither are the preset's.

        Returns:
            The container; print its `plan`, or use `dataclasses.replace`.

        Raises:
            ValueError: `host_id` is that of root, or none of the caller's user namespace; or a
                combination makes no sense.

        Needs: nothing, where unprivileged user namespaces are allowed. Write access to cgroups for
            limits.
        Source: namespaces(7), capabilities(7), seccomp(2).

        Example:
            >>> box = Container.sandbox(limits=None)
            >>> box.capabilities, box.no_new_privileges, box.max_user_namespaces
            ((), True, 0)
        """
        from pyns.sandbox import check_host_id, possible_limits, preset

        caller = Caller.current()
        if not {"uid_map", "gid_map"} <= fields.keys():
            check_host_id(host_id, caller)
        chosen = preset(root, tuple(mounts), caller, host_id) | fields
        if "limits" not in fields:
            chosen["limits"] = possible_limits(chosen.get("cgroup"))
        return cls(**chosen)

    @classmethod
    def from_toml(cls, text: str) -> Container:
        """Return the container that a TOML document describes, as `to_toml` writes it.

        Args:
            text: a table of fields. Mounts and networks are tables with a `type`: "bind", "tmpfs",
                "proc", ..., "veth"; namespaces are names; id maps [inside, outside, count]; what is
                no UTF-8 is {base64 = "..."}; seccomp may be "default".

        Raises:
            ValueError: it is no TOML, an unknown name, or no value; the message says where.
            CgroupError: there is no such `cgroup`.

        Needs: nothing.
        Source: https://toml.io

        Example:
            >>> box = Container.from_toml('limits = {memory_max = "100M"}')
            >>> box == Container(limits=Limits(memory_max="100M"))
            True
        """
        from pyns import description

        return description.from_toml(text)

    def to_toml(self) -> str:
        """Return it as a TOML document: the fields that are not the default.

        Raises:
            ValueError: `join` holds an open file, or `cgroup` is not below the default parent.

        Needs: nothing.
        Source: https://toml.io

        Example:
            >>> from pyns import Tmpfs
            >>> print(Container(hostname="box", mounts=[Tmpfs("/tmp", size="64M")]).to_toml())
            hostname = "box"
            <BLANKLINE>
            [[mounts]]
            type = "tmpfs"
            target = "/tmp"
            size = "64M"
            <BLANKLINE>
        """
        from pyns import description

        return description.to_toml(self)

    @classmethod
    def from_json(cls, text: str) -> Container:
        """Return the container that a JSON object describes; otherwise as `from_toml`.

        Args:
            text: as `to_json` writes it.

        Raises:
            ValueError: it is no JSON, an unknown name, or no value; the message says where.
            CgroupError: there is no such `cgroup`.

        Needs: nothing.
        Source: RFC 8259.

        Example:
            >>> Container.from_json('{"namespaces": ["pid", "mount"]}').namespaces.words()
            'mount, pid'
        """
        from pyns import description

        return description.from_json(text)

    def to_json(self) -> str:
        """Return it as a JSON object; otherwise as `to_toml`.

        Raises:
            ValueError: `join` holds an open file, or `cgroup` is not below the default parent.

        Needs: nothing.
        Source: RFC 8259.

        Example:
            >>> print(Container(hostname="box").to_json())
            {
              "hostname": "box"
            }
        """
        from pyns import description

        return description.to_json(self)

    @classmethod
    def from_oci(cls, path: StrPath) -> Container:
        """Return the container of an OCI bundle, as runc and crun run it.

        The program, its user and its directory are no part of a container: `pyns.oci.Bundle` has
        them as well, and `pyns run BUNDLE` runs it.

        Args:
            path: the bundle's directory, or its config.json.

        Returns:
            The container; for each thing that is asked for and not done there is a UserWarning.

        Raises:
            FileNotFoundError, PermissionError: it can't be read.
            ValueError: it is no configuration, or one that no container can have.

        Needs: nothing.
        Source: https://github.com/opencontainers/runtime-spec

        Example:
            >>> Container.from_oci("/does/not/exist")
            Traceback (most recent call last):
            FileNotFoundError: [Errno 2] No such file or directory: '/does/not/exist'
        """
        from pyns import oci

        bundle = oci.Bundle.read(os.fsdecode(path))
        for sentence in bundle.not_honoured:
            warnings.warn(f"not honoured: {sentence}", stacklevel=2)
        return bundle.container

    def _normalise(self) -> None:
        """Make a tuple of what may be an iterator, or changed later."""
        for name in ("mounts", "network", "uid_map", "gid_map"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        join = self.join if isinstance(self.join, Mapping) else dict(self.join)
        object.__setattr__(self, "join", check_join(join))
        if self.env is not None:
            environment = dict(self.env)
            encode_environment(environment)  # ValueError for what can't be one
            object.__setattr__(self, "env", tuple(environment.items()))
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
        check_bools(self, "read_only", "nosuid", "nodev", "init")
        for mount in self.mounts or ():
            if not isinstance(mount, Mount):
                raise TypeError(
                    f"mounts: {mount!r} is not a mount, as Bind(...), Tmpfs(...), Proc()"
                )

    def _check_hardening(self) -> None:
        """Check what restricts the program, and keep each in its one form."""
        for name in (
            "no_new_privileges",
            "new_session",
            "new_keyring",
            "reset_signals",
            "die_with_parent",
            "core_scheduling",
        ):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r} is not a bool")
        if self.rlimits is not None:
            object.__setattr__(self, "rlimits", parse_rlimits(self.rlimits))
        if self.capabilities is not None:
            object.__setattr__(self, "capabilities", parse_capabilities(self.capabilities))
        if self.seccomp is not None:
            check_filter(self.seccomp)
            self._check_privilege_of("seccomp")
        if self.landlock is not None:
            if not isinstance(self.landlock, Landlock):
                raise TypeError(f"landlock={self.landlock!r}: give Landlock(...)")
            self._check_privilege_of("landlock")
        for name in USER_LIMITS:
            check_int(name, getattr(self, name), 0, 2**31 - 1)
            if getattr(self, name) is not None and (
                self.capabilities is None or "cap_sys_resource" in self.capabilities
            ):
                raise ValueError(
                    f"{name} could be raised again by the program: add capabilities=(...) "
                    "without sys_resource"
                )
        check_int("oom_score_adj", self.oom_score_adj, -1000, 1000)
        check_int("nice", self.nice, -20, 19)
        check_int("timer_slack_ns", self.timer_slack_ns, 0, 2**63 - 1)
        if self.cpu_affinity is not None:
            object.__setattr__(self, "cpu_affinity", parse_cpus(self.cpu_affinity))
        check_label("apparmor_profile", self.apparmor_profile)
        check_label("selinux_label", self.selinux_label)

    def _check_privilege_of(self, name: str) -> None:
        kept = self.capabilities
        if not self.no_new_privileges and kept is not None and "cap_sys_admin" not in kept:
            raise ValueError(f"{name} without CAP_SYS_ADMIN: add no_new_privileges=True")

    def _check_mounts(self) -> None:
        if isinstance(self.root, Mount):
            if not self.root.can_be_root or self.root.place != b"/":
                raise ValueError(
                    f'root={self.root!r}: give a path, Tmpfs("/") or Overlay("/", ...)'
                )
        elif self.root is not None:
            encode_path("root", self.root)
        for mount in self.all_mounts:
            if mount.place == b"/":
                raise ValueError(f"{mount!r} is the root: that is Container(root=...)")
            if (
                isinstance(mount, Bind)
                and isinstance(mount.idmap, Namespace)
                and (Namespace.USER not in self.namespaces or () in (self.uid_map, self.gid_map))
            ):
                raise ValueError(f"{mount!r}: add Namespace.USER, with ids in uid_map and gid_map")
        arrange(self.all_mounts, has_root=self.root is not None)
        if self.propagation not in SetPropagation.FLAGS:
            known = ", ".join(SetPropagation.FLAGS)
            raise ValueError(f"propagation={self.propagation!r}: there are {known}")

    def _check_network(self) -> None:
        for network in self.network:
            if not isinstance(network, Network):
                raise TypeError(f"network: {network!r} is no Veth(...), Device(...), UserNetwork()")
        names = ["lo", *(network.inside for network in self.network)]
        if len(set(names)) != len(names):
            raise ValueError(f"network: two devices have one name, of {', '.join(names)}")
        if sum(network.reaches_all for network in self.network) > 1:
            raise ValueError("network: one UserNetwork reaches all that a second one would")

    def of_program(self) -> dict[str, Any]:
        """Return the fields that another program in the same namespaces needs again.

        Example:
            >>> Container(nice=5).of_program()["nice"]
            5
        """
        return {name: getattr(self, name) for name in _OF_PROGRAM}

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


def default_mounts(namespaces: Namespace) -> tuple[Mount, ...]:
    """Return what is mounted where nothing is said: a fresh /proc for new processes."""
    fresh = Namespace.MOUNT | Namespace.PID
    return (Proc(),) if namespaces & fresh == fresh else ()


def _paths(what: str, paths: Sequence[StrPath]) -> tuple[StrPath, ...]:
    if isinstance(paths, (str, bytes)):
        raise TypeError(f"{what}={paths!r}: give a sequence of paths")
    paths = tuple(paths)
    for path in paths:
        encode_target(path, what)
    return paths

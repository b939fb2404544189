"""What an OCI bundle's config.json asks for, as a container; and what of it is not honoured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyns.cgroups import IoMax, Limits
from pyns.container import Container
from pyns.devices import Dev
from pyns.idmap import IdMap
from pyns.kernelfs import CgroupFs, Devpts, Mqueue, Proc, Sysfs
from pyns.links import Device
from pyns.mounts import Bind, Mount, Tmpfs
from pyns.namespaces import Namespace
from pyns.overlay import Overlay
from pyns.rlimits import INFINITY
from pyns.steps import SetPropagation

_NAMESPACES = {
    "mount": Namespace.MOUNT,
    "cgroup": Namespace.CGROUP,
    "uts": Namespace.UTS,
    "ipc": Namespace.IPC,
    "user": Namespace.USER,
    "pid": Namespace.PID,
    "network": Namespace.NET,
    "time": Namespace.TIME,
}
_NODES = {"null", "zero", "full", "random", "urandom", "tty"}  # Dev has them anyway
# what a runtime allows whatever the rules say (runtime-spec, config-linux.md)
_ALLOWED_DEVICES = (
    *("c *:* m", "b *:* m"),
    *(f"c {number} rwm" for number in ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:2", "136:*")),
)
_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
# mount options that are so anyway, or say nothing
_NO_OPTIONS = {"rw", "defaults", "relatime", "newinstance", "private", "rprivate", "exec", "async"}


@dataclass(frozen=True)
class Bundle:
    """An OCI bundle: a container, the program in it, and what pyns does not do for it.

    Args:
        container: what to isolate.
        args: the program and its arguments; () if the bundle names none.
        options: of `clone_into`: cwd, user, group, extra_groups, umask.
        terminal: whether it is to have a terminal; or its rows and columns.
        not_honoured: what was asked for and is not done, in words, each with its place.

    Example:
        >>> Bundle.of({"ociVersion": "1.0.2", "linux": {"sysctl": {"a": "1"}}}).not_honoured
        ("linux.sysctl.a: '1'",)
    """

    container: Container
    args: tuple[str, ...]
    options: dict[str, Any]
    terminal: bool | tuple[int, int]
    not_honoured: tuple[str, ...]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read a bundle.

        Args:
            path: its directory, or its config.json.

        Raises:
            FileNotFoundError, PermissionError: it can't be read.
            ValueError: it is no configuration, or one that no container can have.

        Needs: nothing.
        Source: https://github.com/opencontainers/runtime-spec
        """
        import json  # only here, as it takes a millisecond

        file = os.path.join(path, "config.json") if os.path.isdir(path) else os.fspath(path)
        with open(file, encoding="utf-8") as lines:
            try:
                return cls.of(json.load(lines), os.path.dirname(os.path.abspath(file)))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{file}: {error}") from None

    @classmethod
    def of(cls, config: Mapping[str, Any], directory: str = ".") -> Bundle:
        """Return what a configuration asks for.

        Args:
            config: as in config.json.
            directory: of the bundle, which paths in it begin at.

        Raises:
            ValueError: it is no configuration, or one that no container can have.
        """
        if not is_oci(config):
            raise ValueError("no ociVersion: this is no configuration of an OCI runtime")
        asked = _Asked(config)
        asked.take("ociVersion")
        asked.take("annotations")  # for people and tools: a runtime does nothing with them
        return _bundle(asked, directory)


def is_oci(config: Any) -> bool:
    """Whether it is a configuration of an OCI runtime."""
    return isinstance(config, Mapping) and "ociVersion" in config


class _Asked:
    """What a configuration asks for: what is taken is honoured, what is left is not.

    Args:
        config: the configuration; it stays as it is.
    """

    def __init__(self, config: Any) -> None:
        self.left = _copy(config)
        self.refused: list[str] = []

    def take(self, path: str, default: Any = None) -> Any:
        """Return and remove what is at a path; `default` if there is nothing."""
        *above, name = path.split(".")
        table = self.left
        for each in above:
            table = table.get(each) or {}
        value = table.pop(name, None)
        return default if value is None else value

    def refuse(self, place: str, value: Any) -> None:
        """Note what is not honoured."""
        self.refused.append(f"{place}: {value!r}")

    def all_refused(self) -> tuple[str, ...]:
        """Return what is not honoured, what is left included."""
        return (*self.refused, *_leaves("", self.left))


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(each) for key, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list) else value


def _leaves(place: str, value: Any) -> Iterator[str]:
    """Yield what is left, but for empty tables and lists, which ask for nothing."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(f"{place}.{key}" if place else key, each)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for index, each in enumerate(value):
            yield from _leaves(f"{place}[{index}]", each)
    elif value not in (None, [], False, ""):
        yield f"{place}: {value!r}"


def _bundle(asked: _Asked, directory: str) -> Bundle:
    fields: dict[str, Any] = {}
    fields["namespaces"], fields["join"] = _namespaces(asked)
    root = asked.take("root.path")
    if root is not None:
        fields["root"] = os.path.join(directory, root)
    fields["read_only"] = bool(asked.take("root.readonly", False))
    for name in ("hostname", "domainname"):
        fields[name] = asked.take(name) or None
    fields["uid_map"] = _id_map(asked.take("linux.uidMappings", []))
    fields["gid_map"] = _id_map(asked.take("linux.gidMappings", []))
    fields["mounts"] = _mounts(asked, directory)
    shows_groups = any(isinstance(mount, CgroupFs) for mount in fields["mounts"])
    if shows_groups and Namespace.CGROUP not in {*fields["namespaces"], *fields["join"]}:
        # runc binds the container's own groups there, to be all that is seen
        fields["namespaces"] |= Namespace.CGROUP
        asked.refuse("linux.namespaces", "without cgroup: it is new, for the mount of cgroups")
    for ours, theirs in (("masked_paths", "maskedPaths"), ("read_only_paths", "readonlyPaths")):
        fields[ours] = tuple(asked.take(f"linux.{theirs}", ()))
    propagation = asked.take("linux.rootfsPropagation", "private")
    fields["propagation"] = {f"r{p}": p for p in SetPropagation.FLAGS}.get(propagation, propagation)
    fields["time_offsets"] = {
        clock: offset.get("secs", 0) + offset.get("nanosecs", 0) / 10**9
        for clock, offset in asked.take("linux.timeOffsets", {}).items()
    }
    fields["network"] = [
        Device(name, name=inside.get("name"))
        for name, inside in asked.take("linux.netDevices", {}).items()
    ]
    limits = _limits(asked)
    fields["limits"] = Limits(**limits) if limits else None
    fields |= _rights(asked)
    rules = asked.take("linux.seccomp")
    if rules:
        asked.refuse(
            "linux.seccomp", f"{rules.get('defaultAction')} but for the calls that it names"
        )
    args = tuple(asked.take("process.args", ()))
    options, terminal = _process(asked, in_user=Namespace.USER in fields["namespaces"])
    container = Container(**fields)
    return Bundle(container, args, options, terminal, asked.all_refused())


def _namespaces(asked: _Asked) -> tuple[Namespace, dict[Namespace, str]]:
    new, join = Namespace(0), {}
    for each in asked.take("linux.namespaces", []):
        kind = _NAMESPACES.get(each.get("type"))
        if kind is None:
            asked.refuse("linux.namespaces", each)
        elif each.get("path"):
            join[kind] = each["path"]
        else:
            new |= kind
    return new, join


def _id_map(mappings: Sequence[Mapping[str, int]]) -> tuple[IdMap, ...] | None:
    maps = [IdMap(each["containerID"], each["hostID"], each["size"]) for each in mappings]
    return tuple(maps) or None


def _process(asked: _Asked, *, in_user: bool) -> tuple[dict[str, Any], bool | tuple[int, int]]:
    """Return the options for the program, and its terminal."""
    options: dict[str, Any] = {}
    for name, path in (("cwd", "cwd"), ("user", "user.uid"), ("group", "user.gid")):
        value = asked.take(f"process.{path}")
        if value is not None:
            options[name] = value
    groups = asked.take("process.user.additionalGids", ())
    # nobody without privileges may have others in a user namespace
    if groups or not in_user:
        options["extra_groups"] = tuple(groups)
    umask = asked.take("process.user.umask")
    if umask is not None:
        options["umask"] = umask
    size = asked.take("process.consoleSize")
    terminal: bool | tuple[int, int] = bool(asked.take("process.terminal", False))
    if terminal and size:
        terminal = (size["height"], size["width"])
    return options, terminal


def _rights(asked: _Asked) -> dict[str, Any]:
    """Return the fields about what the program may."""
    fields: dict[str, Any] = {
        "no_new_privileges": bool(asked.take("process.noNewPrivileges", False)),
        "oom_score_adj": asked.take("process.oomScoreAdj"),
        "apparmor_profile": asked.take("process.apparmorProfile") or None,
        "selinux_label": asked.take("process.selinuxLabel") or None,
    }
    given = asked.take("process.capabilities")
    if given is not None:
        kept = set(given.get("bounding") or ())
        fields["capabilities"] = tuple(kept)
        for name in _SETS[1:]:
            other = set(given.get(name) or ())
            if other != kept:
                asked.refuse(
                    f"process.capabilities.{name}", f"not that of bounding: {sorted(other)}"
                )
    limits = asked.take("process.rlimits", [])
    fields["rlimits"] = {
        each["type"].removeprefix("RLIMIT_").lower(): (
            min(each["soft"], INFINITY),
            min(each["hard"], INFINITY),
        )
        for each in limits
    }
    pairs = (pair.partition("=") for pair in asked.take("process.env", []))
    fields["env"] = {name: value for name, _, value in pairs}
    return fields


def _mounts(asked: _Asked, directory: str) -> list[Mount]:
    """Return the mounts; what lies in /dev is that of Dev."""
    made: list[Mount] = []
    place: int | None = None
    dev = Dev()
    for index, each in enumerate(asked.take("mounts", [])):
        at = f"mounts[{index}] ({each.get('destination')})"
        options = _Options([str(option) for option in each.get("options") or ()])
        for name in ("uidMappings", "gidMappings"):
            if each.get(name):
                asked.refuse(f"{at}.{name}", each[name])
        kind, target = each.get("type"), each.get("destination")
        if kind == "tmpfs" and target == "/dev":
            place = len(made)
            dev = replace(
                dev, size=options.text("size", dev.size, str.upper), read_only=options.flag("ro")
            )
            options.ignore("mode=755", "nosuid", "noexec")
        elif place is not None and (kind, target) in _IN_DEV:
            dev = replace(dev, **_IN_DEV[kind, target](options))
        else:
            mount = _mount(kind, each, options, directory)
            if mount is None:
                asked.refuse(at, f"type {kind!r}")
                continue
            made.append(mount)
        for option in options.left:
            asked.refuse(at, option)
    devices = asked.take("linux.devices", [])
    if place is not None:
        found = {node for device in devices if (node := _node(device)) is not None}
        made.insert(place, replace(dev, extra=sorted(found - _NODES)))
        devices = [device for device in devices if _node(device) is None]
    for device in devices:
        asked.refuse("linux.devices", device)
    return made


def _node(device: Mapping[str, Any]) -> str | None:
    """Return the name below /dev of a device that the host has at the same place."""
    path = str(device.get("path", ""))
    try:
        number = os.stat(path).st_rdev
    except OSError:
        return None
    same = (os.major(number), os.minor(number)) == (device.get("major"), device.get("minor"))
    return path.removeprefix("/dev/") if same and path.startswith("/dev/") else None


class _Options:
    """The options of one mount: what is taken is honoured, what is left is not."""

    def __init__(self, options: list[str]) -> None:
        self.left = [option for option in options if option not in _NO_OPTIONS]

    def flag(self, *names: str) -> bool:
        """Whether one of these is among them."""
        found = [name for name in names if name in self.left]
        self.ignore(*found)
        return bool(found)

    def text(self, name: str, default: Any = None, read: Callable[[str], Any] = str) -> Any:
        """Return the value of one."""
        for option in self.left:
            key, equals, value = option.partition("=")
            if key == name and equals:
                self.left.remove(option)
                return read(value)
        return default

    def ignore(self, *options: str) -> None:
        """Take what is so anyway."""
        self.left = [option for option in self.left if option not in options]


def _octal(text: str) -> int:
    return int(text, 8)


def _pts(options: _Options) -> dict[str, Any]:
    options.ignore("nosuid", "noexec", "ptmxmode=0666", "mode=0620")
    return {"pts_gid": options.text("gid", None, int), "pts_max": options.text("max", None, int)}


def _shm(options: _Options) -> dict[str, Any]:
    options.ignore("nosuid", "noexec", "nodev", "mode=1777")
    return {"shm_size": options.text("size", "64M", str.upper)}


def _queues(options: _Options) -> dict[str, Any]:
    options.ignore("nosuid", "noexec", "nodev")
    return {"mqueue": True}


_IN_DEV: dict[tuple[Any, Any], Callable[[_Options], dict[str, Any]]] = {
    ("devpts", "/dev/pts"): _pts,
    ("tmpfs", "/dev/shm"): _shm,  # noqa: S108  the container's own
    ("mqueue", "/dev/mqueue"): _queues,
}


def _mount(
    kind: str | None, each: Mapping[str, Any], options: _Options, directory: str
) -> Mount | None:
    """Return one mount that is not in /dev; None if there is none like it here."""
    target = each["destination"]
    if options.flag("bind") | options.flag("rbind"):
        given = each.get("options") or ()
        return Bind(
            os.path.join(directory, each["source"]),
            target,
            read_only=options.flag("ro", "rro"),
            recursive="rbind" in given,
            nosuid=options.flag("nosuid"),
            nodev=options.flag("nodev"),
            noexec=options.flag("noexec"),
        )
    if kind == "tmpfs":
        options.ignore("nosuid", "nodev")
        return Tmpfs(
            target,
            size=options.text("size", None, str.upper),
            mode=options.text("mode", 0o1777, _octal),
            inodes=options.text("nr_inodes", None, int),
            noexec=options.flag("noexec"),
            read_only=options.flag("ro"),
        )
    if kind == "overlay":
        return Overlay(
            target,
            lower=options.text("lowerdir", "").split(":"),
            upper=options.text("upperdir"),
            work=options.text("workdir"),
            userxattr=options.flag("userxattr"),
            read_only=options.flag("ro"),
            nosuid=options.flag("nosuid"),
            nodev=options.flag("nodev"),
            noexec=options.flag("noexec"),
        )
    options.ignore("nosuid", "noexec", "nodev")
    if kind == "proc":
        hidepid = options.text("hidepid", None, lambda text: int(text) if text.isdigit() else text)
        return Proc(target, hidepid=hidepid, subset=options.text("subset"))
    if kind == "sysfs":
        return Sysfs(target, read_only=options.flag("ro"))
    if kind in ("cgroup", "cgroup2"):
        options.ignore("ro")
        return CgroupFs(target)
    if kind == "mqueue":
        return Mqueue(target)
    if kind == "devpts":
        return Devpts(
            target,
            mode=options.text("mode", 0o620, _octal),
            gid=options.text("gid", None, int),
            ptmxmode=options.text("ptmxmode", 0, _octal),
            max=options.text("max", None, int),
        )
    return None


def _limits(asked: _Asked) -> dict[str, Any]:
    """Return the limits of its cgroup."""

    def take(path: str) -> Any:
        return asked.take(f"linux.resources.{path}")

    limits: dict[str, Any] = {}
    memory, swap = take("memory.limit"), take("memory.swap")
    limits["memory_max"] = _or_max(memory)
    limits["memory_low"] = max(0, take("memory.reservation") or 0) or None
    if swap is not None:
        # v1's: of both together
        limits["memory_swap_max"] = "max" if swap < 0 else max(0, swap - (memory or 0))
    limits["pids_max"] = _or_max(take("pids.limit"))
    shares = take("cpu.shares")
    if shares:
        limits["cpu_weight"] = 1 + (shares - 2) * 9999 // 262142  # as runc and crun convert it
    period = take("cpu.period") or 100_000
    quota, burst = take("cpu.quota"), take("cpu.burst")
    if quota:
        limits["cpu_max"] = "max" if quota < 0 else quota / period
    if burst:
        limits["cpu_max_burst"] = burst / period
    if take("cpu.idle"):
        limits["cpu_idle"] = True
    limits["cpuset_cpus"], limits["cpuset_mems"] = take("cpu.cpus"), take("cpu.mems")
    pages = {each["pageSize"]: each["limit"] for each in take("hugepageLimits") or ()}
    limits["hugetlb_max"] = pages or None
    limits["io_weight"] = take("blockIO.weight")
    limits["io_max"] = _throttles(take) or None
    limits["devices"] = _device_rules(take("devices") or ())
    limits["extra"] = take("unified") or None
    return {name: value for name, value in limits.items() if value not in (None, "")}


def _or_max(value: int | None) -> int | str | None:
    """Return a limit, whose word for none is a negative number."""
    return "max" if value is not None and value <= 0 else value


def _throttles(take: Callable[[str], Any]) -> tuple[IoMax, ...]:
    found: dict[str, dict[str, int]] = {}
    for ours, theirs in (
        ("rbps", "ReadBps"),
        ("wbps", "WriteBps"),
        ("riops", "ReadIOPS"),
        ("wiops", "WriteIOPS"),
    ):
        for each in take(f"blockIO.throttle{theirs}Device") or ():
            device = f"{each['major']}:{each['minor']}"
            found.setdefault(device, {})[ours] = each["rate"]
    return tuple(IoMax(device, **rates) for device, rates in found.items())


def _device_rules(rules: Sequence[Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Return what is allowed, if all is denied first; what comes later adds to it."""
    if not rules:
        return None
    allowed: list[str] | None = None
    for rule in rules:
        everything = rule.get("type", "a") == "a" and rule.get("major") is None
        if everything:
            allowed = None if rule["allow"] else []
        elif rule["allow"] and allowed is not None:
            number = ":".join(str(_or_star(rule.get(part))) for part in ("major", "minor"))
            allowed.append(f"{rule['type']} {number} {rule.get('access', 'rwm')}")
        elif not rule["allow"]:
            raise ValueError(f"linux.resources.devices: {dict(rule)!r} takes away what was allowed")
    return None if allowed is None else (*_ALLOWED_DEVICES, *allowed)


def _or_star(number: int | None) -> int | str:
    return "*" if number is None or number < 0 else number

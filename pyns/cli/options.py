"""The options that say what a container is: each field of Container and Limits has one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import click

from pyns import seccomp
from pyns.capabilities import NAMES, last_of_kernel
from pyns.cgroups import Cgroup, IoMax, Limits
from pyns.cgroups.values import numbers
from pyns.cli.failing import sentence_of
from pyns.container import DEFAULT_NAMESPACES, USER_LIMITS, Container, default_mounts
from pyns.entries import Symlink
from pyns.idmap import IdMap
from pyns.kernelfs import Proc
from pyns.landlock import Landlock
from pyns.mounts import Bind, Mount, Tmpfs
from pyns.namespaces import Namespace
from pyns.steps import SetPropagation

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # it is not generic in click 8.2

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

# for the help, without a look at what they are
TYPES_OF_MOUNTS = (
    *("bind", "cgroup", "dev", "devpts", "dir", "file", "mqueue", "overlay", "proc"),
    *("symlink", "sysfs", "tmpfs"),
)
TYPES_OF_NETWORKS = ("device", "user", "veth")

Environment = dict[str, str]


@dataclass
class Given:
    """What the options of one command line have said so far, in their order.

    Attributes:
        base: what they are about: of a file, or None for the default.
        sandbox: whether the preset for code that nobody trusts is.
        fields: of the container.
        limits: of its cgroup.
        mounts: after those of what they are about.
        proc: whether there is a fresh /proc by default.
        environment: what has to be done with it.
        process: options of subprocess.Popen.
    """

    base: Container | None = None
    sandbox: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    proc: bool = True
    environment: list[Callable[[Environment], Any]] = field(default_factory=list)
    process: dict[str, Any] = field(default_factory=dict)

    @property
    def namespaces(self) -> Namespace:
        """Those that are new, as far as is known."""
        default = DEFAULT_NAMESPACES if self.base is None else self.base.namespaces
        if self.sandbox:
            default = ~Namespace.TIME
        found: Namespace = self.fields.get("namespaces", default)
        return found

    def so_far(self, name: str) -> Any:
        """Return what a field has by now, of those that take several values."""
        before = () if self.base is None else getattr(self.base, name)
        return self.fields.get(name, before or ())

    def unshare(self, namespaces: Namespace) -> None:
        """Have these, too."""
        self.fields["namespaces"] = self.namespaces | namespaces

    def share(self, namespaces: Namespace) -> None:
        """Have all but these."""
        self.fields["namespaces"] = self.namespaces & ~namespaces

    def container(self) -> Container:
        """Return the container that all of it makes; ValueError for what makes no sense."""
        box = self.base or Container(namespaces=Namespace(0))
        if self.sandbox:
            chosen = {
                name: self.fields[name] for name in ("uid_map", "gid_map") if name in self.fields
            }
            box = Container.sandbox(self.fields.get("root"), **chosen)
        changed = {"namespaces": self.namespaces} | self.fields
        if self.limits:
            before = {} if box.limits is None else box.limits.given()
            changed["limits"] = Limits(**before | self.limits)
        changed["mounts"] = self._mounts(box, changed["namespaces"])
        if self.environment:
            changed["env"] = self.changed_environment(box)
        return replace(box, **changed)

    def changed_environment(self, box: Container | None) -> Environment:
        """Return the environment of a container, or the caller's, with what is to be changed."""
        of_box = None if box is None else box.environment
        environment: Environment = dict(os.environ if of_box is None else of_box)  # type: ignore[arg-type]
        for change in self.environment:
            change(environment)
        return environment

    def _mounts(self, box: Container, namespaces: Namespace) -> tuple[Mount, ...] | None:
        before = default_mounts(namespaces) if box.mounts is None else box.mounts
        if not self.proc:
            before = [mount for mount in before if not isinstance(mount, Proc)]
        return (*before, *self.mounts) or (None if Namespace.MOUNT not in namespaces else ())


class ContainerOption(click.Option):
    """An option whose occurrences are carried out in the order of the command line.

    Args:
        names: as click has them.
        about: a sentence.
        sets: the fields that it is for: "hostname", "limits.pids_max", "process.cwd".
        does: what it does with what has been given.
        attributes: as click has them.

    Attributes:
        section: of the help.
    """

    section = ""

    def __init__(
        self,
        names: str,
        about: str,
        sets: str,
        does: Callable[[Given, Any], Any],
        **attributes: Any,
    ) -> None:
        super().__init__(names.split(), help=about, **attributes)
        self.sets = tuple(sets.split())
        self.does = does

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Return how its value goes on; as a path, if it is no word that there is."""
        from click.shell_completion import CompletionItem

        return super().shell_complete(ctx, incomplete) or [CompletionItem(incomplete, type="file")]


def _to(name: str) -> Callable[[Given, Any], None]:
    """Return what sets a field to the value that was given."""

    def put(given: Given, value: Any) -> None:
        given.fields[name] = value

    return put


def _more(name: str) -> Callable[[Given, Any], None]:
    """Return what adds the value that was given to a field."""

    def add(given: Given, value: Any) -> None:
        given.fields[name] = (*given.so_far(name), value)

    return add


def _pair(name: str) -> Callable[[Given, tuple[Any, Any]], None]:
    """Return what adds a name and its value to a field."""

    def add(given: Given, pair: tuple[Any, Any]) -> None:
        given.fields[name] = dict(given.so_far(name)) | dict([pair])

    return add


def _limit(name: str) -> Callable[[Given, Any], None]:
    """Return what sets a limit; more than one value if it is a list or a mapping."""

    def put(given: Given, value: Any) -> None:
        if name in ("io_max", "devices"):
            value = (*given.limits.get(name, ()), value)
        elif name in ("hugetlb_max", "extra") or isinstance(value, tuple):
            value = given.limits.get(name, {}) | dict([value])
        given.limits[name] = value

    return put


def _process(name: str) -> Callable[[Given, Any], None]:
    def put(given: Given, value: Any) -> None:
        given.process[name] = value

    return put


def _mount(make: Callable[[Any], Mount]) -> Callable[[Given, Any], None]:
    return lambda given, value: given.mounts.append(make(value))


class Read(ParamType):
    """A type of values that a function reads from a str.

    Args:
        read: ValueError for what is none.
        name: in the help.
        words: for the shell's completion.
    """

    def __init__(
        self, read: Callable[[str], Any], name: str = "text", words: Iterable[str] = ()
    ) -> None:
        self.read = read
        self.name = name
        self.words = tuple(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what was read; a click.UsageError says what is wrong."""
        try:
            return self.read(value) if isinstance(value, str) else value
        except (ValueError, TypeError, KeyError, OSError) as error:
            said = str(error.args[0]) if isinstance(error, KeyError) else sentence_of(error)[0]
            return self.fail(said, param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[Any]:
        """Return the words that begin like this."""
        from click.shell_completion import CompletionItem

        before, comma, last = incomplete.rpartition(",")
        words = [word.upper() for word in self.words] if last.isupper() else self.words
        return [CompletionItem(before + comma + w) for w in words if w.startswith(last)]


def word_or_int(text: str) -> int | str:
    """Read a number, or a word such as "max"."""
    return int(text) if text.lstrip("-").isdigit() else text


def word_or_float(text: str) -> float | str:
    """Read a number of cores, or "max"."""
    return text if text == "max" else float(text)


def seconds(text: str) -> float:
    """Read a duration.

    Raises:
        ValueError: it is none, or none at all.

    Example:
        >>> seconds("1.5"), seconds("2m"), seconds("250ms")
        (1.5, 120.0, 0.25)
    """
    found = _DURATION.fullmatch(text.strip())
    duration = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not duration:
        raise ValueError(f"{text!r} is no duration, as 10, 1.5s, 500ms, 2m or 1h")
    return duration


def words_of(cls: type, text: str, where: str) -> dict[str, Any]:
    """Read "name=value,flag,..." as fields of a class; ":" separates the values of a list."""
    table: dict[str, Any] = {}
    kinds = {each.name: str(each.type) for each in fields(cls)}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.replace("-", "_")
        kind = kinds.get(name, "")
        if kind.startswith("bool") and value in ("", "true", "false"):
            table[name] = value != "false"
        elif not equals:
            raise ValueError(f"{where}: {part!r} is no NAME=VALUE; there are {', '.join(kinds)}")
        elif not kind:
            raise ValueError(f"{where} has no {name!r}; there are {', '.join(kinds)}")
        elif "Sequence" in kind or "Collection" in kind:
            each = [part for part in value.split(":") if part]
            table[name] = [int(n) for n in each] if "[int]" in kind else each
        elif "Mapping" in kind:
            table[name] = {
                key: int(to) for key, _, to in (p.partition(":") for p in value.split("+"))
            }
        elif name in ("mode", "ptmxmode"):
            table[name] = int(value, 8)
        else:
            table[name] = word_or_int(value) if "int" in kind else value
    return table


def typed(field: str) -> Callable[[str], Any]:
    """Return what reads "type=tmpfs,target=/tmp,size=64M": a mount, a network, a root."""

    def read(text: str) -> Any:
        # only here: most containers have no devices, which take the most time to import
        from pyns.description import MOUNTS, NETWORKS, make_typed

        kinds = NETWORKS if field == "network" else MOUNTS
        words = text.split(",")
        kind = next((word[5:] for word in words if word.startswith("type=")), "")
        rest = ",".join(word for word in words if not word.startswith("type="))
        table = words_of(kinds[kind], rest, field) if kind in kinds and rest else {}
        return make_typed(kinds, {"type": kind} | table, field)

    return read


def _at(kind: str) -> Callable[[Given, str], None]:
    """Return what adds a mount of a type at a place."""

    def add(given: Given, target: str) -> None:
        from pyns.description import MOUNTS, make_typed

        given.mounts.append(make_typed(MOUNTS, {"type": kind, "target": target}, kind))

    return add


def volume(text: str) -> Bind:
    """Read SOURCE:TARGET[:ro], as docker does."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if mode not in ("", "ro", "rw") or not target:
        raise ValueError(f"{text!r} is not SOURCE:TARGET or SOURCE:TARGET:ro")
    return Bind(os.path.abspath(source), target, read_only=mode == "ro")


def tmpfs(text: str) -> Tmpfs:
    """Read TARGET[:size=64M,mode=1777,...], as docker does."""
    target, colon, options = text.partition(":")
    return Tmpfs(target, **(words_of(Tmpfs, options, "tmpfs") if colon else {}))


def pair(text: str) -> tuple[str, str]:
    """Read NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def _setenv(given: Given, text: str) -> None:
    name, equals, value = text.partition("=")
    if not equals:
        if name not in os.environ:  # as docker does
            return
        value = os.environ[name]
    given.environment.append(lambda environment: environment.__setitem__(name, value))


def _io_max(text: str) -> IoMax:
    device, _, rest = text.partition(":") if text.startswith("/") else text.partition(",")
    return IoMax(device, **words_of(IoMax, rest, "io-max"))


def _io_weight(text: str) -> Any:
    if "=" not in text:
        return int(text)
    device, share = pair(text)
    return device, word_or_int(share)


def _named_number(text: str) -> tuple[str, int | str]:
    name, value = pair(text)
    return name, word_or_int(value)


def _rlimit(text: str) -> tuple[str, Any]:
    name, value = pair(text)
    both = tuple(word_or_int(part) for part in value.split(":"))
    return name, both[0] if len(both) == 1 else both


def _root(text: str) -> Any:
    return typed("root")(f"{text},target=/") if text.startswith("type=") else text


def _landlock(text: str) -> Landlock:
    table = words_of(Landlock, text, "landlock")
    return Landlock(**table)


def _filter(text: str) -> bytes | None:
    if text == "none":
        return None
    if text == "default":
        return seccomp.default()
    with open(text, "rb") as file:
        return file.read()


def _id_map(text: str) -> IdMap:
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not INSIDE:OUTSIDE:COUNT")
    return IdMap(*map(int, parts))


def _own_ids(given: Given, uid: int | None, gid: int | None) -> None:
    given.unshare(Namespace.USER)
    given.fields |= {"uid_map": IdMap.current("uid", uid), "gid_map": IdMap.current("gid", gid)}


def _lent_ids(given: Given, _: bool) -> None:
    given.unshare(Namespace.USER)
    given.fields |= {"uid_map": IdMap.subordinate("uid"), "gid_map": IdMap.subordinate("gid")}


def _map(kind: str) -> Callable[[Given, IdMap], None]:
    def add(given: Given, id_map: IdMap) -> None:
        given.unshare(Namespace.USER)
        given.fields[kind] = (*given.fields.get(kind, ()), id_map)

    return add


def _one_id(kind: Any) -> Callable[[Given, int], None]:
    def put(given: Given, number: int) -> None:
        given.unshare(Namespace.USER)
        given.fields[f"{kind}_map"] = IdMap.current(kind, number)

    return put


def _net(given: Given, text: str) -> None:
    if text == "host":
        given.share(Namespace.NET)
    elif text in ("none", "user"):
        given.unshare(Namespace.NET)
        if text == "user":
            _more("network")(given, typed("network")("type=user"))
    elif "/" not in text and not text.isdigit():
        raise click.BadParameter(f"--net: {text!r} is not none, host, user, a pid or a path with /")
    else:
        given.share(Namespace.NET)
        _pair("join")(given, (Namespace.NET, word_or_int(text)))


def _join(text: str) -> tuple[Namespace, int | str]:
    kinds, target = pair(text)
    return Namespace.parse(kinds), word_or_int(target)


def _join_and_share(given: Given, value: tuple[Namespace, int | str]) -> None:
    given.share(value[0])
    _pair("join")(given, value)


def _capabilities(*, kept: bool) -> Callable[[Given, str], None]:
    def change(given: Given, text: str) -> None:
        every = NAMES[: last_of_kernel() + 1]
        default: Iterable[str] = every
        if given.sandbox:
            default = ()
        elif given.base is not None and given.base.capabilities is not None:
            default = given.base.capabilities
        before = {name.removeprefix("cap_") for name in given.fields.get("capabilities", default)}
        named = {name.lower().removeprefix("cap_") for name in text.split(",")}
        unknown = sorted(named - {*NAMES, "all"})
        if unknown:
            raise click.UsageError(f"there is no capability {unknown[0]!r}")
        named = set(every) if "all" in named else named
        given.fields["capabilities"] = tuple(before | named if kept else before - named)

    return change


def _kept(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(text.split(","))


def _user(given: Given, text: str) -> None:
    import pwd

    name, colon, group = text.partition(":")
    user = word_or_int(name)
    given.process["user"] = user
    # without these it would keep the caller's
    given.process["extra_groups"] = ()
    try:
        entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
        given.process["group"] = entry.pw_gid
    except KeyError:
        if not isinstance(user, int):
            raise click.BadParameter(f"--user: there is no user {name!r}") from None
        given.process["group"] = user
    if colon:
        given.process["group"] = word_or_int(group)


def _groups(text: str) -> tuple[int | str, ...]:
    return tuple(word_or_int(name) for name in text.split(",") if name)


def _cpus(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in numbers("cpuset_cpus", text).split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _bind(read_only: bool = False) -> Callable[[tuple[str, str]], Bind]:
    return lambda pair: Bind(os.path.abspath(pair[0]), pair[1], read_only=read_only)


def _offset(clock: str) -> Callable[[Given, float], None]:
    def put(given: Given, value: float) -> None:
        given.unshare(Namespace.TIME)
        _pair("time_offsets")(given, (clock, value))

    return put


def _no_proc(given: Given, _: bool) -> None:
    given.proc = False


def _sandbox(given: Given, _: bool) -> None:
    given.sandbox = True


def _network(given: Given, value: Any) -> None:
    given.unshare(Namespace.NET)
    _more("network")(given, value)


def _clearenv(given: Given, _: bool) -> None:
    given.environment.append(lambda environment: environment.clear())


def _unsetenv(given: Given, name: str) -> None:
    given.environment.append(lambda environment: environment.pop(name, None))


_KINDS = [kind.words() for kind in Namespace]
_NAMES = Read(Namespace.parse, "names", _KINDS)
_SIZE = Read(word_or_int, "size", ("max",))
_COUNT = Read(word_or_int, "number", ("max",))
_PATH = click.Path(path_type=str)
_FLAG: dict[str, Any] = {"is_flag": True, "default": None}
_MANY: dict[str, Any] = {"multiple": True}


def _field(names: str, about: str, name: str, **attributes: Any) -> ContainerOption:
    """Return an option whose value is that of a field."""
    return ContainerOption(names, about, name, _to(name), **attributes)


def _of_mounts(
    names: str, about: str, does: Callable[[Given, Any], Any], **attributes: Any
) -> ContainerOption:
    """Return an option that adds a mount each time."""
    return ContainerOption(names, about, "mounts", does, multiple=True, **attributes)


def _of_limits(names: str, about: str, name: str, **attributes: Any) -> ContainerOption:
    """Return an option whose value is a limit."""
    return ContainerOption(names, about, f"limits.{name}", _limit(name), **attributes)


def _flags(name: str, about: str, make: Callable[..., ContainerOption] = _field) -> ContainerOption:
    """Return the option of a field, or of a limit, that is True or False."""
    option = name.replace("_", "-")
    negation = option.removeprefix("no-") if option.startswith("no-") else f"no-{option}"
    return make(f"--{option}/--{negation}", about, name, default=None)


def options() -> list[ContainerOption]:
    """Return the options, in the order of the help."""
    make = ContainerOption
    preset = [
        make(
            "--sandbox",
            "For code that nobody trusts: nothing of the host's but programs and "
            "libraries, no network, no capabilities, a seccomp filter. What follows changes it.",
            "",
            _sandbox,
            is_flag=True,
        ),
    ]
    spaces = [
        _field(
            "--namespaces",
            'Make these and no others; "" makes none. Default: mount, cgroup, uts, ipc, pid, net.',
            "namespaces",
            type=_NAMES,
        ),
        make(
            "--unshare",
            "Make these as well.",
            "namespaces",
            lambda given, value: given.unshare(value),
            type=_NAMES,
            **_MANY,
        ),
        make(
            "--share",
            "Share these with the caller.",
            "namespaces",
            lambda given, value: given.share(value),
            type=_NAMES,
            **_MANY,
        ),
        make(
            "--join",
            "Be in the namespace of a file, or of a process: net=/run/netns/x, ipc,uts=4711.",
            "join",
            _join_and_share,
            type=Read(_join, "kind=path|pid"),
            **_MANY,
        ),
        _field("--hostname", "Host name inside.", "hostname", metavar="NAME"),
        _field(
            "--domainname",
            "NIS domain name inside.",
            "domainname",
            metavar="NAME",
        ),
        make(
            "--monotonic",
            "Seconds that CLOCK_MONOTONIC is ahead, in a new time namespace.",
            "time_offsets",
            _offset("monotonic"),
            type=float,
            metavar="SECONDS",
        ),
        make(
            "--boottime",
            "Likewise CLOCK_BOOTTIME.",
            "time_offsets",
            _offset("boottime"),
            type=float,
            metavar="SECONDS",
        ),
        _flags("init", "pyns-init is PID 1: it passes signals on and reaps orphans."),
    ]
    files = [
        _field(
            "--root --rootfs",
            "Directory that becomes /; or a new filesystem: "
            "type=tmpfs,size=64M, type=overlay,lower=/a:/b.",
            "root",
            type=Read(_root, "path"),
        ),
        _of_mounts(
            "--bind",
            "Show a file or directory of the host's inside.",
            _mount(_bind()),
            nargs=2,
            metavar="SRC DEST",
            type=_PATH,
        ),
        _of_mounts(
            "--ro-bind",
            "Likewise, read-only.",
            _mount(_bind(read_only=True)),
            nargs=2,
            metavar="SRC DEST",
            type=_PATH,
        ),
        _of_mounts(
            "-v --volume",
            "Likewise, as docker writes it.",
            _mount(lambda value: value),
            type=Read(volume, "src:dest[:ro]"),
        ),
        _of_mounts(
            "--tmpfs",
            "An empty filesystem in memory: /tmp, /tmp:size=64M,mode=1777.",
            _mount(lambda value: value),
            type=Read(tmpfs, "dest[:options]"),
        ),
        _of_mounts(
            "--proc",
            "A fresh /proc; there is one by default.",
            _at("proc"),
            metavar="DEST",
        ),
        make("--no-proc", "Not the fresh /proc of the default.", "mounts", _no_proc, is_flag=True),
        _of_mounts("--dev", "A minimal /dev, as at /dev.", _at("dev"), metavar="DEST"),
        _of_mounts(
            "--sysfs",
            "The kernel's devices, as at /sys.",
            _at("sysfs"),
            metavar="DEST",
        ),
        _of_mounts(
            "--mqueue",
            "POSIX message queues, as at /dev/mqueue.",
            _at("mqueue"),
            metavar="DEST",
        ),
        _of_mounts(
            "--cgroupfs",
            "Its own cgroups, as at /sys/fs/cgroup.",
            _at("cgroup"),
            metavar="DEST",
        ),
        _of_mounts(
            "--dir",
            "A directory, on a tmpfs or in the root.",
            _at("dir"),
            metavar="DEST",
        ),
        _of_mounts(
            "--symlink",
            "A link to SRC, on a tmpfs or in the root.",
            _mount(lambda value: Symlink(value[1], value[0])),
            nargs=2,
            metavar="SRC DEST",
        ),
        _of_mounts(
            "--mount",
            "Any mount with its fields: type=overlay,target=/x,lower=/a:/b,size=64M. "
            f"Types: {', '.join(TYPES_OF_MOUNTS)}.",
            _mount(lambda value: value),
            type=Read(typed("mount"), "type=...", (f"type={t}" for t in TYPES_OF_MOUNTS)),
        ),
        _flags("read_only", "The root is read-only."),
        _flags("nosuid", "No set-user-ID, no file capabilities in the root."),
        _flags("nodev", "No devices can be opened in the root."),
        make(
            "--mask --masked-path",
            "Hide a path inside.",
            "masked_paths",
            _more("masked_paths"),
            metavar="PATH",
            **_MANY,
        ),
        make(
            "--read-only-path",
            "A path inside that is read-only.",
            "read_only_paths",
            _more("read_only_paths"),
            metavar="PATH",
            **_MANY,
        ),
        _field(
            "--propagation",
            "Of every mount.",
            "propagation",
            type=click.Choice(tuple(SetPropagation.FLAGS)),
        ),
    ]
    net = [
        make(
            "--net --network-mode",
            "none: only lo. host: the caller's. user: what pasta or "
            "slirp4netns reach, without privileges. A file or a pid: the network of that.",
            "join network namespaces",
            _net,
            type=Read(str, "none|host|user|path|pid", ("none", "host", "user")),
        ),
        make(
            "--network",
            f"A device: type=veth,addresses=10.0.0.2/24. Types: {', '.join(TYPES_OF_NETWORKS)}.",
            "network",
            _network,
            type=Read(typed("network"), "type=...", (f"type={t}" for t in TYPES_OF_NETWORKS)),
            **_MANY,
        ),
        _flags("loopback", "Bring lo up; so by default."),
    ]
    users = [
        make(
            "-u --user",
            "Run it as this user, with his group and no others.",
            "process.user process.group process.extra_groups",
            _user,
            metavar="USER[:GROUP]",
        ),
        make(
            "--groups",
            "With these groups besides.",
            "process.extra_groups",
            _process("extra_groups"),
            type=Read(_groups, "name,..."),
        ),
        make(
            "-r --map-root-user",
            "Be root inside, in a user namespace.",
            "uid_map gid_map",
            lambda given, _: _own_ids(given, 0, 0),
            is_flag=True,
        ),
        make(
            "-c --map-current-user",
            "Be who you are inside, in a user namespace.",
            "uid_map gid_map",
            lambda given, _: _own_ids(given, None, None),
            is_flag=True,
        ),
        make(
            "--map-auto",
            "Be root inside, with the ids of /etc/subuid and /etc/subgid.",
            "uid_map gid_map",
            _lent_ids,
            is_flag=True,
        ),
        make(
            "--uid",
            "Be this uid inside, in a user namespace.",
            "uid_map",
            _one_id("uid"),
            type=int,
            metavar="UID",
        ),
        make(
            "--gid",
            "Be this gid inside, in a user namespace.",
            "gid_map",
            _one_id("gid"),
            type=int,
            metavar="GID",
        ),
        make(
            "--uid-map --map-users",
            "A range of uids.",
            "uid_map",
            _map("uid_map"),
            type=Read(_id_map, "inside:outside:count"),
            **_MANY,
        ),
        make(
            "--gid-map --map-groups",
            "A range of gids.",
            "gid_map",
            _map("gid_map"),
            type=Read(_id_map, "inside:outside:count"),
            **_MANY,
        ),
        *(
            _field(
                f"--{name.replace('_', '-')}",
                f"How many {name[4:].replace('_', ' ')} there may be inside.",
                name,
                type=int,
                metavar="NUMBER",
            )
            for name in USER_LIMITS
        ),
    ]
    limits = [
        _of_limits(
            "-m --memory --memory-max",
            "Memory, as 100M or 1.5G; beyond it the OOM killer comes.",
            "memory_max",
            type=_SIZE,
        ),
        _of_limits(
            "--memory-high",
            "From here on it is slowed down.",
            "memory_high",
            type=_SIZE,
        ),
        _of_limits(
            "--memory-low --memory-reservation",
            "What is reclaimed last.",
            "memory_low",
            type=_SIZE,
        ),
        _of_limits(
            "--memory-min",
            "What is never reclaimed.",
            "memory_min",
            type=_SIZE,
        ),
        _of_limits(
            "--memory-swap-max",
            "Swap beside the memory; 0 for none.",
            "memory_swap_max",
            type=_SIZE,
        ),
        _flags("memory_oom_group", "The OOM killer takes all of it.", _of_limits),
        _of_limits(
            "--pids --pids-max --pids-limit",
            "Processes and threads.",
            "pids_max",
            type=_COUNT,
        ),
        _of_limits(
            "--cpus --cpu-max",
            "CPU time in cores: 0.5 is half of one.",
            "cpu_max",
            type=Read(word_or_float, "cores", ("max",)),
        ),
        _of_limits(
            "--cpu-max-burst",
            "What may be saved up beyond.",
            "cpu_max_burst",
            type=float,
            metavar="CORES",
        ),
        _of_limits(
            "--cpu-weight",
            "Share under contention, 1 to 10000.",
            "cpu_weight",
            type=int,
            metavar="SHARE",
        ),
        _flags("cpu_idle", "Run only when nobody else wants to.", _of_limits),
        _of_limits(
            "--cpuset-cpus",
            "CPUs: 0-3,6.",
            "cpuset_cpus",
            metavar="LIST",
        ),
        _of_limits(
            "--cpuset-mems",
            "Memory nodes.",
            "cpuset_mems",
            metavar="LIST",
        ),
        _of_limits(
            "--io-max",
            "One disk's, per second: /dev/vda:rbps=10M,wiops=100.",
            "io_max",
            type=Read(_io_max, "disk:..."),
            **_MANY,
        ),
        _of_limits(
            "--io-weight",
            "Share of the disks, or of one: 100, /dev/vda=200.",
            "io_weight",
            type=Read(_io_weight, "[disk=]share"),
            **_MANY,
        ),
        _of_limits(
            "--hugetlb-max",
            "Huge pages: 2MB=1G.",
            "hugetlb_max",
            type=Read(_named_number, "page=size"),
            **_MANY,
        ),
        _of_limits(
            "--devices --device",
            'Devices that may be opened: "/dev/null rw", "c 1:* r"; no others.',
            "devices",
            metavar="RULE",
            **_MANY,
        ),
        _of_limits(
            "--limit --extra",
            "A file of the cgroup: memory.swap.high=1M.",
            "extra",
            type=Read(pair, "file=value"),
            **_MANY,
        ),
        _field(
            "--cgroup",
            "Be in this group, which is there; with limits, in one below it.",
            "cgroup",
            type=Read(Cgroup.open, "name"),
        ),
        make(
            "--rlimit --ulimit",
            "nofile=1024, core=0:unlimited.",
            "rlimits",
            _pair("rlimits"),
            type=Read(_rlimit, "name=soft[:hard]"),
            **_MANY,
        ),
    ]
    rights = [
        _field(
            "--capabilities",
            "Keep these and no others, in every set; none drops all.",
            "capabilities",
            type=Read(_kept, "names", NAMES),
        ),
        make(
            "--cap-add",
            "Keep these as well.",
            "capabilities",
            _capabilities(kept=True),
            type=Read(str, "names", NAMES),
            **_MANY,
        ),
        make(
            "--cap-drop",
            "Drop these; ALL for all.",
            "capabilities",
            _capabilities(kept=False),
            type=Read(str, "names", ("ALL", *NAMES)),
            **_MANY,
        ),
        _flags("no_new_privileges", "execve grants nothing: no set-user-ID programs."),
        _field(
            "--seccomp",
            "default: for code that nobody trusts. A file: raw BPF.",
            "seccomp",
            type=Read(_filter, "default|none|file", ("default", "none")),
        ),
        _field(
            "--landlock",
            "What may be reached: read=/usr:/etc,write=/tmp; connect_tcp=443.",
            "landlock",
            type=Read(_landlock, "name=..."),
        ),
        _flags("new_session", "A session of its own, without the caller's terminal."),
        _flags("new_keyring", "A session keyring of its own."),
        _flags("reset_signals", "Every signal has its default action."),
        _flags("die_with_parent", "It is killed when pyns dies."),
        _field(
            "--apparmor-profile --apparmor",
            "AppArmor profile.",
            "apparmor_profile",
            metavar="NAME",
        ),
        _field(
            "--selinux-label --exec-label",
            "SELinux context.",
            "selinux_label",
            metavar="LABEL",
        ),
    ]
    running = [
        make(
            "-e --env",
            "Environment: NAME=VALUE, or NAME as it is outside.",
            "env",
            _setenv,
            metavar="NAME[=VALUE]",
            **_MANY,
        ),
        make(
            "--setenv",
            "Likewise, as bwrap writes it.",
            "env",
            lambda given, value: _setenv(given, "=".join(value)),
            nargs=2,
            metavar="NAME VALUE",
            **_MANY,
        ),
        make(
            "--unsetenv",
            "Remove it from the environment.",
            "env",
            _unsetenv,
            metavar="NAME",
            **_MANY,
        ),
        make("--clearenv", "Begin with an empty environment.", "env", _clearenv, is_flag=True),
        make(
            "-w --workdir --chdir --cwd",
            "Directory that it starts in, inside.",
            "process.cwd",
            _process("cwd"),
            metavar="PATH",
        ),
        make(
            "--umask",
            "Mode bits that its files don't get, as 077.",
            "process.umask",
            _process("umask"),
            type=Read(lambda text: int(text, 8), "octal"),
        ),
        _field("--nice", "Nice value, -20 to 19.", "nice", type=int, metavar="N"),
        _field(
            "--cpu-affinity",
            "CPUs that it may run on: 0-3,6.",
            "cpu_affinity",
            type=Read(_cpus, "list"),
        ),
        _field(
            "--oom-score-adj",
            "-1000 (never) to 1000 (first of all).",
            "oom_score_adj",
            type=int,
            metavar="N",
        ),
        _field(
            "--timer-slack-ns",
            "How late its timers may be.",
            "timer_slack_ns",
            type=int,
            metavar="NS",
        ),
        _flags("core_scheduling", "Share a CPU core with nobody else."),
    ]
    sections = {
        "Preset": preset,
        "Namespaces": spaces,
        "Files": files,
        "Network": net,
        "Users": users,
        "Limits": limits,
        "Rights": rights,
        "Program": running,
    }
    for section, members in sections.items():
        for option in members:
            option.section = section
    return [option for members in sections.values() for option in members]

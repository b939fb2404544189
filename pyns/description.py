"""A container as a table of plain values, which TOML and JSON can hold, and back.

Only what is not the default is in it. What is no UTF-8 is `{base64 = "..."}`.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from pyns import seccomp
from pyns.cgroups import Cgroup, Hierarchy, IoMax, Limits
from pyns.cgroups.placing import default_bases
from pyns.container import Container
from pyns.devices import Dev
from pyns.entries import Dir, File, Symlink
from pyns.idmap import IdMap
from pyns.kernelfs import CgroupFs, Devpts, Mqueue, Proc, Sysfs
from pyns.landlock import Landlock
from pyns.links import Device, Veth
from pyns.mounts import Bind, Tmpfs
from pyns.namespaces import Namespace
from pyns.overlay import Overlay
from pyns.rlimits import INFINITY
from pyns.usermode import UserNetwork

Table = dict[str, Any]

MOUNTS: dict[str, type] = {
    "bind": Bind,
    "cgroup": CgroupFs,
    "dev": Dev,
    "devpts": Devpts,
    "dir": Dir,
    "file": File,
    "mqueue": Mqueue,
    "overlay": Overlay,
    "proc": Proc,
    "symlink": Symlink,
    "sysfs": Sysfs,
    "tmpfs": Tmpfs,
}
NETWORKS: dict[str, type] = {"device": Device, "user": UserNetwork, "veth": Veth}
_TYPES = {cls: name for name, cls in (MOUNTS | NETWORKS).items()}
# kept as tuples of pairs, given as mappings
_PAIRS = {
    *("env", "time_offsets", "rlimits"),
    *("io_weight", "hugetlb_max", "extra"),
    *("tcp_ports", "udp_ports"),
}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_OCTAL = {"mode", "ptmxmode"}


def to_table(container: Container) -> Table:
    """Return what a container is, as plain values.

    Args:
        container: without what is of this process only: open files in `join`.

    Raises:
        ValueError: it holds what can't be written down.

    Example:
        >>> to_table(Container(hostname="box", limits=Limits(pids_max=9)))
        {'hostname': 'box', 'limits': {'pids_max': 9}}
    """
    return _table(container)


def from_table(table: Mapping[str, Any]) -> Container:
    """Return the container that a table describes.

    Args:
        table: as `to_table` makes it; also with "100M" for a size, and the like.

    Raises:
        ValueError: a name is unknown or a value is none; the message says where.

    Example:
        >>> from_table({"limits": {"memory_max": "1K"}}).limits.memory_max
        1024
    """
    container: Container = _made(Container, table, "")
    return container


def _table(value: Any) -> Table:
    """Return the fields that are not the default."""
    table = {"type": _TYPES[type(value)]} if type(value) in _TYPES else {}
    for field in fields(value):
        each = getattr(value, field.name)
        if field.default is MISSING or each != field.default:
            table[field.name] = _plain(field.name, each)
    return table


def _plain(name: str, value: Any) -> Any:
    """Return a field's value as str, int, float, bool, list or dict."""
    if name == "seccomp":
        return "default" if value == seccomp.default() else _plain("", value)
    if name == "join":
        return {kinds.words(): _target(target) for kinds, target in value}
    if name == "rlimits":
        return {key: _rlimit(*both) for key, both in value}
    if name in _PAIRS and isinstance(value, tuple) and all(isinstance(p, tuple) for p in value):
        return {str(_text(key)): _plain("", each) for key, each in value}
    if isinstance(value, Namespace):
        return [kind.words() for kind in value]
    if isinstance(value, IdMap):
        return [value.inside, value.outside, value.count]
    if isinstance(value, Cgroup):
        return _name_of(value)
    if is_dataclass(value):
        return _table(value)
    if isinstance(value, (tuple, list)):
        return [_plain("", each) for each in value]
    return _text(value)


def _text(value: Any) -> Any:
    """Return a str as it is, bytes and what is no UTF-8 as base64."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            value = os.fsencode(value)
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return value


def _target(target: Any) -> Any:
    if isinstance(target, (str, bytes, os.PathLike, int)):
        return _text(target)
    raise ValueError(f"join: {target!r} is an open file: give its path or pid to write it down")


def _rlimit(soft: int, hard: int) -> Any:
    both = ["unlimited" if number == INFINITY else number for number in (soft, hard)]
    return both[0] if soft == hard else both


def _name_of(group: Cgroup) -> str:
    """Return what `Cgroup.open` finds a group by."""
    for base, above in default_bases().values():
        beginning = "/".join((base, *above)) + "/"
        for path in group.paths:
            if path.startswith(beginning):
                return path.removeprefix(beginning)
    raise ValueError(f"cgroup: {group!r} is not below the default parent, so it has no name")


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Have what is wrong say where that is."""
    try:
        yield
    except (TypeError, ValueError) as error:
        said = str(error)
        if not where or said.startswith((f"{where}: ", f"{where}.", f"{where}[")):
            raise ValueError(said) from None
        raise ValueError(f"{where}: {said}") from None


def _made(cls: type, table: Any, where: str) -> Any:
    """Return the object that a table describes."""
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}={table!r} is not a table of {cls.__name__}'s fields")
    known = [field.name for field in fields(cls)]
    if unknown := [name for name in table if name not in known]:
        at = f"{where}: " if where else ""
        raise ValueError(f"{at}unknown {', '.join(unknown)}; there are {', '.join(known)}")
    given = {}
    for name, value in table.items():
        place = f"{where}.{name}" if where else name
        with _at(place):
            given[name] = READERS.get(name, _read)(value, place)
    with _at(where):
        return cls(**given)


def _read(value: Any, where: str) -> Any:
    if isinstance(value, Mapping) and value.keys() == {"base64"}:
        try:
            return base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"no base64: {error}") from None
    if isinstance(value, list):
        return tuple(_read(each, where) for each in value)
    if isinstance(value, Mapping):
        return {key: _read(each, where) for key, each in value.items()}
    return value


def make_typed(kinds: Mapping[str, type], table: Any, where: str) -> Any:
    """Return the object of a table whose `type` says which class it is of."""
    if not isinstance(table, Mapping) or table.get("type") not in kinds:
        given = table.get("type") if isinstance(table, Mapping) else None
        said = f"has the type {given!r}" if given else "has no type"
        raise ValueError(f"{where}={table!r} {said}; there are {', '.join(kinds)}")
    rest = {name: value for name, value in table.items() if name != "type"}
    return _made(kinds[table["type"]], rest, where)


def _each(read: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def read_all(values: Any, where: str) -> Any:
        if not isinstance(values, list):
            raise ValueError(f"{values!r} is not a list")
        return tuple(read(value, f"{where}[{index}]") for index, value in enumerate(values))

    return read_all


def _namespaces(value: Any, where: str) -> Namespace:  # noqa: ARG001
    return Namespace.parse(value if isinstance(value, str) else ",".join(value))


def _join(value: Any, where: str) -> Any:
    return {Namespace.parse(kinds): _read(target, where) for kinds, target in value.items()}


def _id_map(value: Any, where: str) -> IdMap:  # noqa: ARG001
    return IdMap(*value)


def _ids_of_mount(value: Any, where: str) -> Any:
    return _namespaces(value, where) if value == ["user"] else _each(_id_map)(value, where)


def _root(value: Any, where: str) -> Any:
    return make_typed(MOUNTS, value, where) if "type" in value else _read(value, where)


def _seccomp(value: Any, where: str) -> Any:
    return seccomp.default() if value == "default" else _read(value, where)


def _ports(value: Any, where: str) -> Any:  # noqa: ARG001
    return {int(key): each for key, each in value.items()}


READERS: dict[str, Callable[[Any, str], Any]] = {
    "namespaces": _namespaces,
    "root": _root,
    "mounts": _each(lambda value, where: make_typed(MOUNTS, value, where)),
    "network": _each(lambda value, where: make_typed(NETWORKS, value, where)),
    "join": _join,
    "uid_map": _each(_id_map),
    "gid_map": _each(_id_map),
    "idmap": _ids_of_mount,
    "cgroup": lambda value, _: Cgroup.open(value),
    "limits": lambda value, where: _made(Limits, value, where),
    "io_max": _each(lambda value, where: _made(IoMax, value, where)),
    "seccomp": _seccomp,
    "landlock": lambda value, where: _made(Landlock, value, where),
    "hierarchies": _each(lambda value, where: _made(Hierarchy, value, where)),
    "tcp_ports": _ports,
    "udp_ports": _ports,
}


def to_json(container: Container) -> str:
    """Return a container as a JSON object."""
    import json  # only here, and below, as it takes a millisecond

    return json.dumps(to_table(container), indent=2)


def from_json(text: str) -> Container:
    """Return the container that a JSON object describes."""
    import json

    return from_table(json.loads(text))


def to_toml(container: Container) -> str:
    """Return a container as a TOML document."""
    table = to_table(container)
    plain, tables = [], []
    for name, value in table.items():
        if isinstance(value, dict) and value.keys() != {"base64"} and "type" not in value:
            tables.append(f"\n[{name}]\n{_lines(value)}")
        elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            tables += [f"\n[[{name}]]\n{_lines(each)}" for each in value]
        else:
            plain.append(_lines({name: value}))
    return "".join((*plain, *tables)).lstrip("\n")


def from_toml(text: str) -> Container:
    """Return the container that a TOML document describes."""
    import tomllib  # only here: it takes five milliseconds

    return from_table(tomllib.loads(text))


def _lines(table: Table) -> str:
    return "".join(f"{_key(name)} = {_value(name, value)}\n" for name, value in table.items())


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    import json

    # a string of JSON is one of TOML, but for DEL
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(key, each)}" for key, each in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(_value('', each) for each in value)}]"
    if isinstance(value, str):
        return _quoted(value)
    return f"0o{value:o}" if name in _OCTAL else repr(value)

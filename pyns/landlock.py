"""Landlock: which files, ports and processes a program may reach, whoever its user is."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from pyns.mounts import StrPath, encode_path
from pyns.steps import Operands, Step


class _Right(NamedTuple):
    """Bits of landlock(7) that are asked for together."""

    words: str
    abi: int
    file: int = 0  # of a file
    directory: int = 0  # of a directory, what lies beneath included
    port: int = 0
    scope: int = 0


# <linux/landlock.h>: WRITE_FILE, REMOVE_DIR, REMOVE_FILE, MAKE_DIR, REG, SOCK, FIFO, SYM, TRUNCATE
_WRITE = sum(1 << bit for bit in (1, 4, 5, 7, 8, 9, 10, 12, 14))
_DEVICES = 1 << 6 | 1 << 11  # MAKE_CHAR, MAKE_BLOCK: refused with the others, and never allowed
_RIGHTS = {
    "read": _Right("reading", 2, 1 << 2, 1 << 2 | 1 << 3),
    "write": _Right("writing", 3, 1 << 1 | 1 << 14, _WRITE),
    "execute": _Right("executing", 2, 1 << 0, 1 << 0),
    "ioctl": _Right("ioctl on devices", 5, 1 << 15, 1 << 15),
    # renaming and linking across directories, which every ruleset refuses unless it is said
    "refer": _Right("moving", 2, 0, 1 << 13),
    "bind_tcp": _Right("TCP bind", 4, port=1),
    "connect_tcp": _Right("TCP connect", 4, port=2),
    "scope_abstract_unix": _Right("abstract UNIX sockets outside", 6, scope=1),
    "scope_signals": _Right("signals to outside", 6, scope=2),
}
_RELEASES = {2: "5.19", 3: "6.2", 4: "6.7", 5: "6.10", 6: "6.12"}
_PATHS = ("read", "write", "execute", "ioctl")
_PORTS = ("bind_tcp", "connect_tcp")
_SCOPES = ("scope_abstract_unix", "scope_signals")
_CREATE_RULESET = 444  # landlock_create_ruleset(2)


@dataclass(frozen=True, kw_only=True)
class Landlock:
    """What a program may reach; what is None stays as it is, () is nothing at all.

    A path is one inside the container, and stands for all that lies beneath it.

    Args:
        read: files whose content, and directories whose listing it may read.
        write: files that it may write, and directories in which it may make, move and remove. No
            devices.
        execute: files that it may execute: libraries are only read, the dynamic linker is executed.
        ioctl: devices on which it may use ioctl(2).
        bind_tcp: TCP ports that it may listen on; 0 lets the kernel choose.
        connect_tcp: TCP ports that it may connect to. UDP is not restricted.
        scope_abstract_unix: whether abstract UNIX sockets of processes outside are out of reach.
        scope_signals: whether processes outside are out of reach of its signals.

    Raises:
        TypeError: a value of another type.
        ValueError: no absolute path, no port, or nothing is restricted.

    Needs: Linux 5.19; 6.2 for write, 6.7 for ports, 6.10 for ioctl, 6.12 for scopes. No privilege.
    Source: landlock(7).

    Example:
        >>> Landlock(read=["/usr", "/etc"], write=["/tmp"], execute=["/usr"], bind_tcp=()).abi
        4
    """

    read: Sequence[StrPath] | None = None
    write: Sequence[StrPath] | None = None
    execute: Sequence[StrPath] | None = None
    ioctl: Sequence[StrPath] | None = None
    bind_tcp: Collection[int] | None = None
    connect_tcp: Collection[int] | None = None
    scope_abstract_unix: bool = False
    scope_signals: bool = False

    def __post_init__(self) -> None:
        for name in (*_PATHS, *_PORTS):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
                raise TypeError(f"{name}={value!r} is not a list")
            object.__setattr__(self, name, tuple(value))
        for name in _SCOPES:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r} is not a bool")
        for name in _PATHS:
            for path in getattr(self, name) or ():
                if not encode_path(name, path).startswith(b"/"):
                    raise ValueError(f"{name}: {path!r} is not an absolute path, inside")
        for name in _PORTS:
            for port in getattr(self, name) or ():
                _check_port(name, port)
        if not self._restricted():
            raise ValueError("Landlock() restricts nothing: leave it out, or say what is allowed")

    @property
    def abi(self) -> int:
        """The least ABI version that can hold all of it."""
        return max(_RIGHTS[name].abi for name in self._restricted())

    def _restricted(self) -> tuple[str, ...]:
        given = [f.name for f in fields(self) if getattr(self, f.name) not in (None, False)]
        if any(name in _PATHS for name in given):
            given.append("refer")
        return tuple(given)

    def rules(self) -> Iterator[Step]:
        """Yield what opens the paths: inside the root, and while they can be reached."""
        yield CreateRuleset(self._restricted())
        rights: dict[bytes, list[str]] = {}
        for name in _PATHS:
            for path in getattr(self, name) or ():
                rights.setdefault(encode_path(name, path), []).append(name)
        for path in self.write or ():
            rights[encode_path("write", path)].append("refer")
        if self.write is None and "refer" in self._restricted():
            rights.setdefault(b"/", []).append("refer")
        for place, names in rights.items():
            yield AllowPath(place, tuple(dict.fromkeys(names)))
        ports: dict[int, list[str]] = {}
        for name in _PORTS:
            for port in getattr(self, name) or ():
                ports.setdefault(port, []).append(name)
        for port, names in ports.items():
            yield AllowPort(port, tuple(dict.fromkeys(names)))


def _check_port(name: str, port: int) -> None:
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"{name}: {port!r} is not an int")
    if not 0 <= port <= 65535:
        raise ValueError(f"{name}: {port} is out of range: 0 to 65535")


def abi() -> int:
    """Return the version of Landlock's ABI that this kernel has; 0 where there is none."""
    import ctypes  # only here: it takes a millisecond

    version = 1  # LANDLOCK_CREATE_RULESET_VERSION
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, version)))


def _words(rights: tuple[str, ...]) -> str:
    return ", ".join(_RIGHTS[name].words for name in rights)


class CreateRuleset(Step):
    """Makes a Landlock ruleset that refuses all that it is for (landlock_create_ruleset(2))."""

    kind = "create_ruleset"
    calls = "landlock_create_ruleset"
    restricted: tuple[str, ...]

    def describe(self) -> str:
        return f"make a Landlock ruleset against {_words(self.restricted)}"

    def operands(self) -> Operands:
        rights = [_RIGHTS[name] for name in self.restricted]
        files = ports = scopes = 0
        for right in rights:
            files |= right.file | right.directory
            ports |= right.port
            scopes |= right.scope
        if "write" in self.restricted:
            files |= _DEVICES
        data = struct.pack("=QQQ", files, ports, scopes)
        return Operands(value=len(data), data=data)

    def hint(self, error: int) -> str | None:
        if error not in (errno.EINVAL, errno.E2BIG, errno.ENOSYS, errno.EOPNOTSUPP):
            return None
        found = abi()
        if not found:
            return "This kernel has no Landlock, or its command line (lsm=) leaves it out"
        needed = max(_RIGHTS[name].abi for name in self.restricted)
        return f"It takes Landlock ABI {needed} (Linux {_RELEASES[needed]}), here is {found}"


class AllowPath(Step):
    """Allows what the ruleset is against beneath a path (landlock_add_rule(2))."""

    kind = "allow_path"
    calls = "openat2 landlock_add_rule"
    path: bytes
    rights: tuple[str, ...]

    def describe(self) -> str:
        return f"allow {_words(self.rights)} beneath {os.fsdecode(self.path)!r}"

    def operands(self) -> Operands:
        file = directory = 0
        for name in self.rights:
            file |= _RIGHTS[name].file
            directory |= _RIGHTS[name].directory | _RIGHTS[name].file
        return Operands((self.path,), flags=directory, value=file)

    def hint(self, error: int) -> str | None:
        return {
            errno.ENOENT: "Landlock's paths are those inside the container",
            errno.ELOOP: "Landlock's paths lead over no magic link of /proc",
        }.get(error)


class AllowPort(Step):
    """Allows what the ruleset is against for a port (landlock_add_rule(2))."""

    kind = "allow_port"
    calls = "landlock_add_rule"
    port: int
    rights: tuple[str, ...]

    def describe(self) -> str:
        return f"allow {_words(self.rights)} for port {self.port}"

    def operands(self) -> Operands:
        return Operands(flags=sum(_RIGHTS[name].port for name in self.rights), value=self.port)


class RestrictSelf(Step):
    """Puts the ruleset into force, for good (landlock_restrict_self(2))."""

    kind = "restrict_self"
    calls = "landlock_restrict_self"

    def describe(self) -> str:
        return "put the Landlock ruleset into force"

    def hint(self, error: int) -> str | None:
        return {
            errno.EPERM: "It takes no_new_privileges=True, or CAP_SYS_ADMIN, which the program "
            "does not have by then",
            errno.E2BIG: "As many rulesets as the kernel allows are in force already: 16",
        }.get(error)

"""Resource limits of a process: which there are, and the steps that set them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping

from pyns.steps import Operands, Step

# <asm-generic/resource.h>; x86_64 and aarch64 have no numbers of their own
NUMBERS = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "rss": 5,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
    "as": 9,
    "locks": 10,
    "sigpending": 11,
    "msgqueue": 12,
    "nice": 13,
    "rtprio": 14,
    "rttime": 15,
}
INFINITY = 2**64 - 1  # RLIM_INFINITY of prlimit(2)

Value = int | str
Rlimit = Value | tuple[Value, Value]
Rlimits = tuple[tuple[str, tuple[int, int]], ...]


class SetRlimit(Step):
    """Sets the soft and the hard limit of a resource (prlimit(2))."""

    kind = "set_rlimit"
    calls = "prlimit64"
    resource: str
    soft: int
    hard: int

    def describe(self) -> str:
        hard = "" if self.hard == self.soft else f", the hard limit to {_in_words(self.hard)}"
        return f"set the resource limit {self.resource} to {_in_words(self.soft)}{hard}"

    def operands(self) -> Operands:
        data = struct.pack("=QQ", self.soft, self.hard)
        return Operands(value=NUMBERS[self.resource], data=data)

    def hint(self, error: int) -> str | None:
        if error == errno.EPERM and self.resource == "nofile":
            return (
                "Above the caller's hard limit (ulimit -Hn), which takes CAP_SYS_RESOURCE on the "
                "host, or above /proc/sys/fs/nr_open, which nobody may exceed"
            )
        if error == errno.EPERM:
            return (
                "Only CAP_SYS_RESOURCE on the host, which a user namespace does not lend, goes "
                f"above the caller's hard limit: resource.getrlimit(RLIMIT_{self.resource.upper()})"
            )
        return None


def _in_words(value: int) -> str:
    return "unlimited" if value == INFINITY else str(value)


def parse_rlimits(rlimits: Mapping[str, Rlimit] | Rlimits) -> Rlimits:
    """Return the limits as pairs of name and (soft, hard), in the order of their numbers.

    Args:
        rlimits: name → value for both, or (soft, hard); or what this function returned.

    Raises:
        TypeError: not a mapping, or a value of another type.
        ValueError: a name that there is not, a number out of range, soft above hard.

    Example:
        >>> parse_rlimits({"nofile": 64, "core": (0, "unlimited")})
        (('core', (0, 18446744073709551615)), ('nofile', (64, 64)))
    """
    if not isinstance(rlimits, (Mapping, tuple)):
        raise TypeError(f'rlimits={rlimits!r} is not a mapping: give {{"nofile": 1024, ...}}')
    pairs = rlimits.items() if isinstance(rlimits, Mapping) else rlimits
    parsed = {}
    for name, value in pairs:
        if name not in NUMBERS:
            raise ValueError(f"rlimits: {name!r} is none of {', '.join(NUMBERS)}")
        both = value if isinstance(value, (tuple, list)) else (value, value)
        if len(both) != 2:
            raise ValueError(f"rlimits: {name}={value!r} is not one value, or (soft, hard)")
        soft, hard = (_number(name, each) for each in both)
        if soft > hard:
            raise ValueError(f"rlimits: {name}={value!r}: soft is above hard")
        parsed[name] = (soft, hard)
    return tuple(sorted(parsed.items(), key=lambda item: NUMBERS[item[0]]))


def _number(name: str, value: Value) -> int:
    if value == "unlimited":
        return INFINITY
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'rlimits: {name}={value!r} is neither an int nor "unlimited"')
    if not 0 <= value <= INFINITY:
        raise ValueError(f'rlimits: {name}={value} is out of range; none at all is "unlimited"')
    return value


def rlimit_steps(rlimits: Mapping[str, Rlimit] | Rlimits) -> Iterator[Step]:
    """Yield a step for each limit."""
    for name, (soft, hard) in parse_rlimits(rlimits):
        yield SetRlimit(name, soft, hard)

"""What network devices a container has beside lo: the base of their descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pyns.steps import WaitForParent

_NAME_MAX = 15  # IFNAMSIZ of <linux/if.h>, less the NUL


@dataclass(frozen=True)
class Network:
    """A network device inside."""

    reaches_all: ClassVar[bool] = False  # whether a second one of its kind would add nothing

    def check(self) -> None:
        """Raise ImportError, which says what to install, when an extra is missing."""

    @property
    def inside(self) -> str:
        """Its name there."""
        raise NotImplementedError

    def step(self, pidfd: int, *, own_user: bool, privileged: bool) -> WaitForParent:
        """Return the step that gives it to the child.

        Args:
            pidfd: of the thread that clones.
            own_user: whether the network namespace belongs to a user namespace of the child.
            privileged: whether the caller is.
        """
        raise NotImplementedError


def check_name(what: str, name: str) -> None:
    """Raise TypeError or ValueError for what the kernel takes for no device's name."""
    if not isinstance(name, str):
        raise TypeError(f"{what}={name!r} is not a str")
    wrong = name in ("", ".", "..") or any(c in "/:%\0" or c.isspace() for c in name)
    if wrong or len(name.encode()) > _NAME_MAX:
        raise ValueError(
            f"{what}={name!r} is no device's name: 1 to {_NAME_MAX} bytes without /, :, % and space"
        )


def parse_addresses(what: str, given: str | Sequence[str]) -> tuple[str, ...]:
    """Return addresses with the lengths of their networks' prefixes.

    Example:
        >>> parse_addresses("addresses", "10.0.0.2/24")
        ('10.0.0.2/24',)
    """
    import ipaddress

    parsed = []
    for text in _strings(what, given):
        try:
            parsed.append(ipaddress.ip_interface(text).with_prefixlen)
        except ValueError as error:
            raise ValueError(f"{what}: {error}: give 10.0.0.2/24, or fd00::2/64") from None
    return tuple(parsed)


def parse_gateways(what: str, given: str | Sequence[str]) -> tuple[str, ...]:
    """Return addresses of routers, at most one of each family."""
    import ipaddress

    parsed = []
    for text in _strings(what, given):
        try:
            parsed.append(ipaddress.ip_address(text))
        except ValueError as error:
            raise ValueError(f"{what}: {error}: give 10.0.0.1, or fd00::1") from None
    if len({address.version for address in parsed}) != len(parsed):
        raise ValueError(f"{what}={given!r}: there is one default route for each of IPv4 and IPv6")
    return tuple(map(str, parsed))


def _strings(what: str, given: str | Sequence[str]) -> tuple[str, ...]:
    strings = (given,) if isinstance(given, str) else tuple(given)
    for text in strings:
        if not isinstance(text, str):
            raise TypeError(f"{what}: {text!r} is not a str")
    return strings


def described(name: str, addresses: Sequence[str], gateways: Sequence[str]) -> str:
    """Return a device and what it is given in words."""
    given = [*addresses, *(f"default route via {gateway}" for gateway in gateways)]
    return f"{name!r}" + (f" ({', '.join(given)})" if given else "")

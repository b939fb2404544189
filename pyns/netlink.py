"""How the parent asks the kernel about devices, in the network namespace of a child too.

All of it is of the thread that asks: it may enter another network namespace for a moment. pyroute2
(the extra `net`) writes the messages; it is imported late because that takes 70 ms.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# <linux/rtnetlink.h>, <linux/netlink.h>, <linux/if_link.h>, <linux/if_addr.h>
_RTM_DELLINK, _RTM_SETLINK = 17, 19
_NLM_F_REQUEST, _NLM_F_ACK = 0x01, 0x04
_IFLA_IFNAME, _IFLA_NET_NS_FD = 3, 28
_IFA_F_NODAD = 0x02
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg


def check_pyroute2() -> None:
    """Raise ImportError, which says what to install, when pyroute2 is missing."""
    try:
        import pyroute2  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Veth and Device need the package pyroute2: pip install 'pyns-linux[net]'"
        ) from error


@contextmanager
def opened_namespace(pid: int | None = None) -> Iterator[int]:
    """Open the network namespace of a process, or that of the calling thread."""
    path = "/proc/thread-self/ns/net" if pid is None else f"/proc/{pid}/ns/net"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def entered(namespace: int) -> Iterator[int]:
    """Have the calling thread in a network namespace; what it opens there stays in it.

    Yields an fd of the one that it comes from.
    """
    from pyroute2 import netns

    with opened_namespace() as own:
        netns.setns(namespace)  # of an fd: IPRoute(netns=...) would fork
        try:
            yield own
        finally:
            netns.setns(own)


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Make an OSError, which says what was asked, of an answer of the kernel."""
    from pyroute2 import NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, f"The kernel refused to {what}") from error


def find_link(route: Any, name: str) -> Any:
    """Return what the kernel tells of a device; OSError (ENODEV) when there is none."""
    for link in route.get_links(ifname=name):
        return link
    raise OSError(errno.ENODEV, f"There is no device {name!r}")


def configure(route: Any, index: int, addresses: Sequence[str], gateways: Sequence[str]) -> None:
    """Give a device its addresses, bring it up, route everything else through it."""
    for address in map(ipaddress.ip_interface, addresses):
        with refused(f"give it the address {address}"):
            route.addr(
                "add",
                index=index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                # without it, an IPv6 address can't be used for a second or two
                flags=_IFA_F_NODAD if address.version == 6 else 0,
            )
    with refused("bring it up"):
        route.link("set", index=index, state="up")
    for gateway in map(ipaddress.ip_address, gateways):
        family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
        with refused(f"add a default route via {gateway}"):
            route.route("add", family=family, gateway=str(gateway), oif=index)


class LastRequest:
    """A request to be made when the container has ended, where the thread is that makes this.

    Without pyroute2, whose sockets are their thread's: no matter who notices the end.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._home = -1
        self._requests: list[bytes] = []

    def remove(self, index: int) -> None:
        """Have it remove a device."""
        self._requests = [_request(_RTM_DELLINK, index)]

    def give_back(self, index: int, name: str, namespace: int) -> None:
        """Have it move a device to a network namespace, under the name it had there."""
        self._home = os.dup(namespace)
        home = _attribute(_IFLA_NET_NS_FD, struct.pack("=I", self._home))
        # if that is taken by now: under a new one, as the kernel does it with hardware
        self._requests = [
            _request(_RTM_SETLINK, index, home + _attribute(_IFLA_IFNAME, each.encode() + b"\0"))
            for each in (name, "dev%d")
        ]

    def end(self) -> None:
        """Make it; OSError if the kernel refuses, but for a device that is not there any more."""
        error = 0
        with self._socket:
            for request in self._requests:
                self._socket.send(request)
                (error,) = struct.unpack_from("=i", self._socket.recv(4096), _HEADER.size)
                if error != -errno.EEXIST:
                    break
        if self._home >= 0:
            os.close(self._home)
        if error not in (0, -errno.ENODEV):
            raise OSError(-error, os.strerror(-error))


def _request(kind: int, index: int, attributes: bytes = b"") -> bytes:
    size = _HEADER.size + _LINK.size + len(attributes)
    header = _HEADER.pack(size, kind, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
    return header + _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)

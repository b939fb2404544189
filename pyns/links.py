"""Devices that the parent makes for a container, or moves into it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyns.netlink import (
    LastRequest,
    check_pyroute2,
    configure,
    entered,
    find_link,
    opened_namespace,
    refused,
)
from pyns.networking import Network, check_name, described, parse_addresses, parse_gateways
from pyns.scheduling import check_int
from pyns.steps import Keep, WaitForParent

_HINTS = {
    errno.EPERM: "It takes CAP_NET_ADMIN outside, which no user namespace lends: UserNetwork needs "
    "no privilege",
    errno.ENETUNREACH: "A gateway lies in the network of one of the addresses",
    errno.EHOSTUNREACH: "A gateway lies in the network of one of the addresses",
}


@dataclass(frozen=True)
class Veth(Network):
    """A pair of devices like two ends of a cable: one inside, one outside.

    Both are up before the program runs, and gone when its end is noticed.

    Args:
        name: of the end inside.
        addresses: of the end inside, with the lengths of their prefixes: "10.0.0.2/24".
        gateway: through which address everything else is reached; of each family at most one.
        outside_name: of the end outside; None: the kernel finds one.
        outside_addresses: of the end outside.
        bridge: the bridge (or other master) outside that the outer end belongs to.
        mtu: of both ends, in bytes; None for 1500.

    Raises:
        ValueError: a name or an address is none, or two gateways are of one family.

    Needs: CAP_NET_ADMIN and CAP_SYS_ADMIN on the host, and `pip install 'pyns-linux[net]'`.
    Source: veth(4), rtnetlink(7).

    Example:
        >>> veth = Veth(addresses="10.0.0.2/24", gateway="10.0.0.1")
        >>> veth.name, veth.addresses
        ('eth0', ('10.0.0.2/24',))
    """

    name: str = "eth0"
    addresses: str | Sequence[str] = ()
    gateway: str | Sequence[str] = ()
    outside_name: str | None = None
    outside_addresses: str | Sequence[str] = ()
    bridge: str | None = None
    mtu: int | None = None

    def __post_init__(self) -> None:
        check_name("name", self.name)
        for name in ("outside_name", "bridge"):
            if getattr(self, name) is not None:
                check_name(name, getattr(self, name))
        _parse(self, "addresses", "outside_addresses")
        check_int("mtu", self.mtu, 68, 65535)

    def check(self) -> None:
        """Raise ImportError when pyroute2 is missing."""
        check_pyroute2()

    @property
    def inside(self) -> str:
        """The name of the end inside."""
        return self.name

    def step(self, pidfd: int, *, own_user: bool, privileged: bool) -> WaitForParent:  # noqa: ARG002
        """Return the step that adds it."""
        return AddVeth(pidfd, self)


@dataclass(frozen=True)
class Device(Network):
    """A network device of the caller's that is the container's for as long as that lives.

    It is moved into it without its addresses, and back, down, when the end is noticed. If the
    caller is killed first, the kernel gives hardware back to the initial network namespace, and
    removes what is virtual (veth, macvlan, dummy, ...).

    Args:
        device: its name outside.
        name: inside; None for the same.
        addresses: with the lengths of their prefixes: "10.0.0.2/24".
        gateway: through which address everything else is reached; of each family at most one.

    Raises:
        ValueError: a name or an address is none, or two gateways are of one family.

    Needs: CAP_NET_ADMIN and CAP_SYS_ADMIN on the host, and `pip install 'pyns-linux[net]'`.
    Source: network_namespaces(7), rtnetlink(7).

    Example:
        >>> Device("eth1", name="eth0", addresses="192.0.2.7/24").inside
        'eth0'
    """

    device: str
    name: str | None = None
    addresses: str | Sequence[str] = ()
    gateway: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        check_name("device", self.device)
        check_name("name", self.inside)
        _parse(self, "addresses")

    def check(self) -> None:
        """Raise ImportError when pyroute2 is missing."""
        check_pyroute2()

    @property
    def inside(self) -> str:
        """Its name inside."""
        return self.device if self.name is None else self.name

    def step(self, pidfd: int, *, own_user: bool, privileged: bool) -> WaitForParent:  # noqa: ARG002
        """Return the step that moves it."""
        return MoveDevice(pidfd, self)


def _parse(network: Any, *names: str) -> None:
    for name in names:
        addresses = parse_addresses(name, getattr(network, name))
        object.__setattr__(network, name, addresses)
    object.__setattr__(network, "gateway", parse_gateways("gateway", network.gateway))


class AddVeth(WaitForParent):
    """Has the parent add a pair of devices, one of them in the child's namespace (veth(4))."""

    veth: Veth

    def describe(self) -> str:
        veth = self.veth
        inside = described(veth.name, veth.addresses, veth.gateway)
        outside = described(veth.outside_name or "veth*", veth.outside_addresses, ())
        of = f" of {veth.bridge!r}" if veth.bridge else ""
        return f"have the parent add a veth pair: {inside} inside, {outside}{of} outside"

    def hint(self, error: int) -> str | None:
        if error == errno.EOPNOTSUPP:
            return "The kernel has no veth, nor a module for it"
        return _HINTS.get(error)

    def help_child(self, pid: int, keep: Keep) -> None:
        from pyroute2 import IPRoute

        veth = self.veth
        outer: dict[str, Any] = {} if veth.outside_name is None else {"ifname": veth.outside_name}
        peer: dict[str, Any] = {"ifname": veth.name}
        if veth.mtu is not None:
            outer["mtu"] = peer["mtu"] = veth.mtu
        last = LastRequest()
        keep(last.end)
        with opened_namespace(pid) as namespace, IPRoute() as route:
            if veth.bridge is not None:
                outer["master"] = find_link(route, veth.bridge)["index"]
            peer["net_ns_fd"] = namespace
            with refused("add the pair"):
                route.link("add", kind="veth", peer=peer, **outer)
            with entered(namespace), IPRoute() as within:
                link = find_link(within, veth.name)
                last.remove(link.get("link"))  # the index of the other end
                configure(within, link["index"], veth.addresses, veth.gateway)
            configure(route, link.get("link"), veth.outside_addresses, ())


class MoveDevice(WaitForParent):
    """Has the parent move a device into the child's namespace (network_namespaces(7))."""

    device: Device

    def describe(self) -> str:
        device = self.device
        inside = described(device.inside, device.addresses, device.gateway)
        return f"have the parent move the device {device.device!r} into it as {inside}"

    def hint(self, error: int) -> str | None:
        if error == errno.EINVAL:
            return "Neither lo nor a bridge can be moved; nor is every address one for a device"
        return _HINTS.get(error)

    def help_child(self, pid: int, keep: Keep) -> None:
        from pyroute2 import IPRoute

        device = self.device
        with opened_namespace(pid) as namespace, IPRoute() as route:
            index = find_link(route, device.device)["index"]
            with entered(namespace):
                last = LastRequest()  # keeps the namespace, and the device, until it is made
            keep(last.end)
            with refused("move it"):
                route.link("set", index=index, net_ns_fd=namespace, ifname=device.inside)
            with entered(namespace) as home, IPRoute() as within:
                index = find_link(within, device.inside)["index"]
                last.give_back(index, device.device, home)
                configure(within, index, device.addresses, device.gateway)

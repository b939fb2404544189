"""Descriptions of network devices, and what pasta and slirp4netns are told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pyns import Device, UserNetwork, Veth
from pyns.usermode import StartUserNetwork


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("10.0.0.2/24", ("10.0.0.2/24",)),
        ("10.0.0.2", ("10.0.0.2/32",)),
        (["10.0.0.2/8", "FD00::2/64"], ("10.0.0.2/8", "fd00::2/64")),
        ((), ()),
        (iter(["10.0.0.2/24"]), ("10.0.0.2/24",)),
    ],
    ids=["one", "without a prefix", "two", "none", "iterator"],
)
def test_addresses_are_kept_in_one_form(given: Any, kept: tuple[str, ...]) -> None:
    assert Veth(addresses=given).addresses == kept
    assert Veth(outside_addresses=kept).outside_addresses == kept
    assert Device("eth1", addresses=kept).addresses == kept


@pytest.mark.parametrize("make", [Veth, Device, UserNetwork, lambda name: Veth(outside_name=name)])
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:1", "veth%d", "a\0", "x" * 16])
def test_a_name_that_the_kernel_does_not_take_is_refused(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(repr(name))} is no device's name: 1 to 15"):
        make(name)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"addresses": "10.0.0.256/24"}, "addresses: .*give 10.0.0.2/24, or fd00::2/64"),
        ({"addresses": ["10.0.0.2/33"]}, "addresses: .*give 10.0.0.2/24, or fd00::2/64"),
        ({"outside_addresses": "x"}, "outside_addresses: .*give 10.0.0.2/24"),
        ({"gateway": "10.0.0.1/24"}, "gateway: .*give 10.0.0.1, or fd00::1"),
        ({"gateway": ["10.0.0.1", "10.0.0.2"]}, "one default route for each of IPv4 and IPv6"),
        ({"mtu": 67}, "mtu=67 is out of range: 68 to 65535"),
        ({"bridge": ""}, "bridge='' is no device's name"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_veth_that_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Veth(**fields)


@pytest.mark.parametrize(
    "fields", [{"name": 1}, {"addresses": [1]}, {"gateway": 1}, {"mtu": "1500"}], ids=str
)
def test_a_value_of_another_type_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Veth(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"program": "vpnkit"}, "program='vpnkit': there are pasta, slirp4netns"),
        ({"network": "10.0.2.0/26"}, "network='10.0.2.0/26' has no address 100: /25 or larger"),
        ({"network": "10.0.2.1/24"}, "10.0.2.1/24 has host bits set"),
        ({"network": "fd00::/64"}, "."),
        ({"tcp_ports": {80: 0}}, "tcp_ports=0 is out of range: 1 to 65535"),
        ({"program": "slirp4netns", "udp_ports": {1: 1}}, "slirp4netns forwards no ports"),
        ({"mtu": 65521}, "mtu=65521 is out of range"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_user_network_that_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        UserNetwork(**fields)


def test_addresses_of_a_user_network_follow_from_it() -> None:
    network = UserNetwork(network="192.168.4.128/25")
    assert network.addresses == ("192.168.4.228/25",)
    assert (network.gateway, network.nameserver) == ("192.168.4.130", "192.168.4.131")
    assert network.resolv_conf == "nameserver 192.168.4.131\n"


def test_the_first_program_of_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(**fields: Any) -> str:
        step = UserNetwork(**fields).step(-1, own_user=True, privileged=False)
        assert isinstance(step, StartUserNetwork)
        return step.program

    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() == "pasta"  # which starting says is not there
    for name in ("slirp4netns", "pasta"):
        (tmp_path / name).touch(0o755)
        assert found() == str(tmp_path / name)
    assert found(program="slirp4netns") == str(tmp_path / "slirp4netns")
    (tmp_path / "pasta").unlink()
    assert found(tcp_ports={80: 80}) == "pasta"  # the other one forwards none


def options_of(program: str, *, own_user: bool, privileged: bool, **fields: Any) -> str:
    step = StartUserNetwork(-1, UserNetwork(**fields), program, own_user, privileged)
    return " ".join(step.arguments(5, 9))


@pytest.mark.parametrize("own_user", [True, False])
@pytest.mark.parametrize("privileged", [True, False])
def test_programs_are_told_whose_namespaces(own_user: bool, privileged: bool) -> None:
    pasta = options_of("/x/pasta", own_user=own_user, privileged=privileged)
    slirp = options_of("/x/slirp4netns", own_user=own_user, privileged=privileged)
    assert ("--userns /proc/5/ns/user" in pasta) == ("--netns-only" not in pasta) == own_user
    assert ("--runas 0" in pasta) == privileged
    assert ("--userns-path=/proc/5/ns/user" in slirp) == own_user
    assert ("--enable-sandbox" in slirp) == privileged


def test_the_hosts_loopback_is_closed_unless_asked_for() -> None:
    who = {"own_user": True, "privileged": False}
    assert "--no-map-gw" in options_of("pasta", **who)
    assert "--no-map-gw" not in options_of("pasta", **who, host_loopback=True)
    assert "--disable-host-loopback" in options_of("slirp4netns", **who)
    assert "--disable-host-loopback" not in options_of("slirp4netns", **who, host_loopback=True)


def test_only_the_ports_that_are_given_are_forwarded() -> None:
    who = {"own_user": True, "privileged": False}
    said = options_of("pasta", **who)
    for option in ("--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"):
        assert f"{option} none" in said
    said = options_of("pasta", **who, tcp_ports={8080: 80, 2222: 22}, udp_ports={53: 5353})
    assert "--tcp-ports 127.0.0.1/8080:80 --tcp-ports 127.0.0.1/2222:22" in said
    assert "--udp-ports 127.0.0.1/53:5353" in said
    assert "--tcp-ns none" in said

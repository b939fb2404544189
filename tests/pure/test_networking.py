"""Descriptions of network devices."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyns import Device, Veth


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


@pytest.mark.parametrize("make", [Veth, Device, lambda name: Veth(outside_name=name)])
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

"""What a Landlock description restricts and allows, and which it refuses."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from pyns import Container, Landlock, landlock
from pyns.landlock import AllowPath, AllowPort, CreateRuleset


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        (
            {"read": ["/usr"]},
            [
                CreateRuleset(("read", "refer")),
                AllowPath(b"/usr", ("read",)),
                # nothing was said of writing: moving stays allowed
                AllowPath(b"/", ("refer",)),
            ],
        ),
        (
            {"read": ["/a", b"/b"], "write": ["/a"], "execute": ["/b", "/c"], "ioctl": ()},
            [
                CreateRuleset(("read", "write", "execute", "ioctl", "refer")),
                AllowPath(b"/a", ("read", "write", "refer")),
                AllowPath(b"/b", ("read", "execute")),
                AllowPath(b"/c", ("execute",)),
            ],
        ),
        ({"write": ()}, [CreateRuleset(("write", "refer"))]),
        (
            {"execute": ["/"]},
            [CreateRuleset(("execute", "refer")), AllowPath(b"/", ("execute", "refer"))],
        ),
        (
            {"bind_tcp": [80, 443], "connect_tcp": {443}},
            [
                CreateRuleset(("bind_tcp", "connect_tcp")),
                AllowPort(80, ("bind_tcp",)),
                AllowPort(443, ("bind_tcp", "connect_tcp")),
            ],
        ),
        ({"scope_signals": True}, [CreateRuleset(("scope_signals",))]),
    ],
    ids=str,
)
def test_rules_are_what_was_said(given: dict[str, Any], steps: list[Any]) -> None:
    assert list(Landlock(**given).rules()) == steps


@pytest.mark.parametrize(
    ("given", "abi"),
    [
        ({"read": ()}, 2),
        ({"write": ()}, 3),
        ({"bind_tcp": ()}, 4),
        ({"ioctl": (), "read": ()}, 5),
        ({"scope_abstract_unix": True}, 6),
        ({"scope_signals": True, "read": ()}, 6),
    ],
    ids=str,
)
def test_abi_is_the_least_that_holds_all(given: dict[str, Any], abi: int) -> None:
    assert Landlock(**given).abi == abi


def test_write_makes_no_devices() -> None:
    against = CreateRuleset(("write",)).operands().data
    devices = 1 << 6 | 1 << 11
    assert int.from_bytes(against[:8], "little") & devices == devices
    assert AllowPath(b"/", ("write", "refer", "read", "execute")).operands().flags & devices == 0


def test_hint_says_which_kernel_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    step = CreateRuleset(("read", "scope_signals"))
    monkeypatch.setattr(landlock, "abi", lambda: 4)
    assert step.hint(22) == "It takes Landlock ABI 6 (Linux 6.12), here is 4"
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert "This kernel has no Landlock" in str(step.hint(38))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Landlock() restricts nothing: leave it out, or say what is allowed"),
        ({"scope_signals": False}, "Landlock() restricts nothing"),
        ({"read": ["usr"]}, "read: 'usr' is not an absolute path, inside"),
        ({"write": [""]}, "write is empty: give a path"),
        ({"write": ["/a\0"]}, "write='/a\\x00' contains a NUL"),
        ({"bind_tcp": [-1]}, "bind_tcp: -1 is out of range: 0 to 65535"),
        ({"connect_tcp": [65536]}, "connect_tcp: 65536 is out of range: 0 to 65535"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Landlock(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"read": "/usr"}, "read='/usr' is not a list"),
        ({"read": [5]}, "expected str, bytes or os.PathLike object, not int"),
        ({"bind_tcp": 80}, "bind_tcp=80 is not a list"),
        ({"bind_tcp": ["80"]}, "bind_tcp: '80' is not an int"),
        ({"scope_signals": 1}, "scope_signals=1 is not a bool"),
        ({"reed": ()}, "unexpected keyword argument 'reed'"),
    ],
    ids=str,
)
def test_value_of_another_type_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        Landlock(**given)


def test_container_takes_only_a_landlock_that_can_be_put_into_force() -> None:
    rules = Landlock(read=["/usr"])
    with pytest.raises(TypeError, match=r"give Landlock\(\.\.\.\)"):
        Container(landlock=["/usr"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="landlock without CAP_SYS_ADMIN: add no_new_privileges"):
        Container(landlock=rules, capabilities=())
    box = Container(landlock=rules, capabilities=(), no_new_privileges=True)
    assert len({box, dataclasses.replace(box)}) == 1
    assert rules == Landlock(read=("/usr",))

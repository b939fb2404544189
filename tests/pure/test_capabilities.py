"""Which capabilities there are, and what keeping some of them takes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, capabilities
from pyns.capabilities import (
    NAMES,
    DropBounding,
    KeepCapabilities,
    RaiseAmbient,
    SetCapabilities,
    parse_capabilities,
    steps_after_uid,
    steps_before_uid,
)

HEADER = Path("/usr/include/linux/capability.h")


@pytest.fixture
def kernel_ends_at(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have the kernel know no capability after CAP_BLOCK_SUSPEND."""
    monkeypatch.setattr(capabilities, "last_of_kernel", lambda: NAMES.index("block_suspend"))
    return NAMES.index("block_suspend")


@pytest.mark.skipif(not HEADER.exists(), reason=f"{HEADER} is missing: no headers to compare with")
def test_names_are_those_of_the_header() -> None:
    found = re.findall(r"^#define CAP_(\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE)
    assert {name.lower(): int(number) for name, number in found}.items() <= {
        name: number for number, name in enumerate(NAMES)
    }.items()


def test_kernel_says_where_its_own_end() -> None:
    assert capabilities.last_of_kernel() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())


@pytest.mark.parametrize(
    "given",
    [
        ("net_raw", "chown"),
        ["cap_net_raw", "cap_chown"],
        {"CAP_NET_RAW", "CAP_CHOWN"},
        ("chown", "net_raw", "cap_chown"),
    ],
    ids=str,
)
def test_names_are_kept_in_one_form(given: Any) -> None:
    box = Container(capabilities=given)
    assert box.capabilities == ("cap_chown", "cap_net_raw")
    assert box == dataclasses.replace(box)


@pytest.mark.parametrize("name", ["net_rawr", "", "cap_", "cap_cap_chown", "21"])
def test_unknown_name_is_refused_with_those_that_there_are(name: str) -> None:
    said = f"capabilities: {name!r} is none of chown, dac_override, "
    with pytest.raises(ValueError, match=re.escape(said)):
        Container(capabilities=[name])


def test_name_that_the_kernel_lacks_is_refused(kernel_ends_at: int) -> None:
    assert parse_capabilities([NAMES[kernel_ends_at]]) == ("cap_block_suspend",)
    said = "this kernel does not have 'bpf', it ends at block_suspend"
    with pytest.raises(ValueError, match=said):
        parse_capabilities(["bpf"])


@pytest.mark.parametrize("given", ["net_raw", 5, [5], [None]], ids=str)
def test_value_of_another_type_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^capabilities"):
        Container(capabilities=given)


@pytest.mark.parametrize("changes_uid", [True, False])
def test_steps_of_none(changes_uid: bool) -> None:
    assert list(steps_before_uid((), changes_uid=changes_uid)) == [DropBounding(())]
    assert list(steps_after_uid(())) == [SetCapabilities(())]


@pytest.mark.parametrize("changes_uid", [True, False])
def test_steps_of_one(changes_uid: bool) -> None:
    kept = ("cap_kill",)
    keep = [KeepCapabilities()] if changes_uid else []
    assert list(steps_before_uid(kept, changes_uid=changes_uid)) == [DropBounding(kept), *keep]
    assert list(steps_after_uid(kept)) == [SetCapabilities(kept), RaiseAmbient(kept)]

"""A plan crosses to C as two blocks of bytes."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest

from pyns import Namespace, Plan, marshal
from pyns._shim import ffi, lib
from pyns.steps import (
    Attach,
    Clone,
    CloseRange,
    Duplicate,
    Execute,
    NewMount,
    SetDomainname,
    SetGroups,
    SetHostname,
    Step,
)


def unpack(plan: Plan) -> tuple[list[dict[str, Any]], bytes]:
    records, text = marshal.pack(plan)
    size = ffi.sizeof("struct step")
    assert len(records) == size * len(plan)
    array = ffi.from_buffer("struct step[]", records)
    fields = [name for name, _ in ffi.typeof("struct step").fields]
    return [{name: getattr(step, name) for name in fields} for step in array], text


def test_record_has_the_layout_of_struct_step() -> None:
    layout = struct.Struct(marshal._STEP.format)
    fields = ffi.typeof("struct step").fields
    assert [name for name, _ in fields] == ["kind", "fd", "text", "count", "flags", "value"]
    assert layout.size == ffi.sizeof("struct step")
    codes = layout.format.removeprefix("=")
    assert [struct.calcsize("=" + codes[:n]) for n in range(len(codes))] == [
        ffi.offsetof("struct step", name) for name, _ in fields
    ]
    # the same in native alignment: no padding that C would have
    assert struct.calcsize("@" + codes) == layout.size


def test_header_has_the_layout_of_struct_init_plan() -> None:
    layout, fields = marshal._INIT_PLAN, ffi.typeof("struct init_plan").fields
    assert layout.size == ffi.sizeof("struct init_plan")
    codes = layout.format.removeprefix("=")
    assert [struct.calcsize("=" + codes[:n]) for n in range(len(codes))] == [
        ffi.offsetof("struct init_plan", name) for name, _ in fields
    ]
    # the steps that follow it are aligned
    assert layout.size % 8 == 0


def test_a_new_report_is_of_no_process() -> None:
    report = marshal.new_report()
    assert (report.pid, report.pidfd, report.error) == (-1, -1, 0)


def test_values_arrive_in_their_fields() -> None:
    plan = Plan(
        (
            Clone(Namespace.NET),
            SetHostname(b"demo"),
            Duplicate(2**31 - 1, 2),
            CloseRange(3, CloseRange.LAST),
            Execute((b"/a", b"/b"), (b"x", b""), (b"K=1",)),
        )
    )
    steps, text = unpack(plan)
    none = {"fd": -1, "text": 0, "count": 0, "flags": 0, "value": 0}
    assert steps == [
        none | {"kind": lib.STEP_CLONE, "flags": 0x40000000},
        none | {"kind": lib.STEP_SET_HOSTNAME, "count": 1},
        none | {"kind": lib.STEP_DUPLICATE, "fd": 2**31 - 1, "value": 2, "text": 5},
        none | {"kind": lib.STEP_CLOSE_RANGE, "flags": 3, "value": 2**32 - 1, "text": 5},
        none | {"kind": lib.STEP_EXECUTE, "count": 5, "flags": 2, "value": 2, "text": 5},
    ]
    assert text == b"demo\0/a\0/b\0x\0\0K=1\0"


def test_strings_of_several_steps_lie_one_after_the_other() -> None:
    plan = Plan(
        (
            SetHostname(b"a"),
            NewMount(b"tmpfs", ((b"mode", b"755"),)),
            SetDomainname(b""),
            Attach(b"/\xff"),
        )
    )
    steps, text = unpack(plan)
    assert text == b"a\0tmpfs\0mode\x00755\0\0/\xff\0"
    assert [(step["text"], step["count"]) for step in steps] == [(0, 1), (2, 3), (17, 1), (18, 1)]


def test_data_is_carried_as_it_is_and_counts_no_strings() -> None:
    steps, text = unpack(Plan((SetHostname(b"a"), SetGroups((0, 258)), SetHostname(b"b"))))
    assert text == b"a\0" + struct.pack("=II", 0, 258) + b"b\0"
    assert [(step["text"], step["count"]) for step in steps] == [(0, 1), (2, 0), (10, 1)]
    assert steps[1]["value"] == 2


def test_no_steps_are_no_bytes() -> None:
    assert marshal.pack(Plan(())) == (b"", b"")


def test_blocks_are_immutable() -> None:
    assert [type(block) for block in marshal.pack(Plan((SetHostname(b"a"),)))] == [bytes, bytes]


@pytest.mark.parametrize(
    "step",
    [
        SetHostname(b"a\0b"),
        SetHostname(b"\0"),
        Attach(b"/a\0"),
        NewMount(b"tmpfs", ((b"mode", b"7\x005"),)),
        Execute((b"/a",), (b"x\0y",), ()),
        Execute((b"/a",), (b"x",), (b"K=\0",)),
    ],
    ids=["hostname", "only", "end", "option", "argument", "environment"],
)
def test_a_nul_in_a_string_is_refused_with_its_step(step: Step) -> None:
    with pytest.raises(ValueError, match=re.escape(f"embedded null byte: {step.describe()}")):
        marshal.pack(Plan((step,)))


def test_a_malformed_plan_starts_nothing() -> None:
    # no clone, no program: the shim refuses it before it does anything
    with pytest.raises(OSError, match="Invalid argument"):
        marshal.spawn(Plan((SetHostname(b"a"),)), 0, marshal.new_report())

"""Rules of devices, and the program that holds them on v2."""

from __future__ import annotations

import errno
import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pyns import CgroupError
from pyns.cgroups import bpf, devices
from pyns.cgroups.devices import Instruction, allow_rules


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ([], ()),
        (["c 1:3 rwm"], ("c 1:3 rwm",)),
        (["c 1:3 mwr"], ("c 1:3 rwm",)),
        (["c 1:3 rr"], ("c 1:3 r",)),
        (["c 1:3 w", "c 1:3 r"], ("c 1:3 rw",)),
        (["c 001:003 r"], ("c 1:3 r",)),
        (["c *:3 r", "c 1:* r", "b *:* m"], ("b *:* m", "c *:3 r", "c 1:* r")),
        (["b 4095:1048575 r"], ("b 4095:1048575 r",)),
        (["/dev/null rw"], ("c 1:3 rw",)),
        (["/dev/null \t rw", "/dev/zero r"], ("c 1:3 rw", "c 1:5 r")),
    ],
    ids=str,
)
def test_rules_are_kept_in_one_form(rules: list[str], kept: tuple[str, ...]) -> None:
    assert allow_rules("devices", rules) == kept
    assert allow_rules("devices", kept) == kept


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "devices: '' is not a rule, as"),
        ("a *:* rwm", "devices: 'a *:* rwm' is not a rule"),
        ("c 1:3", "devices: 'c 1:3' is not a rule"),
        ("c 1:3 rx", "devices: 'c 1:3 rx' is not a rule"),
        ("c 1 r", "devices: 'c 1 r' is not a rule"),
        ("c 1:-3 r", "devices: 'c 1:-3 r' is not a rule"),
        ("c \N{SUPERSCRIPT TWO}:1 r", "is not a rule"),
        ("c 4096:1 r", "is out of range: majors end at 4095, minors at 1048575"),
        ("c 1:1048576 r", "is out of range: majors end at 4095, minors at 1048575"),
        ("/dev/null", "is not a rule"),
        ("dev/null r", "is not a rule"),
        ("/dev/nix r", "devices: '/dev/nix' can't be looked up: [Errno 2] No such file"),
        ("/dev/null\0 r", "can't be looked up: "),
        ("/etc/passwd r", "devices: /etc/passwd is not a device"),
    ],
)
def test_rule_that_makes_no_sense_is_refused(rule: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        allow_rules("devices", [rule])


def test_path_of_a_rule_may_have_spaces(tmp_path: Path) -> None:
    link = tmp_path / "a b"
    link.symlink_to("/dev/null")
    assert allow_rules("devices", [f"{link} r"]) == ("c 1:3 r",)


def test_disk_is_named_by_its_path() -> None:
    disks = [path for path in Path("/dev").iterdir() if path.is_block_device()]
    if not disks:
        pytest.skip("/dev has no block device")
    number = disks[0].stat().st_rdev
    expected = f"{os.major(number)}:{os.minor(number)}"
    assert devices.block_device("device", str(disks[0])) == expected


HEAD = [
    (0x61, 2, 1, 0, 0),  # ldxw r2, [r1]
    (0x54, 2, 0, 0, 0xFFFF),  # and32 r2, 0xffff
    (0x61, 3, 1, 0, 0),  # ldxw r3, [r1]
    (0x74, 3, 0, 0, 16),  # rsh32 r3, 16
    (0x61, 4, 1, 4, 0),  # ldxw r4, [r1 + 4]
    (0x61, 5, 1, 8, 0),  # ldxw r5, [r1 + 8]
]
ALLOW = [(0xB7, 0, 0, 0, 1), (0x95, 0, 0, 0, 0)]
DENY = [(0xB7, 0, 0, 0, 0), (0x95, 0, 0, 0, 0)]


@pytest.mark.parametrize(
    ("rules", "body"),
    [
        ((), []),
        (("b *:* rwm",), [(0x55, 2, 0, 2, 1), *ALLOW]),
        (
            ("c 1:3 rwm",),
            [(0x55, 2, 0, 4, 2), (0x55, 4, 0, 3, 1), (0x55, 5, 0, 2, 3), *ALLOW],
        ),
        (
            ("c *:7 rw",),
            [
                (0x55, 2, 0, 6, 2),
                (0xBC, 1, 3, 0, 0),
                (0x54, 1, 0, 0, 6),
                (0x5D, 1, 3, 3, 0),
                (0x55, 5, 0, 2, 7),
                *ALLOW,
            ],
        ),
    ],
    ids=str,
)
def test_rules_become_a_program(rules: tuple[str, ...], body: list[tuple[int, ...]]) -> None:
    assert devices.program(rules) == [*HEAD, *body, *DENY]


def test_instruction_is_packed_as_the_kernel_reads_it() -> None:
    assert Instruction(0x5D, 1, 3, 2, 0).pack() == bytes([0x5D, 0x31, 2, 0, 0, 0, 0, 0])
    assert Instruction(0x55, 5, 0, 2, 0x0FFFFF).pack() == b"\x55\x05\x02\x00\xff\xff\x0f\x00"


def executed(program: list[Instruction], context: tuple[int, int, int]) -> int:
    """Return what a program answers; it knows only what ours are made of."""
    registers = [0, 0, 0, 0, 0, 0]
    place = 0
    while True:
        code, to, source, offset, number = program[place]
        place += 1
        if code == 0x61:
            registers[to] = context[offset // 4]
        elif code == 0x54:
            registers[to] &= number
        elif code == 0x74:
            registers[to] >>= number
        elif code == 0xBC:
            registers[to] = registers[source]
        elif code == 0xB7:
            registers[to] = number
        elif code == 0x55:
            place += offset if registers[to] != number else 0
        elif code == 0x5D:
            place += offset if registers[to] != registers[source] else 0
        else:
            assert code == 0x95
            return registers[0]


KINDS = {"b": 1, "c": 2}
ACCESSES = {"m": 1, "r": 2, "w": 4}


def is_allowed(rules: tuple[str, ...], kind: str, major: int, minor: int, asked: str) -> bool:
    for rule in rules:
        of, numbers, access = rule.split(" ")
        ours = numbers.split(":")
        if (
            of == kind
            and ours[0] in ("*", str(major))
            and ours[1] in ("*", str(minor))
            and set(asked) <= set(access)
        ):
            return True
    return False


@pytest.mark.parametrize(
    "rules",
    [
        (),
        ("c 1:3 rwm",),
        ("b *:* m",),
        ("c 1:3 r", "c 1:5 w"),
        ("b 1:3 rw", "c *:5 r", "c 1:* m"),
        ("c *:* rwm", "b 8:0 r"),
    ],
    ids=str,
)
def test_program_answers_as_the_rules_say(rules: tuple[str, ...]) -> None:
    program = devices.program(rules)
    accesses = ("r", "w", "m", "rw", "rm", "rwm")
    for kind, major, minor, asked in itertools.product("bc", (1, 8), (0, 3, 5), accesses):
        mask = sum(ACCESSES[letter] for letter in asked)
        answer = executed(program, (mask << 16 | KINDS[kind], major, minor))
        assert answer == is_allowed(rules, kind, major, minor, asked)


def test_error_of_the_kernel_names_the_step() -> None:
    with open("/dev/null") as file, pytest.raises(CgroupError) as caught:
        bpf.put(file.fileno(), "/sys/fs/cgroup/x", ("c 1:3 r",))
    error = caught.value
    assert error.controller == "devices"
    assert error.file == "/sys/fs/cgroup/x"
    assert error.value == "c 1:3 r"
    # EPERM for those who may not ask at all, ENOSYS where there is no bpf(2)
    assert error.errno in (errno.EBADF, errno.EPERM, errno.ENOSYS, errno.EINVAL)
    assert str(error).startswith("list the device programs of /sys/fs/cgroup/x: ")


def test_bpf_is_called_on_machines_that_are_known_only(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, Any] = {}
    monkeypatch.setattr(bpf, "_SYSCALL", known)
    with pytest.raises(CgroupError, match="a machine that it knows") as caught:
        bpf.put(-1, "/x", ())
    assert caught.value.errno == errno.ENOSYS

"""Which devices a cgroup may use: rules in words, and the program that holds them on v2.

v1 has a controller with files for it. v2 has none; there the kernel asks a small BPF program at
each open(2) and mknod(2) of a device, and those of the groups above as well: one that says no is
enough.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PROGRAM = "BPF_CGROUP_DEVICE"  # stands for a file's name where v2 has no file

_MAJORS, _MINORS = 2**12, 2**20  # dev_t of the kernel
_NUMBERS = re.compile(r"(\d+):(\d+)", re.ASCII)
_RULE = re.compile(r"([bc]) (\d+|\*):(\d+|\*) ([rwm]+)", re.ASCII)
_RULE_OF_PATH = re.compile(r"(/.*\S)\s+([rwm]+)", re.DOTALL)


def allow_rules(what: str, rules: Iterable[str]) -> tuple[str, ...]:
    """Return rules in one form: sorted, each device once, its accesses in the order "rwm".

    Raises:
        ValueError: one is not a rule, or names something that is no device.
        TypeError: they are not strings.
    """
    if isinstance(rules, (str, bytes)):
        raise TypeError(f'{what}={rules!r} is one string: give a sequence of rules, or "max"')
    allowed: dict[str, set[str]] = {}
    for rule in rules:
        device, access = _parsed(what, rule)
        allowed.setdefault(device, set()).update(access)
    return tuple(f"{device} {_ordered(access)}" for device, access in sorted(allowed.items()))


def _ordered(access: Iterable[str]) -> str:
    return "".join(sorted(access, key="rwm".index))


def _parsed(what: str, rule: str) -> tuple[str, str]:
    if not isinstance(rule, str):
        raise TypeError(f'{what}: {rule!r} is not a str, as "c 1:3 rwm"')
    if match := _RULE.fullmatch(rule):
        kind, major, minor, access = match.groups()
        for number, count in ((major, _MAJORS), (minor, _MINORS)):
            _check_number(what, rule, number, count)
        return f"{kind} {_plain(major)}:{_plain(minor)}", access
    if match := _RULE_OF_PATH.fullmatch(rule):
        path, access = match.groups()
        mode, number = _looked_up(what, path)
        if not (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
            raise ValueError(f"{what}: {path} is not a device")
        return f"{'b' if stat.S_ISBLK(mode) else 'c'} {number}", access
    raise ValueError(f'{what}: {rule!r} is not a rule, as "c 1:3 rwm", "b *:* m", "/dev/null rw"')


def _plain(number: str) -> str:
    return number if number == "*" else str(int(number))


def _check_number(what: str, device: str, number: str, count: int) -> None:
    if number != "*" and int(number) >= count:
        ends = f"majors end at {_MAJORS - 1}, minors at {_MINORS - 1}"
        raise ValueError(f"{what}: {device!r} is out of range: {ends}")


def _looked_up(what: str, path: str) -> tuple[int, str]:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{what}: {path!r} can't be looked up: {error}") from None
    return status.st_mode, f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def block_device(what: str, device: str) -> str:
    """Return "major:minor" of a disk that is given as this, or by its path.

    Raises:
        ValueError: it is neither.
        TypeError: it is not a str.
    """
    if not isinstance(device, str):
        raise TypeError(f'{what}={device!r} is not a str, as "/dev/vda" or "254:0"')
    if match := _NUMBERS.fullmatch(device):
        for number, count in zip(match.groups(), (_MAJORS, _MINORS), strict=True):
            _check_number(what, device, number, count)
        return ":".join(map(_plain, match.groups()))
    if not device.startswith("/"):
        raise ValueError(f'{what}={device!r} is not a disk, as "/dev/vda" or "254:0"')
    mode, numbers = _looked_up(what, device)
    if not stat.S_ISBLK(mode):
        raise ValueError(f"{what}: {device} is not a block device")
    return numbers


class Instruction(NamedTuple):
    """One of BPF, as linux/bpf.h lays it out."""

    code: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0

    def pack(self) -> bytes:
        """Return its eight bytes, on a little-endian machine."""
        registers = self.source << 4 | self.destination
        return struct.pack("=BBhi", self.code, registers, self.offset, self.immediate)


# linux/bpf_common.h and linux/bpf.h: class, operation and operand in one byte
_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_SHIFT_RIGHT = 0x74  # BPF_ALU | BPF_RSH | BPF_K
_MOVE = 0xBC  # BPF_ALU | BPF_MOV | BPF_X
_SET = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_JUMP_UNLESS = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_JUMP_UNLESS_REGISTER = 0x5D  # BPF_JMP | BPF_JNE | BPF_X
_EXIT = 0x95  # BPF_JMP | BPF_EXIT

_RESULT, _CONTEXT, _KIND, _ACCESS, _MAJOR, _MINOR = range(6)  # what each register holds
_KINDS = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESSES = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*


def program(rules: Iterable[str]) -> list[Instruction]:
    """Return the program that allows what the rules name and denies the rest.

    Args:
        rules: as `allow_rules` returns them.
    """
    # struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor
    instructions = [
        Instruction(_LOAD_WORD, _KIND, _CONTEXT, 0),
        Instruction(_AND, _KIND, immediate=0xFFFF),
        Instruction(_LOAD_WORD, _ACCESS, _CONTEXT, 0),
        Instruction(_SHIFT_RIGHT, _ACCESS, immediate=16),
        Instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        Instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in rules:
        tests = list(_tests(rule))
        for place, test in enumerate(tests):
            # over the other tests and the two instructions that allow
            skipped = len(tests) - place - 1 + 2
            jumps = test.code in (_JUMP_UNLESS, _JUMP_UNLESS_REGISTER)
            instructions.append(test._replace(offset=skipped) if jumps else test)
        instructions += _answer(1)
    return instructions + _answer(0)


def _answer(allowed: int) -> list[Instruction]:
    return [Instruction(_SET, _RESULT, immediate=allowed), Instruction(_EXIT)]


def _tests(rule: str) -> Iterator[Instruction]:
    """Yield what a rule asks; a jump's offset is still open."""
    kind, numbers, access = rule.split(" ")
    major, minor = numbers.split(":")
    yield Instruction(_JUMP_UNLESS, _KIND, immediate=_KINDS[kind])
    if len(access) < len(_ACCESSES):
        # one rule has to allow all that is asked for, as on v1: O_RDWR is not "r" here, "w" there
        allowed = sum(_ACCESSES[letter] for letter in access)
        yield Instruction(_MOVE, _CONTEXT, _ACCESS)  # nobody needs the context any more
        yield Instruction(_AND, _CONTEXT, immediate=allowed)
        yield Instruction(_JUMP_UNLESS_REGISTER, _CONTEXT, _ACCESS)
    if major != "*":
        yield Instruction(_JUMP_UNLESS, _MAJOR, immediate=int(major))
    if minor != "*":
        yield Instruction(_JUMP_UNLESS, _MINOR, immediate=int(minor))

"""A filter does to every number what was said, by an interpreter of BPF that is the test's own."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, seccomp
from pyns.seccomp import ALLOW, KILL, LOG, Case, Cases, assemble, check_filter, fail
from pyns.syscalls import MACHINES, numbers

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386, ARM = 0x40000003, 0x40000028
X32 = 0x40000000
EPERM, ENOSYS = fail(errno.EPERM), fail(errno.ENOSYS)


def interpret(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Return what the program does with a call; an instruction it should not have is an error."""
    code = list(struct.iter_unpack("=HBBI", program))
    given = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number, architecture, 0xDEAD, *given)
    at = accumulator = 0
    while True:
        operation, true, false, k = code[at]
        at += 1
        if operation == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            assert k % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif operation == 0x54:  # BPF_ALU | BPF_AND | BPF_K
            accumulator &= k
        elif operation == 0x05:  # BPF_JMP | BPF_JA
            at += k
        elif operation == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            at += true if accumulator == k else false
        elif operation == 0x35:  # BPF_JMP | BPF_JGE | BPF_K
            at += true if accumulator >= k else false
        else:
            assert operation == 0x06, hex(operation)  # BPF_RET | BPF_K
            return int(k)


def probes(wanted: Collection[int]) -> list[int]:
    """Return all small numbers, and those around every edge."""
    edges = [*wanted, X32, 2**31, 2**32 - 1]
    near = {n + d for n in edges for d in (-1, 0, 1)}
    return sorted({*range(700), *(n for n in near if 0 <= n < 2**32)})


def expected(number: int, rules: dict[int, int], otherwise: int, machine: str) -> int:
    if machine == "x86_64" and number >= X32:
        return ENOSYS
    return rules.get(number, otherwise)


RULES: dict[str, dict[str, int]] = {
    "none": {},
    "one": {"read": ALLOW},
    "the first and the last": {"io_setup": KILL, "read": ALLOW, "file_setattr": LOG},
    "neighbours": {"read": ALLOW, "write": ALLOW, "openat": EPERM, "close": EPERM},
    "every other": {
        name: EPERM for name, number in numbers("x86_64").items() if number % 2 and number < 335
    },
    "of one machine only": {"open": EPERM, "fork": KILL, "stat": EPERM},
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("otherwise", [ALLOW, ENOSYS], ids=["allow", "enosys"])
def test_every_number_gets_what_was_said(name: str, machine: str, otherwise: int) -> None:
    rules = RULES[name]
    program = assemble(rules, otherwise=otherwise, machine=machine)
    known = numbers(machine)
    wanted = {known[each]: action for each, action in rules.items() if each in known}
    for number in probes(wanted):
        got = interpret(program, ARCHITECTURE[machine], number)
        assert got == expected(number, wanted, otherwise, machine), number


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("program", ["default", "allow", "deny"])
def test_another_architecture_kills(machine: str, program: str) -> None:
    made = {
        "default": seccomp.default(machine=machine),
        "allow": seccomp.allow(["read"], machine=machine),
        "deny": seccomp.deny(["read"], machine=machine),
    }[program]
    for architecture in {I386, ARM, *ARCHITECTURE.values(), 0} - {ARCHITECTURE[machine]}:
        for number in (0, 11, 59, X32):
            assert interpret(made, architecture, number) == KILL


def unpacked(program: bytes) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("=HBBI", program))


def test_smallest_program_is_this() -> None:
    program = assemble({"write": EPERM}, otherwise=ALLOW, machine="aarch64")
    assert unpacked(program) == [
        (0x20, 0, 0, 4),  # A = arch
        (0x15, 1, 0, 0xC00000B7),  # aarch64?
        (0x06, 0, 0, 0x80000000),  # else kill
        (0x20, 0, 0, 0),  # A = nr
        (0x35, 1, 0, 64),  # 64 or above?
        (0x06, 0, 0, 0x7FFF0000),  # below: allow
        (0x35, 1, 0, 65),
        (0x06, 0, 0, 0x00050001),  # 64: EPERM
        (0x06, 0, 0, 0x7FFF0000),  # above: allow
    ]


def test_x86_64_program_ends_where_x32_begins() -> None:
    program = assemble({}, otherwise=ALLOW, machine="x86_64")
    assert unpacked(program)[4:] == [
        (0x35, 1, 0, 0x40000000),
        (0x06, 0, 0, 0x7FFF0000),
        (0x06, 0, 0, 0x00050026),  # ENOSYS
    ]


def test_argument_decides_which_other_one_is_looked_at() -> None:
    inner = Cases((Case(2, 0, ALLOW), Case(2, 7, LOG)), KILL)
    cases = Cases((Case(0, 16, inner), Case(0, 1, ALLOW)), fail(5))
    program = assemble({"socket": cases}, otherwise=ALLOW, machine="x86_64")
    for arguments, action in (
        ((16, 3, 0), ALLOW),
        ((16, 3, 7), LOG),
        ((16, 3, 1), KILL),
        ((1, 3, 9), ALLOW),
        ((2, 3, 0), fail(5)),
    ):
        assert interpret(program, ARCHITECTURE["x86_64"], 41, *arguments) == action


def test_program_with_arguments_is_this() -> None:
    cases = Cases((Case(1, 5, LOG), Case(0, 0, ALLOW, mask=0xF0)), KILL)
    program = assemble({"io_setup": cases}, otherwise=ALLOW, machine="aarch64")
    assert unpacked(program)[4:] == [
        (0x35, 8, 0, 1),
        (0x20, 0, 0, 24),  # A = lower half of argument 1
        (0x15, 0, 1, 5),
        (0x06, 0, 0, LOG),
        (0x20, 0, 0, 16),  # A = lower half of argument 0
        (0x54, 0, 0, 0xF0),
        (0x15, 0, 1, 0),
        (0x06, 0, 0, ALLOW),
        (0x06, 0, 0, KILL),
        (0x06, 0, 0, ALLOW),
    ]
    architecture, number = ARCHITECTURE["aarch64"], 0
    for arguments, action in (
        ((0xFF, 5), LOG),
        ((0x0F, 6), ALLOW),
        ((0x10, 6), KILL),
        ((0x0F, 2**32 + 5), LOG),  # the kernel would take it for 5
        ((2**32 + 0x10, 6), KILL),
        ((2**40, 6), ALLOW),
    ):
        assert interpret(program, architecture, number, *arguments) == action


def test_far_jumps_lead_where_they_should() -> None:
    # each rule a long one, so that halves are more than 255 instructions apart
    names = [name for name, number in numbers("x86_64").items() if number < 335]
    rules = {
        name: Cases(tuple(Case(0, n * 7 + c, fail(n)) for c in range(3)), fail(n + 1000))
        for n, name in enumerate(names)
    }
    program = assemble(rules, otherwise=ALLOW, machine="x86_64")
    assert any(operation == 0x05 for operation, *_ in unpacked(program))
    for n, number in enumerate(numbers("x86_64")[name] for name in names):
        for c in range(3):
            assert interpret(program, ARCHITECTURE["x86_64"], number, n * 7 + c) == fail(n)
        assert interpret(program, ARCHITECTURE["x86_64"], number, 2**31) == fail(n + 1000)


# by name, what the default filter does whatever the arguments are
REFUSED = (
    "mount umount2 pivot_root chroot setns move_mount open_tree fsopen fsconfig fsmount fspick "
    "mount_setattr add_key request_key keyctl bpf perf_event_open userfaultfd init_module "
    "finit_module delete_module kexec_load kexec_file_load reboot ptrace process_vm_readv "
    "process_vm_writev pidfd_getfd open_by_handle_at swapon acct syslog settimeofday clock_settime"
)
MISSING = "clone3 io_uring_setup io_uring_enter io_uring_register"
ALLOWED = (
    "read write openat close execve execveat exit_group mmap mprotect futex rt_sigaction "
    "rt_sigprocmask wait4 pipe2 dup3 sendmsg connect getrandom statx rseq prctl seccomp "
    "landlock_restrict_self memfd_create setsid kill pidfd_open close_range set_robust_list"
)


@pytest.mark.parametrize("machine", MACHINES)
def test_default_by_name(machine: str) -> None:
    program = seccomp.default(machine=machine)
    known, architecture = numbers(machine), ARCHITECTURE[machine]

    def action(name: str) -> int:
        return interpret(program, architecture, known[name])

    for names, answer in ((REFUSED, EPERM), (MISSING, ENOSYS), (ALLOWED, ALLOW)):
        assert {n: action(n) for n in names.split()} == dict.fromkeys(names.split(), answer)
    unknown = set(range(700)) - set(known.values())
    assert {interpret(program, architecture, number) for number in unknown} == {ENOSYS}


EAFNOSUPPORT = fail(errno.EAFNOSUPPORT)
FLAGS = {
    name: 1 << bit
    for name, bit in {
        "NEWTIME": 7,
        "NEWNS": 17,
        "NEWCGROUP": 25,
        "NEWUTS": 26,
        "NEWIPC": 27,
        "NEWUSER": 28,
        "NEWPID": 29,
        "NEWNET": 30,
    }.items()
}


@pytest.mark.parametrize("machine", MACHINES)
def test_default_by_argument(machine: str) -> None:
    program = seccomp.default(machine=machine)

    def action(name: str, *arguments: int) -> int:
        return interpret(program, ARCHITECTURE[machine], numbers(machine)[name], *arguments)

    thread, fork = 0x3D0F00, 0x1200011
    assert (action("clone", thread), action("clone", fork)) == (ALLOW, ALLOW)
    for name, flag in FLAGS.items():
        assert action("unshare", flag) == action("unshare", 0x400 | flag) == EPERM
        if name != "NEWTIME":  # in clone(2) it is a bit of the exit signal
            assert action("clone", flag | 17) == action("clone", thread | flag) == EPERM
    assert action("unshare", 0x400) == ALLOW
    for call in ("socket", "socketpair"):
        assert action(call, 16, 3, 0) == ALLOW  # NETLINK_ROUTE
        assert action(call, 16, 3, 15) == fail(errno.EPROTONOSUPPORT)  # NETLINK_KOBJECT_UEVENT
        families = {family for family in range(64) if action(call, family, 1) == ALLOW}
        assert families == {1, 2, 10, 16}
        assert action(call, 40, 1) == action(call, 2**32 + 40, 1) == EAFNOSUPPORT
    assert [r for r in range(0x5400, 0x5480) if action("ioctl", 0, r) == EPERM] == [
        0x5412,
        0x541C,
        0x5423,
    ]
    assert action("ioctl", 0, 2**32 + 0x5412) == EPERM
    assert action("personality", 0xFFFFFFFF) == action("personality", 0) == ALLOW
    assert action("personality", 0x0040000) == EPERM  # ADDR_NO_RANDOMIZE


@pytest.mark.parametrize("machine", MACHINES)
def test_default_is_changed_by_name(machine: str) -> None:
    program = seccomp.default(allow=["ptrace", "socket"], deny=["getpid"], machine=machine)
    known, architecture = numbers(machine), ARCHITECTURE[machine]
    assert interpret(program, architecture, known["ptrace"]) == ALLOW
    assert interpret(program, architecture, known["socket"], 40) == ALLOW
    assert interpret(program, architecture, known["getpid"]) == EPERM
    assert interpret(program, architecture, known["keyctl"]) == EPERM


def test_default_is_of_this_machine() -> None:
    assert seccomp.default() == seccomp.default(machine=os.uname().machine)


@pytest.mark.parametrize("machine", MACHINES)
def test_allow_and_deny_are_what_they_say(machine: str) -> None:
    known, architecture = numbers(machine), ARCHITECTURE[machine]
    some = ["read", "execve", "exit_group"]
    allowed = seccomp.allow(some, error=errno.EXDEV, machine=machine)
    denied = seccomp.deny(some, error=errno.EXDEV, machine=machine)
    for name, number in known.items():
        first, second = (interpret(each, architecture, number) for each in (allowed, denied))
        assert (first, second) == (
            (ALLOW, fail(errno.EXDEV)) if name in some else (fail(errno.EXDEV), ALLOW)
        )
    assert interpret(allowed, architecture, 600) == fail(errno.EXDEV)
    assert interpret(denied, architecture, 600) == ENOSYS


@pytest.mark.parametrize("make", [seccomp.allow, seccomp.deny])
def test_unknown_name_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="no system call that pyns knows: nosuch, reed"):
        make(["read", "reed", "nosuch"])


def test_name_in_both_is_refused() -> None:
    with pytest.raises(ValueError, match="in allow and in deny: bpf"):
        seccomp.default(allow=["bpf", "keyctl"], deny=["bpf"])


def test_unknown_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="machine='riscv64' is none of x86_64, aarch64"):
        seccomp.default(machine="riscv64")


@pytest.mark.parametrize("error", [-1, 4096])
def test_number_that_is_no_errno_is_refused(error: int) -> None:
    with pytest.raises(ValueError, match=f"{error} is no errno"):
        fail(error)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"", "0 bytes are no array of struct sock_filter"),
        (bytes(7), "7 bytes are no array of struct sock_filter"),
        (bytes(12), "12 bytes are no array of struct sock_filter"),
        (bytes(8 * 4097), "4097 instructions are more than the kernel's 4096"),
    ],
    ids=["empty", "short", "half", "long"],
)
def test_what_is_no_program_is_refused(program: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Container(seccomp=program, no_new_privileges=True)


@pytest.mark.parametrize("program", ["default", 5, [(6, 0, 0, 0)], bytearray(8)], ids=str)
def test_value_of_another_type_is_refused(program: Any) -> None:
    with pytest.raises(TypeError, match="give bytes, an array of struct sock_filter"):
        Container(seccomp=program)


def test_longest_program_is_kept() -> None:
    assert check_filter(bytes(8 * 4096)) == bytes(8 * 4096)


def test_filter_without_the_privilege_for_it_is_refused() -> None:
    program = seccomp.default()
    for kept in ((), ("net_raw",)):
        with pytest.raises(ValueError, match="without CAP_SYS_ADMIN: add no_new_privileges=True"):
            Container(seccomp=program, capabilities=kept)
    for given in (
        {"no_new_privileges": True, "capabilities": ()},
        {"capabilities": ["sys_admin"]},
        {},
    ):
        box = Container(seccomp=program, **given)
        assert box == dataclasses.replace(box)


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/aarch64-linux-gnu/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_headers(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is missing: no headers to compare with")
    found = re.findall(r"^#define __NR_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    known = numbers(machine)
    there = {name: int(number) for name, number in found if name in known}
    assert len(there) > 250
    assert {name: known[name] for name in there} == there


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_unique(machine: str) -> None:
    assert len(set(numbers(machine).values())) == len(numbers(machine))

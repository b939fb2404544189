"""Seccomp filters: which system calls a program may make, assembled into BPF for the kernel.

Every filter begins with the architecture: another entry than the machine's own 64-bit one, such as
`int 0x80`, has other numbers, and kills the program. Those of x32 fail with ENOSYS.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

from pyns.steps import Operands, Step
from pyns.syscalls import check_names, numbers

# seccomp(2): what a filter returns
KILL = 0x80000000
ALLOW = 0x7FFF0000
LOG = 0x7FFC0000  # allowed, and noted by the audit log
_ERRNO = 0x00050000

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # <linux/audit.h>
_X32 = 0x40000000  # from here on x86_64 numbers are those of x32
_ALL = 2**32 - 1
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_MOST = 4096  # BPF_MAXINSNS
# <linux/bpf_common.h>, combined
_LOAD, _AND, _JUMP, _JUMP_EQUAL, _JUMP_NOT_BELOW, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
# struct seccomp_data
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16


def fail(error: int) -> int:
    """Return the action that has a system call fail with an errno.

    Example:
        >>> hex(fail(errno.EPERM))
        '0x50001'
    """
    if not 0 <= error <= 4095:
        raise ValueError(f"{error} is no errno")
    return _ERRNO | error


@dataclass(frozen=True)
class Case:
    """What to do when the lower 32 bits of an argument, masked, are a value.

    The upper half is not looked at: neither does the kernel, where it takes an int.
    """

    argument: int
    value: int
    action: int | Cases  # by another argument
    mask: int = _ALL


@dataclass(frozen=True)
class Cases:
    """What to do with a system call by its arguments: the first case that fits."""

    cases: tuple[Case, ...]
    otherwise: int


Rule = int | Cases


def assemble(rules: Mapping[str, Rule], *, otherwise: int, machine: str | None = None) -> bytes:
    """Return the BPF program for `Container.seccomp`.

    Args:
        rules: name of a system call → an action (`ALLOW`, `KILL`, `LOG`, `fail(errno)`) or `Cases`.
            Names that only other machines have say nothing here.
        otherwise: what is done with every other number.
        machine: "x86_64" or "aarch64"; None for this one.

    Raises:
        ValueError: an unknown name or machine, or a program of more than 4096 instructions.

    Source: seccomp(2).

    Example:
        >>> rules = {"mount": fail(errno.EPERM), "clone3": fail(errno.ENOSYS)}
        >>> len(assemble(rules, otherwise=ALLOW, machine="x86_64")) // 8
        15
    """
    machine = machine or os.uname().machine
    known = numbers(machine)
    check_names(frozenset(rules))
    by_number = {known[name]: rule for name, rule in rules.items() if name in known}
    start = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    ranges = _ranges(by_number, otherwise, x32=machine == "x86_64")
    program = b"".join(_INSTRUCTION.pack(*each) for each in start + _decide(ranges))
    return check_filter(program)


_Instruction = tuple[int, int, int, int]
_Ranges = list[tuple[int, Rule]]


def _ranges(rules: Mapping[int, Rule], otherwise: Rule, *, x32: bool) -> _Ranges:
    """Return (first number, rule) for each run of numbers that one rule goes for."""
    changes = {0: otherwise}
    for number in sorted(rules):
        changes[number] = rules[number]
        changes.setdefault(number + 1, otherwise)
    if x32:
        changes[_X32] = fail(errno.ENOSYS)
    ranges: _Ranges = []
    for number, rule in sorted(changes.items()):
        if not ranges or ranges[-1][1] != rule:
            ranges.append((number, rule))
    return ranges


def _decide(ranges: _Ranges) -> list[_Instruction]:
    """Return the binary search for the range that a number lies in."""
    if len(ranges) == 1:
        return _apply(ranges[0][1])
    half = len(ranges) // 2
    below, above = _decide(ranges[:half]), _decide(ranges[half:])
    if len(below) <= 255:  # as far as a conditional jump goes
        return [(_JUMP_NOT_BELOW, len(below), 0, ranges[half][0]), *below, *above]
    jump: list[_Instruction] = [
        (_JUMP_NOT_BELOW, 0, 1, ranges[half][0]),
        (_JUMP, 0, 0, len(below)),
    ]
    return [*jump, *below, *above]


def _apply(rule: Rule) -> list[_Instruction]:
    if isinstance(rule, int):
        return [(_RETURN, 0, 0, rule)]
    code: list[_Instruction] = []
    for case in rule.cases:
        code.append((_LOAD, 0, 0, _ARGUMENTS_AT + 8 * case.argument))
        if case.mask != _ALL:
            code.append((_AND, 0, 0, case.mask))
        then = _apply(case.action)
        code += [(_JUMP_EQUAL, 0, len(then), case.value), *then]
    return [*code, (_RETURN, 0, 0, rule.otherwise)]


def allow(names: Collection[str], *, error: int = errno.EPERM, machine: str | None = None) -> bytes:
    """Return the filter that lets a program make these system calls and no others.

    Args:
        names: among them execve, by which it is started, and exit_group.
        error: errno of all others.
        machine: "x86_64" or "aarch64"; None for this one.

    Raises:
        ValueError: an unknown name.
    """
    return assemble(dict.fromkeys(names, ALLOW), otherwise=fail(error), machine=machine)


def deny(names: Collection[str], *, error: int = errno.EPERM, machine: str | None = None) -> bytes:
    """Return the filter that lets a program make all system calls of Linux 6.18 but these.

    Args:
        names: those to refuse.
        error: their errno. Those of newer kernels fail with ENOSYS.
        machine: "x86_64" or "aarch64"; None for this one.

    Raises:
        ValueError: an unknown name.
    """
    machine = machine or os.uname().machine
    rules = dict.fromkeys(numbers(machine), ALLOW) | dict.fromkeys(names, fail(error))
    return assemble(rules, otherwise=fail(errno.ENOSYS), machine=machine)


# What no namespace covers, and what code that nobody trusts has no business with.
_REFUSED = """
    mount umount2 pivot_root chroot setns move_mount open_tree open_tree_attr mount_setattr
    fsopen fsconfig fsmount fspick
    add_key request_key keyctl
    bpf perf_event_open userfaultfd fanotify_init lsm_set_self_attr
    init_module finit_module delete_module create_module get_kernel_syms query_module
    kexec_load kexec_file_load reboot
    ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd
    open_by_handle_at lookup_dcookie
    mbind get_mempolicy set_mempolicy set_mempolicy_home_node migrate_pages move_pages
    acct quotactl quotactl_fd swapon swapoff syslog vhangup sethostname setdomainname
    clock_settime settimeofday iopl ioperm modify_ldt uselib ustat sysfs _sysctl nfsservctl
"""
# Their callers ask for something else instead when they are told that it is not there. No filter
# sees clone3's flags, and io_uring's operations pass every filter by.
_MISSING = "clone3 io_uring_setup io_uring_enter io_uring_register"

_NAMESPACES = 0x7E020000  # CLONE_NEWNS ... CLONE_NEWNET
_NEWTIME = 0x80  # to clone(2), a bit of the exit signal
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: not AF_VSOCK, AF_ALG, ...
_AF_NETLINK, _NETLINK_ROUTE = 16, 0  # of its own interfaces; others tell of the host's devices, ...
_TERMINAL = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD
# PER_LINUX, PER_LINUX32, both with UNAME26, and the question
_PERSONALITIES = (0, 8, 0x20000, 0x20008, _ALL)


def _only(argument: int, values: Collection[int], error: int) -> Cases:
    return Cases(tuple(Case(argument, value, ALLOW) for value in values), fail(error))


def _by_argument() -> dict[str, Cases]:
    eperm = fail(errno.EPERM)
    netlink = Case(0, _AF_NETLINK, _only(2, (_NETLINK_ROUTE,), errno.EPROTONOSUPPORT))
    families = _only(0, _FAMILIES, errno.EAFNOSUPPORT)
    families = Cases((*families.cases, netlink), families.otherwise)
    return {
        "clone": Cases((Case(0, 0, ALLOW, mask=_NAMESPACES),), eperm),
        "unshare": Cases((Case(0, 0, ALLOW, mask=_NAMESPACES | _NEWTIME),), eperm),
        "socket": families,
        "socketpair": families,
        "ioctl": Cases(tuple(Case(1, value, eperm) for value in _TERMINAL), ALLOW),
        "personality": _only(0, _PERSONALITIES, errno.EPERM),
    }


def default(
    *, allow: Collection[str] = (), deny: Collection[str] = (), machine: str | None = None
) -> bytes:
    """Return the filter for code that nobody trusts.

    It refuses new namespaces, mounts, keyrings, bpf, perf, userfaultfd, modules, kexec, ptrace,
    handles, NUMA, clocks, ports, typing into a terminal (EPERM); sockets but those of UNIX, IP and
    NETLINK_ROUTE (EAFNOSUPPORT, EPROTONOSUPPORT); clone3, io_uring and what is newer than Linux
    6.18 (ENOSYS). Another architecture's entry kills.

    Args:
        allow: names to allow all the same, such as "ptrace" for a debugger.
        deny: names to refuse as well (EPERM).
        machine: "x86_64" or "aarch64"; None for this one.

    Raises:
        ValueError: an unknown name, or one that is in both.

    Example:
        >>> default(allow=["ptrace"]) != default()
        True
    """
    if both := set(allow) & set(deny):
        raise ValueError(f"in allow and in deny: {', '.join(sorted(both))}")
    return _default(frozenset(allow), frozenset(deny), machine or os.uname().machine)


@cache
def _default(allowed: frozenset[str], denied: frozenset[str], machine: str) -> bytes:
    rules: dict[str, Rule] = dict.fromkeys(numbers(machine), ALLOW)
    rules |= dict.fromkeys(_REFUSED.split(), fail(errno.EPERM))
    rules |= dict.fromkeys(_MISSING.split(), fail(errno.ENOSYS))
    rules |= _by_argument()
    rules |= dict.fromkeys(allowed, ALLOW)
    rules |= dict.fromkeys(denied, fail(errno.EPERM))
    return assemble(rules, otherwise=fail(errno.ENOSYS), machine=machine)


def check_filter(program: bytes) -> bytes:
    """Return the program; ValueError or TypeError for what can't be one."""
    if not isinstance(program, bytes):
        raise TypeError(f"seccomp={program!r}: give bytes, an array of struct sock_filter")
    count, rest = divmod(len(program), _INSTRUCTION.size)
    if rest or not count:
        raise ValueError(f"seccomp: {len(program)} bytes are no array of struct sock_filter")
    if count > _MOST:
        raise ValueError(f"seccomp: {count} instructions are more than the kernel's {_MOST}")
    return program


class InstallFilter(Step):
    """Restricts the system calls from here on (seccomp(2))."""

    kind = "install_filter"
    calls = "seccomp"
    program: bytes

    def describe(self) -> str:
        count = len(self.program) // _INSTRUCTION.size
        return f"install a seccomp filter of {count} instructions"

    def operands(self) -> Operands:
        return Operands(value=len(self.program), data=self.program)

    def hint(self, error: int) -> str | None:
        return {
            errno.EACCES: "It takes no_new_privileges=True, or CAP_SYS_ADMIN, which the program "
            "does not have by then",
            errno.EINVAL: "The kernel's check refuses the filter: an instruction that it does not "
            "know, a jump that leads outside, or no return at the end",
        }.get(error)

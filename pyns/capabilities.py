"""Capabilities: their names, and the steps after which a program has these and no others."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from functools import cache

from pyns.steps import Operands, Step

# <linux/capability.h>, by number
NAMES = (
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
)


def parse_capabilities(names: Collection[str]) -> tuple[str, ...]:
    """Return the names as capabilities(7) has them, in lower case, each once, by number.

    Args:
        names: such as "net_raw", "cap_net_raw" or "CAP_NET_RAW".

    Raises:
        TypeError: not a collection of strings.
        ValueError: a name that there is not, or that this kernel does not have yet.

    Example:
        >>> parse_capabilities(["net_raw", "CAP_CHOWN"])
        ('cap_chown', 'cap_net_raw')
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f'capabilities={names!r}: give a list of names, as ("net_raw",), or ()')
    numbers = set()
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"capabilities: {name!r} is not a name")
        known = name.lower().removeprefix("cap_")
        if known not in NAMES:
            raise ValueError(f"capabilities: {name!r} is none of {', '.join(NAMES)}")
        number = NAMES.index(known)
        if number > last_of_kernel():
            last = NAMES[last_of_kernel()]
            raise ValueError(f"capabilities: this kernel does not have {name!r}, it ends at {last}")
        numbers.add(number)
    return tuple(f"cap_{NAMES[number]}" for number in sorted(numbers))


@cache
def last_of_kernel() -> int:
    """Return the number of the kernel's last capability; ours where there is no /proc."""
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return len(NAMES) - 1


def _mask(names: tuple[str, ...]) -> int:
    return sum(1 << NAMES.index(name.removeprefix("cap_")) for name in names)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


class DropBounding(Step):
    """Takes all others out of the bounding set (PR_CAPBSET_DROP(2const))."""

    kind = "drop_bounding"
    calls = "prctl"
    kept: tuple[str, ...]

    def describe(self) -> str:
        return f"drop all capabilities from the bounding set but {_listed(self.kept)}"

    def operands(self) -> Operands:
        return Operands(flags=_mask(self.kept))

    def hint(self, error: int) -> str | None:
        if error == errno.EPERM:
            return (
                "It takes CAP_SETPCAP, as root or in a user namespace. Without either, "
                "no_new_privileges=True keeps the program from gaining any"
            )
        return None


class KeepCapabilities(Step):
    """Keeps the permitted set when the uid changes from 0 (PR_SET_KEEPCAPS(2const))."""

    kind = "keep_capabilities"
    calls = "prctl"

    def describe(self) -> str:
        return "keep capabilities over the change of the uid"

    def hint(self, error: int) -> str | None:
        if error == errno.EPERM:
            return "SECBIT_KEEP_CAPS_LOCKED is set: whoever started the caller forbids it"
        return None


class SetCapabilities(Step):
    """Sets the effective, permitted and inheritable sets (capset(2))."""

    kind = "set_capabilities"
    calls = "capset"
    kept: tuple[str, ...]

    def describe(self) -> str:
        return f"have the capabilities {_listed(self.kept)}"

    def operands(self) -> Operands:
        return Operands(flags=_mask(self.kept))

    def hint(self, error: int) -> str | None:
        if error == errno.EPERM:
            return "Nobody gives what he has not: the caller lacks one of them (CapPrm and CapBnd)"
        return None


class RaiseAmbient(Step):
    """Has execve keep them, whoever the user is (PR_CAP_AMBIENT(2const))."""

    kind = "raise_ambient"
    calls = "prctl"
    kept: tuple[str, ...]

    def describe(self) -> str:
        return f"keep over execve the capabilities {_listed(self.kept)}"

    def operands(self) -> Operands:
        return Operands(flags=_mask(self.kept))

    def hint(self, error: int) -> str | None:
        if error == errno.EPERM:
            return "SECBIT_NO_CAP_AMBIENT_RAISE is set: whoever started the caller forbids it"
        return None


def steps_before_uid(kept: Collection[str], *, changes_uid: bool) -> Iterator[Step]:
    """Yield what takes capabilities that a change of the uid takes away (EPERM)."""
    names = parse_capabilities(kept)
    yield DropBounding(names)
    if names and changes_uid:
        yield KeepCapabilities()


def steps_after_uid(kept: Collection[str]) -> Iterator[Step]:
    """Yield what sets the other sets. The uid's own change needs capabilities (EPERM)."""
    names = parse_capabilities(kept)
    yield SetCapabilities(names)
    # without any, capset has emptied the ambient set too
    if names:
        yield RaiseAmbient(names)

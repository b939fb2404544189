"""Security labels: the AppArmor profile or SELinux context that a program runs in."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from pyns.steps import Operands, Step


class SetExecLabel(Step):
    """Says what the next execve makes of the security label (proc_pid_attr(5))."""

    kind = "set_exec_label"
    calls = "openat write"
    module: str
    path: bytes
    label: bytes

    def describe(self) -> str:
        return f"have execve set the {self.module} label: {os.fsdecode(self.label)!r}"

    def operands(self) -> Operands:
        return Operands((self.path, self.label))

    def hint(self, error: int) -> str | None:
        if error in (errno.EINVAL, errno.ENOENT):
            return (
                f"{self.module} is not active on this host (/sys/kernel/security/lsm), or has no "
                "such label loaded"
            )
        return None


def label_steps(apparmor_profile: str | None, selinux_label: str | None) -> Iterator[Step]:
    """Yield what is written to the caller's /proc for each that is given."""
    if apparmor_profile is not None:
        label = b"exec " + os.fsencode(apparmor_profile)
        yield SetExecLabel("AppArmor", b"/proc/self/attr/apparmor/exec", label)
    if selinux_label is not None:
        yield SetExecLabel("SELinux", b"/proc/self/attr/exec", os.fsencode(selinux_label))


def check_label(name: str, label: str | None) -> None:
    """Raise TypeError or ValueError for what can be no label."""
    if label is None:
        return
    if not isinstance(label, str):
        raise TypeError(f"{name}={label!r} is not a string")
    if not label or "\0" in label or "\n" in label:
        raise ValueError(f"{name}={label!r}: give the name of one, or None")

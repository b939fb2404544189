"""What is hidden or read-only inside, though it is mounted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pyns.mount_steps import MakeReadOnly, Mask, SetAside, TakeMasks
from pyns.steps import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    NewMount,
    OpenTree,
    SetAttributes,
    Step,
)

# What Docker 29 hides and protects: what tells of the host, or lets its root change it. Docker also
# hides /sys/devices/system/cpu/cpu*/thermal_throttle, one path for each CPU of the host.
MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY_PATHS: Final = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def prepare_steps() -> Iterator[Step]:
    """Yield the steps that get hold of what masks: before a mount can hide the caller's /dev."""
    yield OpenTree(b"/dev/null", recursive=False)
    # else chmod of what is masked would change the caller's
    yield SetAttributes(MOUNT_ATTR_RDONLY)
    yield SetAside()
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    limits = ((b"mode", b"755"), (b"size", b"4096"), (b"nr_inodes", b"1"))
    yield NewMount(b"tmpfs", limits, attributes)
    yield TakeMasks()


def mask_steps(masked: Sequence[bytes], read_only: Sequence[bytes]) -> Iterator[Step]:
    """Yield the steps that protect and hide.

    Args:
        masked: paths beneath the root that are empty afterwards.
        read_only: paths beneath the root that are read-only afterwards, with all below.
    """
    # in this order: copied later, what is masked would be copied with its mask, to no purpose
    for path in read_only:
        yield MakeReadOnly(path)
    for path in masked:
        yield Mask(path)

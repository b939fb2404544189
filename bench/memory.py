"""Memory that the parent holds."""

from __future__ import annotations

import mmap
from contextlib import suppress

MEBIBYTE = 1 << 20


def available_megabytes() -> int:
    """Return what may be held without the OOM killer."""
    with open("/proc/meminfo") as file:
        kilobytes = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    return kilobytes // 1024 - 512


def hold(megabytes: int) -> mmap.mmap:
    """Return touched anonymous memory, in small pages: the most page tables that it can have."""
    memory = mmap.mmap(-1, megabytes * MEBIBYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # EINVAL: a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    with memoryview(memory) as view:
        step = mmap.PAGESIZE
        view[::step] = b"x" * (megabytes * MEBIBYTE // step)
    return memory

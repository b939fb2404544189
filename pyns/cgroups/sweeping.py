"""How groups are found whose owners died without removing them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from pyns.cgroups import placing
from pyns.cgroups.files import Directory
from pyns.cgroups.killing import gone_is_fine

# as placing.private_name makes them: pid, start time, PID namespace, number
_PRIVATE = re.compile(r"(\d+)-(\d+)-(\d+)-\d+", re.ASCII)


def sweep() -> list[str]:
    """Remove the empty groups of processes that are no more, below the default parent.

    Only groups with a name that pyns made, of a process of the caller's PID namespace that has
    ended, and without a process in them or below; others are left alone.

    Returns:
        The directories that were removed.

    Raises:
        CgroupError: a directory can't be read (EACCES).

    Needs: write access to the default parent.
    Source: cgroups(7).

    Example:
        >>> all("/pyns/" in path for path in sweep())
        True
    """
    removed: list[str] = []
    for base, above in placing.default_bases().values():
        parent = "/".join((base, *above))
        with gone_is_fine(), Directory(parent) as directory:
            for child in directory.children():
                with child:
                    if is_stray(os.path.basename(child.path)):
                        removed.extend(_remove_if_empty(child))
        if above:
            with suppress(OSError):  # in use
                os.rmdir(parent)
    return removed


def is_stray(name: str) -> bool:
    """Whether the name is of a private group whose owner has ended, as far as can be told."""
    match = _PRIVATE.fullmatch(name)
    if match is None:
        return False
    pid, start, namespace = map(int, match.groups())
    if namespace != os.stat("/proc/self/ns/pid").st_ino:
        return False  # that pid is of another count
    try:
        return placing.start_time(pid) != start
    except (FileNotFoundError, ProcessLookupError):
        return True


def _remove_if_empty(directory: Directory) -> Iterator[str]:
    with gone_is_fine():  # others sweep as well
        for child in directory.children():
            with child:
                yield from _remove_if_empty(child)
    with suppress(OSError):  # the kernel refuses what is not empty
        os.rmdir(directory.path)
        yield directory.path

"""How limits get to the hierarchies of a group, and how they are put into force there."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterator, Mapping, Sequence

from pyns.cgroups import bpf, delegation, devices, v1, v2
from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy, hierarchies
from pyns.cgroups.limits import Limits, Write
from pyns.errors import CgroupError

_VERSIONS = {1: v1, 2: v2}


def needed_controllers(limits: Limits, offered: Sequence[Hierarchy] | None) -> set[str]:
    """Return the controllers that limits need, by the names that they have where they are offered.

    Args:
        limits: what to limit.
        offered: the hierarchies; None for all of this host.
    """
    needed = limits.controllers()
    if needed & {"io", "devices"}:
        offered = hierarchies() if offered is None else offered
        if "io" in needed and _of_v1("blkio", offered):
            needed = needed - {"io"} | {"blkio"}
        # v2 needs no controller for it
        if not _of_v1("devices", offered) and any(h.version == 2 for h in offered):
            needed = needed - {"devices"}
    return needed


def _of_v1(controller: str, offered: Sequence[Hierarchy]) -> bool:
    return any(h.version == 1 and controller in h.controllers for h in offered)


def shares(limits: Limits, offered: Sequence[Hierarchy]) -> Iterator[tuple[Hierarchy, Limits]]:
    """Yield each hierarchy with those of the limits that are its own.

    Raises:
        ValueError: "cgroup.*" files are wanted, and none of the hierarchies is v2.
    """
    wanted = limits.controllers()
    of_v2 = any(name.startswith("cgroup.") for name in dict(limits.given().get("extra", ())))
    if of_v2 and not any(hierarchy.version == 2 for hierarchy in offered):
        raise ValueError("extra: files cgroup.* are v2's, and the cgroup is in no v2 hierarchy")
    for hierarchy in offered:
        own = set(hierarchy.controllers)
        if hierarchy.version == 1 and "blkio" in own:
            own.add("io")
        elif hierarchy.version == 2:
            own.add("cgroup")
            if not _of_v1("devices", offered):
                own.add("devices")
        if own & (wanted | ({"cgroup"} if of_v2 else set())):
            yield hierarchy, limits.only(own)


@functools.lru_cache(maxsize=64)
def writes_to_fresh(
    limits: Limits, offered: tuple[Hierarchy, ...]
) -> tuple[tuple[Hierarchy, Write], ...]:
    """Return the writes for a group that is about to be made; reads nothing.

    Raises:
        ValueError: these limits can't be said on these hierarchies.
    """
    return tuple(
        [
            (hierarchy, write)
            for hierarchy, own in shares(limits, offered)
            for write in _VERSIONS[hierarchy.version].writes(own)
        ]
    )


def writes_to_living(
    limits: Limits, directories: Mapping[Hierarchy, Directory]
) -> list[tuple[Hierarchy, Write]]:
    """Return the writes for a group that has limits already.

    Raises:
        ValueError: as `writes_to_fresh`.
        CgroupError: what it has can't be read.
    """
    result = []
    for hierarchy, own in shares(limits, list(directories)):
        version = _VERSIONS[hierarchy.version]
        texts = {file: directories[hierarchy].read_if_there(file) for file in version.reads(own)}
        now = {file: text.strip() for file, text in texts.items() if text is not None}
        result += [(hierarchy, write) for write in version.writes(own, now)]
    return result


def put(hierarchy: Hierarchy, directory: Directory, write: Write) -> None:
    """Put one limit into force.

    Raises:
        CgroupError: the kernel refuses it, or has no such file (EOPNOTSUPP).
    """
    if write.file == devices.PROGRAM:
        rules = None if write.value == "max" else tuple(write.value.splitlines())
        bpf.put(directory.fd, directory.path, rules)
        return
    places = [(write.file, write.value), *([write.also] if write.also else [])]
    refusals = []
    for file, value in places:
        try:
            directory.write(file, value, write.controller)
        except CgroupError as error:
            refusals.append(error)
    # of two files one is enough: they belong to different schedulers
    serious = [e for e in refusals if e.errno not in (errno.ENOENT, errno.EOPNOTSUPP)]
    if serious or len(refusals) == len(places):
        raise _explained(hierarchy, directory, write, (serious or refusals)[0])


def _explained(
    hierarchy: Hierarchy, directory: Directory, write: Write, error: CgroupError
) -> CgroupError:
    missing = error.errno == errno.ENOENT
    if missing and directory.read_if_there("cgroup.procs") is None:
        return error  # it is the group that is gone
    if missing and hierarchy.version == 2:
        hint = delegation.why_not_handed_down(write.controller, directory.path)
    else:
        hint = delegation.why_limit_refused(directory.path, write.file, error.errno)
    return CgroupError(
        errno.EOPNOTSUPP if missing else error.errno or 0,
        error.action,
        controller=error.controller,
        file=error.file,
        value=error.value,
        hint=hint or _VERSIONS[hierarchy.version].hint(write.file, error.errno or 0),
    )

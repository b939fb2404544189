"""Each kind of mount, as pyns is asked for it and as the floor is."""

from __future__ import annotations

from typing import NamedTuple

from bench.floor import FloorMount, Start, expect_success
from bench.isolation import BASE, HOSTNAME, Place
from pyns import (
    Bind,
    CgroupFs,
    Container,
    Dev,
    Devpts,
    Dir,
    File,
    Mqueue,
    Overlay,
    Proc,
    Symlink,
    Sysfs,
    Tmpfs,
    clone_into,
)
from pyns.cgroups import hierarchies
from pyns.mounts import Mount


class Kind(NamedTuple):
    """One kind: the same, said twice."""

    pyns: tuple[Mount, ...]
    floor: FloorMount


MOUNTS = (
    "Bind",
    "Bind, read-only",
    "Tmpfs",
    "Tmpfs, Dir, Symlink",
    "Proc",
    "Sysfs",
    "Mqueue",
    "Devpts",
    "Dev",
    "File",
    "Overlay",
    "CgroupFs, v2",
)


def mount_kinds(place: Place) -> dict[str, Kind]:
    """Return those of MOUNTS, mounted on what lies in the root for it."""
    work = str(place.work)
    kinds = {
        "Bind": Kind((Bind(work, "/m"),), FloorMount("BIND", "/m", work)),
        "Bind, read-only": Kind(
            (Bind(work, "/m", read_only=True),), FloorMount("BIND_READ_ONLY", "/m", work)
        ),
        "Tmpfs": Kind((Tmpfs("/m"),), FloorMount("TMPFS", "/m")),
        "Tmpfs, Dir, Symlink": Kind(
            (Tmpfs("/m"), Dir("/m/directory"), Symlink("/m/link", "directory")),
            FloorMount("TMPFS_WITH_ENTRIES", "/m"),
        ),
        "Proc": Kind((Proc("/m"),), FloorMount("PROC", "/m")),
        "Sysfs": Kind((Sysfs("/m"),), FloorMount("SYSFS", "/m")),
        "Mqueue": Kind((Mqueue("/m"),), FloorMount("MQUEUE", "/m")),
        "Devpts": Kind((Devpts("/m"),), FloorMount("DEVPTS", "/m")),
        "Dev": Kind((Dev(),), FloorMount("DEV", "/dev")),
        "File": Kind((File("/f", "content"),), FloorMount("FILE_CONTENT", "/f", "content")),
        "Overlay": Kind((Overlay("/m", lower=[work]),), FloorMount("OVERLAY", "/m", work)),
    }
    unified = tuple(h for h in hierarchies() if h.version == 2)
    if unified:
        mount = CgroupFs("/m", hierarchies=unified[:1])
        kinds["CgroupFs, v2"] = Kind((mount,), FloorMount("CGROUP2", "/m"))
    return kinds


def prepare_pyns(place: Place, argv: list[str], *mounts: Mount) -> Start:
    """Return what starts a program with pyns, with these mounts besides its /proc."""
    container = Container(
        namespaces=BASE, root=place.root, mounts=[Proc(), *mounts], hostname=HOSTNAME
    )
    return pyns_start(container, argv)


def prepare_floor(place: Place, argv: list[str], *mounts: FloorMount) -> Start:
    """Return what starts it with bare C, likewise."""
    mounts = (FloorMount("PROC", "/proc"), *mounts)
    return place.floor.prepare(
        argv, namespaces=BASE, root=place.root, hostname=HOSTNAME, mounts=mounts
    )


def pyns_start(container: Container, argv: list[str]) -> Start:
    """Return what starts a program in a container."""
    return lambda: expect_success(clone_into(container, argv).wait())

"""What the subjects are asked to isolate, and where the program lies that they start."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.floor import Floor
from pyns import Container, Namespace, Proc

HOSTNAME = "bench"
BASE = Namespace.PID | Namespace.MOUNT | Namespace.UTS | Namespace.IPC
EVERY = BASE | Namespace.NET | Namespace.USER | Namespace.CGROUP | Namespace.TIME
SETS = {
    "none": Namespace(0),
    "pid": Namespace.PID,
    "pid+mount+uts+ipc": BASE,
    "+net": BASE | Namespace.NET,
    "+user": BASE | Namespace.NET | Namespace.USER,
    "all": EVERY,
}


@dataclass(frozen=True)
class Place:
    """Where the program lies, and what starts other tools.

    Attributes:
        root: directory that becomes / with a MOUNT namespace: `probe`, and an empty /proc.
        work: directory for what a tool needs besides.
        floor: bare C.
    """

    root: Path
    work: Path
    floor: Floor

    def probe(self, namespaces: Namespace) -> str:
        """Return the path of the program, as it is there."""
        return "/probe" if Namespace.MOUNT in namespaces else str(self.root / "probe")

    def container(self, namespaces: Namespace) -> Container:
        """Return what pyns is asked for: what follows from the namespaces, as with the others.

        With MOUNT a root and a fresh /proc in it; with UTS a hostname, with NET the loopback
        interface, with USER the caller's own ids.
        """
        has_root = Namespace.MOUNT in namespaces
        return Container(
            namespaces=namespaces,
            root=self.root if has_root else None,
            mounts=[Proc()] if has_root else None,
            hostname=HOSTNAME if Namespace.UTS in namespaces else None,
        )


def own_id_maps() -> tuple[str, str]:
    """Return uid_map and gid_map of a USER namespace: the caller's own id, as the same."""
    uid, gid = os.geteuid(), os.getegid()
    return f"{uid} {uid} 1", f"{gid} {gid} 1"

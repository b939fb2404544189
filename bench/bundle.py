"""The bundle that OCI runtimes (runc, crun) take instead of options."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from bench.isolation import HOSTNAME, Place
from pyns import Namespace

_TYPES = {
    Namespace.PID: "pid",
    Namespace.MOUNT: "mount",
    Namespace.UTS: "uts",
    Namespace.IPC: "ipc",
    Namespace.NET: "network",
    Namespace.USER: "user",
    Namespace.CGROUP: "cgroup",
}


def write_bundle(place: Place, namespaces: Namespace, argv: Sequence[str]) -> str:
    """Return a new directory with a config.json for this isolation, and no more than that."""
    directory = tempfile.mkdtemp(dir=place.work, prefix="bundle")
    with open(f"{directory}/config.json", "w") as file:
        json.dump(_config(place, namespaces, argv), file)
    return directory


def _config(place: Place, namespaces: Namespace, argv: Sequence[str]) -> dict[str, Any]:
    inert = ["nosuid", "nodev", "noexec"]
    # runtimes make device nodes in /dev whatever one says: not in the root of all
    dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}
    linux: dict[str, Any] = {
        "namespaces": [{"type": _TYPES[n]} for n in namespaces if n in _TYPES],
        "cgroupsPath": f"/pyns-bench-{os.getpid()}",
    }
    if Namespace.USER in namespaces:
        for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
            linux[f"{kind}Mappings"] = [{"containerID": own, "hostID": own, "size": 1}]
    return {
        "ociVersion": "1.0.0",
        "process": {
            "terminal": False,
            "user": {"uid": os.geteuid(), "gid": os.getegid()},
            "args": list(argv),
            "env": [f"{key}={value}" for key, value in os.environ.items()],
            "cwd": "/",
        },
        "root": {"path": str(place.root)},
        "hostname": HOSTNAME,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": inert},
            dev,
        ],
        "linux": linux,
    }

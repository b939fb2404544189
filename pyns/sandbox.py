"""What a container for code that nobody trusts is made of: the preset of `Container.sandbox`."""

from __future__ import annotations

import dataclasses
import os
import resource
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from pyns import seccomp
from pyns.cgroups import Cgroup, Limits
from pyns.devices import Dev
from pyns.entries import File, Symlink
from pyns.errors import CgroupError
from pyns.idmap import Caller, IdMap
from pyns.kernelfs import Proc
from pyns.masks import MASKED_PATHS, READ_ONLY_PATHS
from pyns.mounts import Bind, Filesystem, Mount, StrPath, Tmpfs
from pyns.namespaces import Namespace
from pyns.rlimits import NUMBERS

LIMITS = Limits(memory_max="1G", memory_swap_max=0, pids_max=256)
USER = 1000  # who the program is, inside

# All but TIME, which would take Linux 6.2 and protects from nothing.
_NAMESPACES = ~Namespace.TIME
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What programs look for in /etc, and has no secrets.
_CONFIGURATION = """
    alternatives crypto-policies fonts java-* ld.so.cache ld.so.conf ld.so.conf.d localtime magic
    mime.types pki/ca-trust pki/tls/certs python3* ssl/certs ssl/openssl.cnf terminfo
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",  # noqa: S108  the sandbox's own
    "LANG": "C.UTF-8",
}
_FILES = {
    "/etc/passwd": f"user:x:{USER}:{USER}::/tmp:/bin/sh\n",
    "/etc/group": f"user:x:{USER}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}


def preset(
    root: StrPath | Filesystem | None, mounts: Sequence[Mount], caller: Caller, host_id: int
) -> dict[str, Any]:
    """Return the fields of the container.

    Args:
        root: as for `Container.sandbox`, as all that follow.
        mounts: after the preset's own.
        caller: who starts it.
        host_id: uid and gid outside, if the caller is privileged.
    """
    uid, gid = (host_id, host_id) if caller.is_privileged else caller
    own = (
        Proc(),
        Dev(read_only=True, pts_max=64),
        Tmpfs("/tmp", size="256M", inodes=65536),  # noqa: S108
    )
    return {
        "namespaces": _NAMESPACES,
        "root": Tmpfs("/", size="1M", mode=0o755, inodes=1024) if root is None else root,
        "read_only": True,
        "nosuid": True,
        "nodev": True,
        "mounts": (*(_system() if root is None else ()), *own, *mounts),
        "masked_paths": MASKED_PATHS,
        "read_only_paths": READ_ONLY_PATHS,
        "hostname": "sandbox",
        "uid_map": (IdMap(USER, uid),),
        "gid_map": (IdMap(USER, gid),),
        "max_user_namespaces": 0,
        "max_inotify_instances": 8,
        "rlimits": {
            # with 0 the kernel still starts what core_pattern names, as root outside (core(5))
            "core": _at_most("core", 1),
            "nofile": _at_most("nofile", 1024),
            "nproc": _at_most("nproc", 256),
            # what it has of these, the caller has not
            "sigpending": _at_most("sigpending", 1024),
            "msgqueue": _at_most("msgqueue", 65536),
        },
        "capabilities": (),
        "no_new_privileges": True,
        "seccomp": seccomp.default(),
        "new_session": True,
        "new_keyring": True,
        "reset_signals": True,
        "die_with_parent": True,
        "oom_score_adj": 1000,
        "env": _ENVIRONMENT,
        "init": True,
    }


def possible_limits(parent: Cgroup | None) -> Limits | None:
    """Return the preset's limits, found by trying.

    Args:
        parent: where the group is to be; None for wherever it can be. Then the answer may be None:
            the caller can't have a cgroup.
    """
    # some kernels do not count swap
    for limits in (LIMITS, dataclasses.replace(LIMITS, memory_swap_max=None)):
        try:
            Cgroup.create(limits=limits, parent=parent).remove()
        except CgroupError:
            continue
        return limits
    return None if parent is None else LIMITS


def check_host_id(host_id: int, caller: Caller) -> None:
    """Raise ValueError for an id that the caller can't give to the program, or had better not."""
    IdMap(USER, host_id)
    if host_id == 0:
        raise ValueError("host_id=0 would be the host's root: what it may, the program may")
    if not caller.is_privileged:
        return
    for kind in ("uid", "gid"):
        lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
        ranges = [tuple(map(int, line.split())) for line in lines]
        if not any(first <= host_id < first + count for first, _, count in ranges):
            raise ValueError(
                f"host_id={host_id} is no {kind} of the caller's user namespace: give one of "
                f"/proc/self/{kind}_map that is not 0, or uid_map and gid_map"
            )


def _system() -> Iterator[Mount]:
    """Yield the host's programs, libraries and what of /etc they need, read-only."""
    yield _read_only("/usr")
    for name in _SYSTEM:
        path = f"/{name}"
        if os.path.islink(path):
            yield Symlink(path, os.readlink(path))
        elif os.path.isdir(path):
            yield _read_only(path)
    for pattern in _CONFIGURATION.split():
        for path in sorted(glob(f"/etc/{pattern}")):
            yield _read_only(os.path.realpath(path), path)
    for path, content in _FILES.items():
        yield File(path, content)


def _read_only(source: str, target: str | None = None) -> Bind:
    return Bind(source, target, read_only=True, nosuid=True, nodev=True)


def _at_most(name: str, most: int) -> int:
    """Return a limit that the caller may set: none is above his hard one."""
    hard = resource.getrlimit(NUMBERS[name])[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)

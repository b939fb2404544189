"""What works on this machine for its caller, found out by trying each thing for real."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from pyns import linux, seccomp
from pyns.cgroups import Cgroup, IoMax, Limits, hierarchies
from pyns.container import Container
from pyns.idmap import Caller, IdMap
from pyns.kernelfs import Proc
from pyns.landlock import Landlock
from pyns.links import Veth
from pyns.mounts import Bind, Tmpfs
from pyns.namespaces import Namespace
from pyns.overlay import Overlay
from pyns.starting import clone_into
from pyns.usermode import UserNetwork

# No file can have this name (NAME_MAX): who gets as far as to execute it has done all else.
_NOWHERE = "/" + 256 * "x"
_OURS = Container(namespaces=Namespace(0))
_LANDLOCK = (
    Landlock(scope_signals=True),
    Landlock(ioctl=()),
    Landlock(bind_tcp=()),
    Landlock(write=()),
    Landlock(read=()),
)


class Finding(NamedTuple):
    """What has become of one attempt.

    Attributes:
        name: of the capability.
        works: whether it does.
        said: how it works, or what was refused.
        fix: what to do about it; None when that is not certain.
    """

    name: str
    works: bool
    said: str = ""
    fix: str | None = None


@dataclass(frozen=True)
class Report:
    """What `doctor` has found; print it, or ask for a finding by its name.

    Args:
        findings: in the order in which they were made.

    Example:
        >>> report = Report((Finding("namespace: user", False, "Permission denied", "Ask root"),))
        >>> report["namespace: user"].works
        False
        >>> print(report)
        no   namespace: user  Permission denied
                              Fix: Ask root
    """

    findings: tuple[Finding, ...]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def __str__(self) -> str:
        width = max((len(finding.name) for finding in self.findings), default=0)
        lines = []
        for name, works, said, fix in self.findings:
            lines.append(f"{'yes' if works else 'no':5}{name:{width}}  {said}".rstrip())
            if fix is not None:
                lines.append(f"{'':{width + 7}}Fix: {fix}")
        return "\n".join(lines)


def doctor() -> Report:
    """Find out what works here for the caller: each thing is done once, and undone.

    Returns:
        A finding for each namespace, for ids, roots, mounts, cgroups, hardening and networks.

    Needs: nothing; what the caller may not do is among the findings. It takes half a second.
    Source: namespaces(7), cgroups(7).

    Example:
        >>> report = doctor()
        >>> report["kernel"].works
        True
    """
    return Report((*_system(), *_namespaces(), *_mounts(), *_cgroups(), *_hardening(), *_network()))


def _system() -> Iterator[Finding]:
    uname = os.uname()
    # an older one, and pyns could not be imported
    yield Finding("kernel", True, f"{uname.sysname} {uname.release} {uname.machine}")
    yield _tried("pidfd", lambda: os.close(linux.pidfd_open(os.getpid())))
    thread = _tried("pidfd of a thread", _open_thread)
    if not thread.works:
        thread = thread._replace(
            fix="Linux 6.9: before, die_with_parent is told of a dead thread "
            "when the last one of its process is gone"
        )
    yield thread
    yield _started("start a program", _OURS)
    yield _started("terminal", _OURS, terminal=(24, 80))
    yield _started("init", Container(namespaces=Namespace.PID, init=True))


def _open_thread() -> None:
    os.close(linux.pidfd_open(threading.get_native_id(), os.O_EXCL))  # PIDFD_THREAD


def _namespaces() -> Iterator[Finding]:
    said = "" if Caller.current().is_privileged else "with a user namespace"
    for kind in Namespace:
        own = "" if kind == Namespace.USER else said
        yield _started(f"namespace: {kind.words()}", Container(namespaces=kind), own)
    yield _tried("ids: a range", _map_range)


def _map_range() -> str:
    if Caller.current().is_privileged:
        two = (IdMap(0, 0, 2),)
        return _start(_with_ids(two, two))
    uids, gids = IdMap.subordinate("uid"), IdMap.subordinate("gid")
    last = uids[-1]
    return _start(
        _with_ids(uids, gids),
        f"uids {last.outside} to {last.outside + last.count - 1}, by newuidmap",
    )


def _with_ids(uids: Sequence[IdMap], gids: Sequence[IdMap]) -> Container:
    return Container(namespaces=Namespace.USER, uid_map=uids, gid_map=gids)


def _mounts() -> Iterator[Finding]:
    mount = Namespace.MOUNT
    yield _started("root: a directory", Container(namespaces=mount, root="/", mounts=()))
    yield _started("root: a new tmpfs", Container(namespaces=mount, root=Tmpfs("/"), mounts=()))
    overlay = Overlay("/", lower=["/usr"])
    yield _started("root: an overlay", Container(namespaces=mount, root=overlay, mounts=()))
    other_ids = Bind("/usr", recursive=False, idmap=[IdMap(1, 0)])
    yield _started("mount with other ids", Container(namespaces=mount, mounts=[other_ids]))
    namespaces = mount | Namespace.PID | Namespace.USER
    new_proc = Container(namespaces=namespaces, mounts=[Proc()])
    yield _started("proc in a user namespace", new_proc)


def _cgroups() -> Iterator[Finding]:
    for name, limits in _limits():
        yield _tried(f"cgroup: {name}", partial(_make, name, limits))
    for name, attempt in ("enter at birth", _be_born), ("cgroup.kill", _kill):
        yield _tried(f"cgroup: {name}", attempt)


def _limits() -> Iterator[tuple[str, Limits]]:
    yield "memory", Limits(memory_max="64M")
    yield "swap", Limits(memory_max="64M", memory_swap_max=0)
    yield "pids", Limits(pids_max=64)
    yield "cpu", Limits(cpu_max=1)
    yield "cpuset", Limits(cpuset_cpus=str(min(os.sched_getaffinity(0))))
    for disk in _disks():
        yield "io", Limits(io_max=[IoMax(disk, rbps="1G")])
    yield "devices", Limits(devices=())


def _disks() -> Iterator[str]:
    """Yield major:minor of one disk, if there is any."""
    with suppress(OSError):
        for name in sorted(os.listdir("/sys/block"))[:1]:
            with open(f"/sys/block/{name}/dev") as file:
                yield file.read().strip()


def _make(name: str, limits: Limits) -> str:
    Cgroup.create(limits=limits).remove()
    names = {"swap": {"memory"}, "io": {"io", "blkio"}}.get(name, {name})
    found = [h.version for h in hierarchies() if names.intersection(h.controllers)]
    return f"v{found[0]}" if found else "v2, by a BPF program"


def _be_born() -> str:
    """Have the kernel make a child inside its group (CLONE_INTO_CGROUP)."""
    with Cgroup.create() as group:
        if group.closed_entry().birth is None:
            raise OSError(errno.EOPNOTSUPP, "No v2 hierarchy: the child enters its groups itself")
        _start(replace(_OURS, cgroup=group))
    return "v2"


def _kill() -> str:
    with Cgroup.create() as group:
        birth = group.closed_entry().birth
        if birth is None:
            raise OSError(errno.EOPNOTSUPP, "No v2 hierarchy: processes are frozen and killed")
        with open(f"{birth[0]}/cgroup.kill", "w") as file:
            file.write("1")
    return "v2"


def _hardening() -> Iterator[Finding]:
    filtered = replace(_OURS, seccomp=seccomp.default(), no_new_privileges=True)
    yield _started("seccomp", filtered)
    landlock = None
    for rules in _LANDLOCK:
        restricted = replace(_OURS, landlock=rules, no_new_privileges=True)
        landlock = _started("landlock", restricted, f"ABI {rules.abi}")
        if landlock.works:
            break
    if landlock is not None:
        yield landlock
    yield _started("core scheduling", replace(_OURS, core_scheduling=True))
    yield _tried("sandbox", lambda: _start(Container.sandbox()))


def _network() -> Iterator[Finding]:
    own = Container(namespaces=Namespace.NET)
    for program in "pasta", "slirp4netns":
        network = UserNetwork(program=program)
        yield _started(f"network: {program}", replace(own, network=[network]))
    yield _started("network: veth", replace(own, network=[Veth()]))


def _started(name: str, container: Container, said: str = "", **options: Any) -> Finding:
    return _tried(name, partial(_start, container, said, **options))


def _tried(name: str, attempt: Callable[[], str | None]) -> Finding:
    try:
        return Finding(name, True, attempt() or "")
    except (OSError, ValueError, KeyError, ImportError) as error:
        said, fix = str(error), getattr(error, "hint", None)
        return Finding(name, False, said if fix is None else said.removesuffix(f". {fix}"), fix)


def _start(container: Container, said: str = "", **options: Any) -> str:
    """Do all that starting a program takes, but for the program; raise what goes wrong."""
    try:
        clone_into(container, [_NOWHERE], cwd="/", env={}, **options).wait()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or error.filename != _NOWHERE:
            raise
    return said

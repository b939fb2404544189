"""What to do about a step that the kernel has refused: found by looking, once it has."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from pyns import linux
from pyns.cgroups.delegation import is_refused
from pyns.cgroups.hierarchy import current, read_lines, read_text
from pyns.executable import why_not_executed
from pyns.idmap import IdMap, WriteMaps
from pyns.joining import status_of
from pyns.namespaces import Namespace
from pyns.plan import Plan
from pyns.steps import (
    BirthInCgroup,
    Clone,
    CloneAgain,
    EnterCgroup,
    Execute,
    NewMount,
    NewRoot,
    OpenTree,
    ShowCgroups,
    Step,
    Unshare,
)
from pyns.syscalls import numbers

_CAP_SYS_ADMIN = 21
_MADE_EMPTY = {"/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"}  # where a mount can hide nothing
# Call → arguments that the kernel refuses, whoever calls, before it asks for any right: EBADF of
# setns, EFAULT of mount, EINVAL of the others. fsopen, move_mount, pivot_root ask first.
_HARMLESS: dict[str, tuple[int | None, ...]] = {
    "clone3": (None, 0),
    "close_range": (1, 0, 0),
    "fsconfig": (-1, 0, None, None, 0),
    "mount": (None, None, None, 0, None),
    "mount_setattr": (-1, None, -1, None, 0),
    "open_tree": (-1, None, -1),
    "openat2": (-1, None, None, 0),
    "prlimit64": (0, -1, None, None),
    "setns": (-1, 0),
    "umount2": (None, -1),
    "unshare": (1,),
}
_FORBID = {  # sysctl → the value with which it keeps user namespaces from unprivileged programs
    "kernel.unprivileged_userns_clone": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
}


def hint_for(plan: Plan, index: int, error: int) -> str | None:
    """Return what to do about a step that failed; None when that is not certain.

    Args:
        plan: what was to be done.
        index: of the step that failed.
        error: what the kernel answered.
    """
    step = plan.steps[index]
    looked = None
    # where there is no /proc, nothing is found; nor in a chroot, where Python has no modules
    with suppress(OSError, ValueError, KeyError, ImportError):
        looked = _look(plan, step, error)
    return looked or step.hint(error)


def _look(plan: Plan, step: Step, error: int) -> str | None:
    if (filtered := _why_filtered(step, error)) is not None:
        return filtered
    match step:
        case Clone() | CloneAgain() | Unshare():
            return why_no_namespaces(step.namespaces, error)
        case ShowCgroups() if error == errno.ENOSPC:
            return why_no_namespaces(Namespace.CGROUP, error)
        case Execute():
            return why_not_executed(plan, step, error)
        case WriteMaps() if error == errno.EPERM:
            return why_not_mapped(step) if step.privileged else why_no_ids()
        case NewRoot(path=path) | OpenTree(source=path) if error == errno.EACCES:
            # with ids of others mapped, the child may search what is theirs
            if not any(isinstance(other, WriteMaps) for other in plan):
                return why_not_reached(path)
        case NewMount(fstype=b"proc") if error == errno.EPERM and _makes(plan, Namespace.PID):
            return why_no_proc()
        case BirthInCgroup() if error == errno.EACCES:
            return why_not_born(step.path)
        case EnterCgroup() if error == errno.ENOSPC:
            return why_no_room(step.path)
    return None


def _makes(plan: Plan, kind: Namespace) -> bool:
    """Whether there is a new namespace of a kind."""
    making = (step for step in plan if isinstance(step, (Clone, CloneAgain, Unshare)))
    return any(kind in step.namespaces for step in making)


def why_no_namespaces(namespaces: Namespace, error: int, proc: str = "/proc") -> str | None:
    """Return what keeps the caller from new namespaces.

    Args:
        namespaces: those that were to be made.
        error: what the kernel answered.
        proc: where the process filesystem is mounted.
    """
    if error == errno.ENOSPC:
        return _why_too_many(namespaces, proc)
    if error not in (errno.EPERM, errno.EACCES) or not namespaces:
        return None
    has_admin = bool(int(status_of(proc=proc)["CapEff"], 16) >> _CAP_SYS_ADMIN & 1)
    if Namespace.USER not in namespaces:
        if has_admin:
            return None
        return (
            "New namespaces need CAP_SYS_ADMIN, which the caller has not, even if it is root: add "
            "Namespace.USER, which lends it to anyone, or start the caller with it"
        )
    for kind in "uid", "gid":
        own = os.geteuid() if kind == "uid" else os.getegid()
        if not any(first <= own < first + count for first, count in _ranges(kind, proc)):
            return (
                f"The caller's {kind} is none of its own user namespace's: who has made that is to "
                f"map it (/proc/self/{kind}_map)"
            )
    if not has_admin:
        for name, forbids in _FORBID.items():
            if _sysctl(name, proc) != forbids or ("apparmor" in name and _is_confined(proc)):
                continue
            return (
                f"User namespaces are forbidden to unprivileged programs: {name} is {forbids}. "
                f"As root: sysctl -w {name}={1 - int(forbids)}"
            )
    if not any(line.split(" ")[4] == "/" for line in read_lines(f"{proc}/self/mountinfo")):
        return "The caller runs in a chroot, where nobody may make user namespaces"
    return (
        "The caller runs in a chroot that is a mount, where nobody may make user namespaces, or a "
        "security module (AppArmor, SELinux) forbids them"
        if error == errno.EPERM
        else None
    )


def _is_confined(proc: str) -> bool:
    """Whether the caller has an AppArmor profile, which may allow what others may not."""
    for name in "attr/apparmor/current", "attr/current":
        with suppress(OSError):
            return not read_text(f"{proc}/self/{name}").startswith("unconfined")
    return True


def _why_too_many(namespaces: Namespace, proc: str) -> str:
    names = [f"user.max_{kind.words().replace('mount', 'mnt')}_namespaces" for kind in namespaces]
    limits = {name: _sysctl(name, proc) for name in names}
    for name, limit in limits.items():
        if limit == "0":
            return f"{name} is 0, which forbids them. As root: sysctl -w {name}=10000"
    said = ", ".join(f"{name} is {limit}" for name, limit in limits.items() if limit is not None)
    return (
        f"A limit on namespaces is reached: {said}; so it is in the user namespaces above, each "
        "with limits of its own. Or PID or user namespaces are nested 32 deep"
    )


def _why_filtered(step: Step, error: int, proc: str = "/proc") -> str | None:
    """Say that a seccomp filter forbids a call, if it answers so whatever the arguments are."""
    names = [name for name in step.calls.split() if name in _HARMLESS]
    if not names or error not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return None
    is_filtered = status_of(proc=proc)["Seccomp"] != "0"
    if not is_filtered and error != errno.ENOSYS:
        return None
    name = next((name for name in names if _answer(name) == error), None)
    if name is None:
        return None
    if not is_filtered:
        return f"There is no {name} here: the caller runs under an emulator, as valgrind is one"
    return (
        f"A seccomp filter forbids {name} to the caller, as those of container engines do: start "
        "that container with one that allows it"
    )


def _answer(name: str) -> int:
    """Return the errno of a call that does nothing; 0 if it succeeds all the same."""
    import ctypes  # which takes a third as long as all of pyns

    libc = ctypes.CDLL(None, use_errno=True)
    number = numbers(os.uname().machine)[name]
    return ctypes.get_errno() if libc.syscall(ctypes.c_long(number), *_HARMLESS[name]) < 0 else 0


def why_not_mapped(maps: WriteMaps, proc: str = "/proc") -> str | None:
    """Return which ids can't be mapped, as they are none of the caller's user namespace.

    Args:
        maps: what was to be written.
        proc: where the process filesystem is mounted.
    """
    for kind, lines in ("uid", maps.uid_map), ("gid", maps.gid_map):
        own = list(_ranges(kind, proc))
        for line in lines:
            _, outside, count = map(int, line.split())
            if not any(first <= outside <= first + n - count for first, n in own):
                return (
                    f"The {kind}s {outside} to {outside + count - 1} are not in one range of the "
                    f"caller's own user namespace (/proc/self/{kind}_map)"
                )
    return None


def why_no_ids(user: int | None = None, proc: str = "/proc") -> str | None:
    """Return why newuidmap(1) and newgidmap(1) refuse to map ids.

    Args:
        user: who asks; None for the caller.
        proc: where the process filesystem is mounted.
    """
    if status_of(proc=proc)["NoNewPrivs"] == "1":
        return (
            "The caller can gain no privileges (no_new_privs), nor can newuidmap and newgidmap "
            "for it: start it without"
        )
    for kind in "uid", "gid":
        places = (f"{directory}/new{kind}map" for directory in ("/usr/bin", "/bin"))
        program = next(filter(os.path.exists, places), None)
        if program is not None and (said := _why_unprivileged(program)):
            return said
        try:
            IdMap.subordinate("uid" if kind == "uid" else "gid", user)
        except ValueError as error:
            return str(error)
    return None


def _why_unprivileged(program: str) -> str | None:
    """Say why a program of root's would not be run with his rights."""
    is_root = bool(os.stat(program).st_mode & stat.S_ISUID)
    has_capabilities = "security.capability" in os.listxattr(program)
    if not is_root and not has_capabilities:
        return f"{program} is not set-user-ID root. As root: chmod u+s {program}"
    if os.statvfs(program).f_flag & linux.ST_NOSUID:
        return f"{program} lies on a mount that is nosuid, so it runs without privileges"
    return None


def why_not_reached(path: bytes) -> str | None:
    """Return which directory on the way to a path the caller may not search.

    One of his own he may in a new user namespace, whatever its mode (user_namespaces(7)).

    Args:
        path: of the caller's.
    """
    names = os.path.abspath(path).split(b"/")
    for count in range(1, len(names)):
        directory = b"/".join(names[:count]) or b"/"
        if not os.access(directory, os.X_OK, effective_ids=True):
            status = os.stat(directory)
            if status.st_uid == os.geteuid():
                return None
            return (
                f"{os.fsdecode(directory)} is not to be searched by uid {os.geteuid()}: it is uid "
                f"{status.st_uid}'s, mode {stat.S_IMODE(status.st_mode):o}"
            )
    return None


def why_no_proc(proc: str = "/proc") -> str | None:
    """Return what lies over the caller's /proc, so that the kernel gives no other one.

    Args:
        proc: where the process filesystem is mounted.
    """
    points = [line.split(" ")[4] for line in read_lines(f"{proc}/self/mountinfo")]
    over = [point for point in points if point.startswith("/proc/") and point not in _MADE_EMPTY]
    if not over:
        return None
    return (
        f"Mounts lie over the caller's /proc ({', '.join(over[:3])}{', ...' if over[3:] else ''}), "
        "and a new one would show what they hide. Container engines do so: start that container "
        "with its /proc unmasked, or bind the caller's own: Bind('/proc')"
    )


def why_not_born(path: str) -> str | None:
    """Return which cgroup.procs the caller may not write, of those that it takes (cgroups(7)).

    Args:
        path: directory of the v2 group to be born in.
    """
    groups = [path]
    for hierarchy, cgroup in current().items():
        own = hierarchy.directory(cgroup)
        if hierarchy.version == 2 and own is not None:
            groups.append(os.path.commonpath([own, path]))
    for group in groups:
        file = f"{group}/cgroup.procs"
        if is_refused(file):
            return (
                f"{file} belongs to uid {os.stat(file).st_uid}, the caller is uid {os.geteuid()}. "
                "It takes those of the new group and of the one above both: start the caller in a "
                "group that is delegated as a whole"
            )
    return None


def why_no_room(path: str) -> str | None:
    """Return which list of a v1 cpuset is empty: nobody can be in it then.

    Args:
        path: directory of the group.
    """
    for name in "cpuset.cpus", "cpuset.mems":
        with suppress(FileNotFoundError):
            if not read_text(f"{path}/{name}").strip():
                return f"{path}/{name} is empty: write there what is in that of the group above"
    return None


def _ranges(kind: str, proc: str) -> Iterator[tuple[int, int]]:
    for line in read_lines(f"{proc}/self/{kind}_map"):
        first, _, count = map(int, line.split())
        yield first, count


def _sysctl(name: str, proc: str) -> str | None:
    try:
        return read_text(f"{proc}/sys/{name.replace('.', '/')}").strip()
    except FileNotFoundError:
        return None

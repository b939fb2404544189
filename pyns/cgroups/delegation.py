"""Why the caller may not make or limit a group, and what to do about it: found out by looking."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterator

from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import (
    Hierarchy,
    current,
    hierarchies,
    read_lines,
    read_membership,
    read_text,
)
from pyns.errors import CgroupError

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
SYSTEMD = "/run/systemd/system"  # sd_booted(3) looks for it
# those that Delegate= knows, systemd.resource-control(5); it leaves the others alone
_OF_SYSTEMD = ("cpu", "cpuset", "io", "memory", "pids")
_DROP_IN = "/etc/systemd/system/user@.service.d/delegate.conf"
_OPTIONS = {
    "cpu": "CGROUP_SCHED",
    "cpuacct": "CGROUP_CPUACCT",
    "cpuset": "CPUSETS",
    "devices": "CGROUP_DEVICE",
    "freezer": "CGROUP_FREEZER",
    "hugetlb": "CGROUP_HUGETLB",
    "io": "BLK_CGROUP",
    "memory": "MEMCG",
    "pids": "CGROUP_PIDS",
}
# what is handed to a delegated group: what the caller writes to (cgroups(7)), never its limits
_HANDED = {
    1: ("cgroup.procs", "tasks"),
    2: ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"),
}


def runtime_directory() -> str:
    """Return where the caller's user manager and its bus are, if they run."""
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"


def check_writable(directory: Directory, controller: str | None = None) -> None:
    """Raise CgroupError if the caller may not have a v2 group hand controllers down."""
    try:
        os.close(directory.open("cgroup.subtree_control", os.O_WRONLY))
    except CgroupError as error:
        error.controller = controller
        error.hint = why_not_writable(directory.path, error.errno)
        raise


def why_not_writable(path: str, error: int | None) -> str | None:
    """Say why the kernel lets the caller make no group in `path`, or change none of its files."""
    if error == errno.EROFS:
        return why_read_only(path)
    hierarchy = hierarchy_of(path)
    if error not in NOT_ALLOWED or hierarchy is None:
        return None
    files = [path, *(f"{path}/{file}" for file in _HANDED[hierarchy.version])]
    refused = next(filter(is_refused, files), None)
    if refused is None:
        return None
    owner, caller = os.stat(refused).st_uid, os.geteuid()
    if owner == caller:
        return f"{refused} is the caller's, but not writable: chmod u+w {shlex.quote(refused)}"
    said = f"{refused} belongs to uid {owner}, the caller is uid {caller}: it is not delegated. "
    if hierarchy.version == 1:
        return said + _fix_on_v1(hierarchy)
    if not _is_own(path):
        return f"{said}Give a parent that is the caller's, such as Cgroup.own()"
    return said + _fix_on_v2(hierarchy, path)


def why_limit_refused(path: str, file: str, error: int | None) -> str | None:
    """Say why the caller may not change a limit of the group `path`."""
    if error != errno.EROFS and not is_refused(path) and is_refused(f"{path}/{file}"):
        owner = os.stat(f"{path}/{file}").st_uid
        return (
            f"It belongs to uid {owner}, as the limits of a delegated group do: they are for who "
            "delegated it. Limit a group below it"
        )
    return why_not_writable(path, error)


def is_refused(path: str) -> bool:
    """Whether a file is there that the caller may not write."""
    return os.path.exists(path) and not os.access(path, os.W_OK, effective_ids=True)


def _is_own(path: str) -> bool:
    own = [hierarchy.directory(cgroup) for hierarchy, cgroup in current().items()]
    return any(f"{directory}/".startswith(f"{path}/") for directory in own if directory)


def hierarchy_of(path: str) -> Hierarchy | None:
    """Return the hierarchy that a directory is in."""
    found = [h for h in hierarchies() if f"{path}/".startswith(f"{h.mount_point}/")]
    return max(found, key=lambda h: len(h.mount_point), default=None)


def why_read_only(path: str) -> str:
    """Say which mount is read-only, and how it is made writable."""
    top, options = path, "remount,rw"
    for line in read_lines("/proc/self/mountinfo"):
        before, after = line.split(" - ", 1)
        mount_point, flags = before.split(" ")[4:6]
        if after.startswith("cgroup") and f"{path}/".startswith(f"{mount_point}/"):
            of_mount = flags.split(",")
            # the other flags stay: some can't be taken off in a user namespace (EPERM)
            kept = ["rw" if flag == "ro" else flag for flag in of_mount]
            top = mount_point
            options = ",".join(["remount", *(["bind", *kept] if "ro" in of_mount else ["rw"])])
    return (
        f"The cgroup filesystem is mounted read-only on {top}, as in most containers. With "
        f"CAP_SYS_ADMIN in the namespace that mounted it: mount -o {options} {shlex.quote(top)}"
    )


def _fix_on_v1(hierarchy: Hierarchy) -> str:
    controllers = ", ".join(hierarchy.controllers) or hierarchy.name
    said = f"{controllers} is of v1 here. "
    for each, path in current().items():
        own = each.directory(path)
        if each.version == 2 and own and os.access(own, os.W_OK, effective_ids=True):
            said += f"(The caller's group on v2, {own}, is delegated, but has no {controllers}.) "
    if os.path.isdir(SYSTEMD):
        said += (
            "systemd delegates no v1 controller to ordinary users: boot with "
            "systemd.unified_cgroup_hierarchy=1, which puts all on v2. Or else: "
        )
    return f"{said}As root: {_delegate(hierarchy)}"


def _fix_on_v2(hierarchy: Hierarchy, path: str) -> str:
    if not os.path.isdir(SYSTEMD):
        return f"systemd does not run here. As root: {_delegate(hierarchy)}"
    manager, unit = _units(hierarchy, path)
    if manager is None and unit is not None and unit.endswith(".service"):
        return _drop_in_for("systemctl", unit)
    directory = runtime_directory()
    start = ""
    if not os.path.exists(f"{directory}/bus"):
        start = (
            f"{directory}/bus is missing, so no systemd runs for this user. As root: loginctl "
            f"enable-linger {os.geteuid()}. Then set XDG_RUNTIME_DIR=/run/user/{os.geteuid()}. "
        )
    return start + _start_delegated()


def _start_delegated() -> str:
    user = "--user " if os.geteuid() != 0 else ""
    return (
        f"Start the program in a delegated group: systemd-run {user}--scope -p Delegate=yes -- "
        "COMMAND; or call pyns.cgroups.systemd.delegated_scope() in it"
    )


def _units(hierarchy: Hierarchy, path: str) -> tuple[str | None, str | None]:
    """Return the directory of the user's manager, and the name of the unit that a group is in."""
    manager, directory = None, hierarchy.mount_point
    for part in path[len(directory) :].split("/")[1:]:
        directory = f"{directory}/{part}"
        if part.startswith("user@") and part.endswith(".service"):
            manager = directory
        elif part.endswith((".service", ".scope")):
            return manager, part
    return manager, None


def _drop_in_for(systemctl: str, unit: str) -> str:
    return (
        f'Have {unit} delegated: {systemctl} edit {shlex.quote(unit)}, add "[Service]" and '
        f'"Delegate=yes", then {systemctl} restart {shlex.quote(unit)}'
    )


def _delegate(hierarchy: Hierarchy) -> str:
    """Return the command with which root gives the caller a group, and puts it in."""
    top = shlex.quote(hierarchy.mount_point)
    commands = [f"d={top}/pyns-{os.geteuid()}", "mkdir -p $d"]
    if hierarchy.version == 2:
        handed = read_text(f"{hierarchy.mount_point}/cgroup.subtree_control").split()
        wanted = [f"+{c}" for c in _OF_SYSTEMD if c in hierarchy.controllers and c not in handed]
        if wanted and not os.path.exists(f"{hierarchy.mount_point}/cgroup.type"):
            commands.insert(0, f"echo {' '.join(wanted)} >{top}/cgroup.subtree_control")
    elif "cpuset" in hierarchy.controllers:  # nothing enters it without
        commands += [f"cat {top}/cpuset.{f} >$d/cpuset.{f}" for f in ("cpus", "mems")]
    files = " ".join(f"$d/{file}" for file in _HANDED[hierarchy.version])
    commands += [f"chown {os.geteuid()} $d {files}", f"echo {os.getpid()} >$d/cgroup.procs"]
    return " && ".join(commands)


def why_not_handed_down(controller: str, path: str) -> str | None:
    """Say which group above keeps a v2 controller that `path` has not got, and the way to it."""
    hierarchy = hierarchy_of(path)
    if hierarchy is None or hierarchy.version == 1:
        return None
    chain = list(_from_the_top(hierarchy.mount_point, path))
    keeps = next((group for group in chain[:-1] if _keeps(group, controller)), None)
    if keeps is None:
        return None
    said = (
        f"{keeps} has {controller}, but does not hand it down (cgroup.subtree_control), so {path} "
        "has not got it. "
    )
    manager, unit = _units(hierarchy, path)
    if not os.path.isdir(SYSTEMD) or controller not in _OF_SYSTEMD or f"/{unit}/" in f"{keeps}/":
        return said + _hand_down(controller, keeps, chain)
    if manager is not None and len(keeps) < len(manager):
        return (
            f'{said}Root can have it delegated to all users: write the two lines "[Service]" and '
            f'"Delegate={" ".join(_OF_SYSTEMD)}" to {_DROP_IN}, run systemctl daemon-reload, and '
            "log in again, after all sessions of this user have ended"
        )
    if unit is not None and unit.endswith(".service"):
        return said + _drop_in_for("systemctl" if manager is None else "systemctl --user", unit)
    if manager is not None or os.geteuid() == 0:
        return said + _start_delegated()
    return said + _hand_down(controller, keeps, chain)


def _hand_down(controller: str, keeps: str, chain: list[str]) -> str:
    groups = [shlex.quote(group) for group in chain[chain.index(keeps) : -1]]
    owners = {os.stat(group).st_uid for group in chain[chain.index(keeps) : -1]}
    who = "the caller" if owners == {os.geteuid()} != {0} else "root"
    return (
        f"As {who}: for d in {' '.join(groups)}; do echo +{controller} "
        ">$d/cgroup.subtree_control; done"
    )


def _from_the_top(top: str, path: str) -> Iterator[str]:
    directory = top
    yield directory
    for part in path[len(top) :].split("/")[1:]:
        directory = f"{directory}/{part}"
        yield directory


def _keeps(group: str, controller: str) -> bool:
    try:
        with Directory(group) as directory:
            return controller in directory.read("cgroup.controllers").split() and (
                controller not in directory.read("cgroup.subtree_control").split()
            )
    except CgroupError:
        return False


def why_not_on_this_host(controller: str, proc: str = "/proc") -> str:
    """Say why no hierarchy that is mounted has a controller."""
    names = {controller} | ({"io", "blkio"} if controller in ("io", "blkio") else set())
    for word in read_text(f"{proc}/cmdline").split():
        option, _, value = word.partition("=")
        if option == "cgroup_disable" and names.intersection(value.split(",")):
            return (
                f"The kernel was booted with {word}: take {controller} off the boot command line "
                "(/proc/cmdline) and boot again"
            )
    for key in read_membership(proc):
        if names.intersection(key.split(",")):
            return (
                f"It is attached to a v1 hierarchy that is not mounted here. As root: mount -t "
                f"cgroup -o {key} cgroup DIRECTORY"
            )
    v2 = next((h for h in hierarchies(proc) if h.version == 2), None)
    if v2 is None:
        return (
            "No v1 hierarchy has it, and v2 is not mounted here, where it may be. As root: mount "
            "-t cgroup2 cgroup2 DIRECTORY"
        )
    if os.path.exists(f"{v2.mount_point}/cgroup.type"):  # every group has it but the real root
        return (
            f"The topmost group that is visible here ({v2.mount_point}) has not got it: whoever "
            "made this container has to hand it down (cgroup.subtree_control of the groups above)"
        )
    built = f" (CONFIG_{_OPTIONS[controller]})" if controller in _OPTIONS else ""
    return f"The kernel was built without it{built}"

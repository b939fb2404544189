"""The steps a child takes between clone3 and its program.

Each is a value that can describe itself and knows what it hands to the shim: `kind` is the
name of an enumerator in csrc/plan.h, whose comments say what the operands mean there, and `calls`
are its system calls. A step is about one system call, so that an errno has one meaning. Their order
is the business of `pyns.plan`.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from collections.abc import Callable
from functools import cached_property
from reprlib import Repr
from typing import ClassVar, NamedTuple

from pyns.namespaces import Namespace
from pyns.value import Value

# <linux/mount.h>, mount_setattr(2)
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
_ATTRIBUTE_NAMES = {
    MOUNT_ATTR_RDONLY: "read-only",
    MOUNT_ATTR_NOSUID: "nosuid",
    MOUNT_ATTR_NODEV: "nodev",
    MOUNT_ATTR_NOEXEC: "noexec",
}
AT_RECURSIVE = 0x8000  # <linux/fcntl.h>
MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = (  # mount(2)
    0x4000,
    1 << 17,
    1 << 18,
    1 << 19,
    1 << 20,
)
RESOLVE_NO_MAGICLINKS = 0x02  # openat2(2)


_SHORT = Repr()  # what is shown of arguments, of which there may be megabytes
_SHORT.maxlist, _SHORT.maxstring = 50, 500

TOO_MANY_MOUNTS = "The mount namespace has as many mounts as fs.mount-max (sysctl) allows"
_NOT_MAPPED = "The user namespace that it is in has no such id"

Keep = Callable[[Callable[[], None]], None]


class Operands(NamedTuple):
    """What crosses to the shim beside the kind: the fields of struct step."""

    strings: tuple[bytes, ...] = ()
    flags: int = 0
    value: int = 0
    fd: int = -1
    data: bytes = b""  # what follows the strings, or an array that text points to
    more: int = 0  # how many further strings data is


class Strings(tuple[bytes, ...]):
    """Strings that cross to the shim again and again."""

    @cached_property
    def text(self) -> bytes:
        """All of them, each ended by a NUL."""
        return b"\0".join((*self, b"")) if self else b""


class Step(Value):
    """One thing that the child does, or that clone3 does for it."""

    kind: ClassVar[str]
    calls: ClassVar[str] = ""  # the system calls that it may make, but for close

    @property
    def takes(self) -> int:
        """How many of the mounts that were set aside it takes."""
        return 0

    def describe(self) -> str:
        """Say in one sentence what this step does."""
        raise NotImplementedError

    def operands(self) -> Operands:
        """Return what the shim needs to do it."""
        return Operands()

    def hint(self, error: int) -> str | None:  # noqa: ARG002
        """Return what to do when the kernel answers `error`, where that is certain."""
        return None


def attribute_names(attributes: int) -> str:
    """Return the attributes of a mount in words."""
    return ", ".join(name for bit, name in _ATTRIBUTE_NAMES.items() if attributes & bit)


def quoted(encoded: bytes) -> str:
    """Return a path or name as it is shown."""
    return repr(os.fsdecode(encoded))


class BirthInCgroup(Step):
    """Has the child born inside a v2 cgroup (CLONE_INTO_CGROUP of clone(2))."""

    kind = "birth_in_cgroup"
    calls = "clone3"
    path: str
    fd: int = -1

    def describe(self) -> str:
        return f"be born in the cgroup {self.path}"

    def operands(self) -> Operands:
        return Operands(fd=self.fd)

    def hint(self, error: int) -> str | None:
        return {
            errno.EBUSY: "It hands controllers to its children (cgroup.subtree_control), so the "
            "kernel allows processes only in those: make a child and use that",
            errno.EOPNOTSUPP: "Its cgroup.type is threaded or invalid: only a domain takes "
            "processes",
            errno.EACCES: "The caller may not write its cgroup.procs, or that of the group above "
            "both: delegation hands over whole subtrees (cgroups(7))",
        }.get(error)


class Clone(Step):
    """Makes the child, in new namespaces (clone3 of clone(2))."""

    kind = "clone"
    calls = "clone3"
    namespaces: Namespace

    def describe(self) -> str:
        if not self.namespaces:
            return "clone the child, in the caller's namespaces"
        return f"clone the child into new namespaces: {self.namespaces.words()}"

    def operands(self) -> Operands:
        return Operands(flags=self.namespaces.value)

    def hint(self, error: int) -> str | None:
        if error == errno.EPERM and Namespace.USER in self.namespaces:
            return (
                "User namespaces are forbidden here: by kernel.unprivileged_userns_clone or "
                "kernel.apparmor_restrict_unprivileged_userns (sysctl), by a container's seccomp "
                "filter, or because the caller runs in a chroot"
            )
        if error == errno.EPERM and self.namespaces:
            return (
                "New namespaces need CAP_SYS_ADMIN: add Namespace.USER, which lends it to anyone. "
                "Inside a container: it was started without that capability, or a seccomp filter "
                "forbids it"
            )
        return {
            errno.ENOSPC: "A limit in /proc/sys/user/max_*_namespaces is reached, or "
            "namespaces are nested too deep",
            errno.EINVAL: "The kernel was built without one of these namespaces, or the thread is "
            "inside namespaces.unshare or setns of PID",
            errno.EAGAIN: "RLIMIT_NPROC, kernel.pid_max or the caller's own cgroup (pids.max) "
            "allows no further process",
            errno.ENOSYS: "clone3 is blocked, as a rule by an old container engine's seccomp "
            "filter",
        }.get(error)


class EnterCgroup(Step):
    """Enters a cgroup: the child writes itself into its file, tasks (v1) or cgroup.procs (v2)."""

    kind = "enter_cgroup"
    calls = "write"
    path: str
    fd: int = -1

    def describe(self) -> str:
        return f"enter the cgroup {self.path}"

    def operands(self) -> Operands:
        return Operands(fd=self.fd)


class ShowCgroups(Step):
    """Has a child make a cgroup namespace with a view from within cgroups, and enters only that."""

    kind = "show_cgroups"
    calls = "clone3 write unshare openat wait4 setns"
    paths: tuple[str, ...]
    birth: int = -1  # fd of the v2 one
    tasks: tuple[int, ...] = ()  # fds of files of v1 ones
    pid: int = 0  # of that child, where the next one is the program's; 0 for any

    def describe(self) -> str:
        return f"enter a new cgroup namespace, with / for {', '.join(self.paths)}"

    def operands(self) -> Operands:
        data = struct.pack(f"={len(self.tasks)}i", *self.tasks)
        return Operands(flags=self.pid, value=len(self.tasks), fd=self.birth, data=data)

    def hint(self, error: int) -> str | None:
        return BirthInCgroup("").hint(error) or Unshare(Namespace.CGROUP).hint(error)


class WaitForParent(Step):
    """Waits while another thread of the parent does something for the child."""

    kind = "wait_for_parent"
    calls = "prctl ppoll futex"

    pidfd: int  # of the thread that clones: once that has ended, it does not wait

    TIMEOUT: ClassVar[int] = 10_000  # milliseconds

    def operands(self) -> Operands:
        return Operands(value=self.TIMEOUT, fd=self.pidfd)

    def help_child(self, pid: int, keep: Keep) -> None:
        """Do the parent's part, while the child waits.

        Args:
            pid: of the child.
            keep: is given what ends what is to end with the container.
        """
        raise NotImplementedError


class WriteProc(Step):
    """Writes to a file of /proc that says what a process is (proc_pid(5))."""

    kind = "write_proc"
    calls = "openat write"
    path: str
    content: str
    proc: int = -1  # fd of the caller's /proc, for when it is out of sight

    def describe(self) -> str:
        return f"write {self.content!r} to {self.path}"

    def operands(self) -> Operands:
        path = self.path if self.proc < 0 else self.path.removeprefix("/proc/")
        return Operands((os.fsencode(path), self.content.encode()), fd=self.proc)

    def hint(self, error: int) -> str | None:
        if error == errno.EROFS:
            return (
                "The caller's /proc/sys is read-only, as container engines make it for those inside"
            )
        if error == errno.EPERM and self.path.endswith("id_map"):
            return "Anybody may map his own id, once; more needs CAP_SETUID or CAP_SETGID outside"
        return None


class Unshare(Step):
    """Leaves namespaces for new ones after the clone (unshare(2))."""

    kind = "unshare"
    calls = "unshare"
    namespaces: Namespace

    def describe(self) -> str:
        return f"enter new namespaces: {self.namespaces.words()}"

    def operands(self) -> Operands:
        return Operands(flags=self.namespaces.value)

    def hint(self, error: int) -> str | None:
        return Clone(self.namespaces).hint(error)


class SetNamespaces(Step):
    """Joins namespaces that are there (setns(2))."""

    kind = "set_namespaces"
    calls = "setns"
    namespaces: Namespace
    path: str
    fd: int = -1

    def describe(self) -> str:
        return f"join the namespaces of {self.path}: {self.namespaces.words()}"

    def operands(self) -> Operands:
        return Operands(fd=self.fd, flags=self.namespaces.value)

    def hint(self, error: int) -> str | None:
        return {
            errno.EPERM: "Joining needs CAP_SYS_ADMIN in the user namespace that it belongs to: "
            "join that as well, as its owner",
            errno.EINVAL: "It is not a namespace of this kind, or the caller's own user namespace",
            errno.EUSERS: "A time namespace can't be joined by a process that shares memory, as "
            "this one does",
            errno.ESRCH: "The process has ended",
        }.get(error)


class CloneAgain(Step):
    """Makes another child, which goes on: the first can't enter a PID namespace itself."""

    kind = "clone_again"
    calls = "clone3"
    namespaces: Namespace

    def describe(self) -> str:
        if not self.namespaces:
            return "go on in another child, born in what is joined"
        return f"go on in another child, in new namespaces: {self.namespaces.words()}"

    def operands(self) -> Operands:
        return Operands(flags=self.namespaces.value)

    def hint(self, error: int) -> str | None:
        if error == errno.ENOMEM:
            return "PID 1 of that PID namespace has ended, and with it all of it"
        return Clone(self.namespaces).hint(error)


class HideMemory(Step):
    """Keeps others from the caller's memory, which the child has (PR_SET_DUMPABLE(2const))."""

    kind = "hide_memory"
    calls = "prctl"

    def describe(self) -> str:
        return "hide the caller's memory from those who are in there"


class SetHostname(Step):
    """Sets the hostname of the UTS namespace (sethostname(2))."""

    kind = "set_hostname"
    calls = "sethostname"
    name: bytes

    def describe(self) -> str:
        return f"set the hostname to {quoted(self.name)}"

    def operands(self) -> Operands:
        return Operands((self.name,))


class SetDomainname(Step):
    """Sets the NIS domain name of the UTS namespace (setdomainname(2))."""

    kind = "set_domainname"
    calls = "setdomainname"
    name: bytes

    def describe(self) -> str:
        return f"set the domainname to {quoted(self.name)}"

    def operands(self) -> Operands:
        return Operands((self.name,))


class LoopbackUp(Step):
    """Brings the interface lo up (netdevice(7))."""

    kind = "loopback_up"
    calls = "socket ioctl"

    def describe(self) -> str:
        return "bring the loopback interface up"


class SetPropagation(Step):
    """Says which mounts appear where else: "private" ones nowhere (mount_namespaces(7))."""

    kind = "set_propagation"
    calls = "mount"
    propagation: str = "private"

    FLAGS: ClassVar[dict[str, int]] = {
        "private": MS_PRIVATE,
        "slave": MS_SLAVE,
        "shared": MS_SHARED,
        "unbindable": MS_UNBINDABLE,
    }

    def describe(self) -> str:
        return f"make the propagation of every mount {self.propagation}"

    def operands(self) -> Operands:
        return Operands(flags=MS_REC | self.FLAGS[self.propagation])

    def hint(self, error: int) -> str | None:
        if error == errno.EINVAL:
            return (
                "The caller's / is no mount, as in a chroot: mount --bind DIRECTORY DIRECTORY "
                "before it is entered"
            )
        return None


MakePrivate = SetPropagation  # what it does unless told otherwise


class HostRoot(Step):
    """Takes the root as it is for the place that mounts go to."""

    kind = "host_root"
    calls = "openat"

    def describe(self) -> str:
        return "keep the caller's root"


class NewRoot(Step):
    """Copies a directory's mounts over itself, to make it the root later (open_tree(2))."""

    kind = "new_root"
    calls = "openat open_tree move_mount"
    path: bytes

    def describe(self) -> str:
        return f"make {quoted(self.path)} a mount, the new root"

    def operands(self) -> Operands:
        return Operands((self.path,))

    def hint(self, error: int) -> str | None:
        return {
            errno.ENOENT: "root= is a directory that exists",
            errno.ENOTDIR: "root= is a directory, not an image or an archive",
            errno.ENOSPC: TOO_MANY_MOUNTS,
        }.get(error)


class OpenTree(Step):
    """Takes a copy of what is mounted at a path of the caller's (open_tree(2))."""

    kind = "open_tree"
    calls = "open_tree mount_setattr"
    source: bytes
    recursive: bool
    propagation: str | None = None  # None: as it is there
    is_root: bool = False

    def describe(self) -> str:
        what = "the new root" if self.is_root else "the mount at"
        said = [f"take a copy of {what} {quoted(self.source)}"]
        if self.propagation is not None:
            said.append(self.propagation)
        if self.recursive:
            said.append("with all mounts below it")
        return ", ".join(said)

    def operands(self) -> Operands:
        # a slash at the end makes ENOTDIR of what is none
        source = self.source + b"/" if self.is_root else self.source
        propagation = 0 if self.propagation is None else SetPropagation.FLAGS[self.propagation]
        return Operands((source,), AT_RECURSIVE if self.recursive else 0, propagation)

    def hint(self, error: int) -> str | None:
        if self.is_root and error in (errno.ENOENT, errno.ENOTDIR):
            return NewRoot(self.source).hint(error)
        if error == errno.EINVAL and not self.recursive:
            return (
                "In a user namespace mounts are locked to what they cover: there may be none below "
                "the source, unless it is a Bind that takes them along (recursive=True)"
            )
        return {
            errno.ENOENT: "source is a path of the caller's, outside",
            errno.EINVAL: "The source is unbindable, or lies in another mount namespace",
        }.get(error)


class SetAttributes(Step):
    """Gives the mount in hand attributes, with all below it (mount_setattr(2))."""

    kind = "set_attributes"
    calls = "mount_setattr"
    attributes: int

    def describe(self) -> str:
        return f"make it {attribute_names(self.attributes)}"

    def operands(self) -> Operands:
        return Operands(flags=self.attributes)


class NewMount(Step):
    """Makes a new mount of a filesystem type, not attached yet (fsopen(2), fsmount(2))."""

    kind = "new_mount"
    calls = "fsopen fsconfig fsmount"
    fstype: bytes
    options: tuple[tuple[bytes, bytes], ...] = ()  # a flag has no value: b""
    attributes: int = 0

    def describe(self) -> str:
        options = ", ".join(os.fsdecode(k + b"=" * bool(v) + v) for k, v in self.options)
        given = ", ".join(filter(None, (options, attribute_names(self.attributes))))
        return f"make a new {os.fsdecode(self.fstype)}" + (f" ({given})" if given else "")

    def operands(self) -> Operands:
        strings = (self.fstype, *(string for pair in self.options for string in pair))
        return Operands(strings, flags=self.attributes)

    def hint(self, error: int) -> str | None:
        if error == errno.ENODEV:
            return f"This kernel has no filesystem {os.fsdecode(self.fstype)}, nor a module for it"
        return _MOUNT_HINTS.get((self.fstype, error))


# The filesystem that a new mount is of, and what the kernel says.
_MOUNT_HINTS = {
    (b"proc", errno.EPERM): "A new /proc shows the PID namespace: it needs one of the same user "
    "namespace, and the caller to see a /proc that nothing is mounted over",
    (b"sysfs", errno.EPERM): "A new /sys shows the network namespace: it needs one of the same "
    "user namespace, and the caller to see a /sys that nothing is mounted over",
    (b"mqueue", errno.EPERM): "Message queues are those of the IPC namespace: it needs one of the "
    "same user namespace",
    **dict.fromkeys(
        [(b"cgroup", errno.EPERM), (b"cgroup2", errno.EPERM)],
        "Cgroups are shown from the CGROUP namespace on: it needs one of the same user namespace",
    ),
    (b"devpts", errno.EINVAL): "gid has to be one of the user namespace's",
    (b"overlay", errno.EINVAL): "As a rule: upper and work have to lie on one mount, of a "
    "filesystem that takes extended attributes and is no overlay; overlays stack only twice",
    (b"overlay", errno.ELOOP): "One layer lies inside another",
    (b"overlay", errno.EBUSY): "upper or work is in use by another overlay",
}


class Attach(Step):
    """Attaches the mount in hand beneath the root, makes the target when missing (openat2(2))."""

    kind = "attach"
    calls = "openat2 umask openat mkdirat mknodat statx move_mount"
    target: bytes

    def describe(self) -> str:
        return f"mount it on {quoted(self.target)}"

    def operands(self) -> Operands:
        return Operands((self.target,))

    def hint(self, error: int) -> str | None:
        return {
            errno.ENOSPC: f"{TOO_MANY_MOUNTS}; or the target does not exist, and the filesystem "
            "that it would be made on is full",
            errno.EROFS: "The target does not exist and can't be made on a read-only filesystem",
            errno.ELOOP: "The target is a symlink to nowhere or to the root, or a magic link of "
            "/proc",
            errno.ENOTDIR: "A file lies on the way to the target",
            errno.EINVAL: "Source and target have to be both directories or both not",
        }.get(error)


class PivotRoot(Step):
    """Makes the new root the root and lets go of the old one (pivot_root(2))."""

    kind = "pivot_root"
    calls = "fchdir pivot_root umount2 chdir"

    def describe(self) -> str:
        return "make the new root the root and let go of the old one"

    def hint(self, error: int) -> str | None:
        if error == errno.EINVAL:
            return "The caller's root is not a mount: it runs in a chroot or from the initramfs"
        return None


class ChangeDirectory(Step):
    """Changes to the working directory; `contained`: one that lies in the root (chdir(2))."""

    kind = "change_directory"
    calls = "openat2 fchdir getcwd"
    path: bytes
    contained: bool = False

    def describe(self) -> str:
        return f"change to the directory {quoted(self.path)}"

    def operands(self) -> Operands:
        return Operands((self.path,), flags=RESOLVE_NO_MAGICLINKS if self.contained else 0)


class SetUmask(Step):
    """Sets the file mode creation mask (umask(2))."""

    kind = "set_umask"
    calls = "umask"
    mask: int

    def describe(self) -> str:
        return f"set the umask to {self.mask:03o}"

    def operands(self) -> Operands:
        return Operands(value=self.mask)


class NewSession(Step):
    """Starts a session, without a controlling terminal (setsid(2))."""

    kind = "new_session"
    calls = "setsid"

    def describe(self) -> str:
        return "start a new session"

    def hint(self, error: int) -> str | None:
        return "It leads a process group already" if error == errno.EPERM else None


class SetProcessGroup(Step):
    """Joins a process group, or leads its own (setpgid(2))."""

    kind = "set_process_group"
    calls = "setpgid"
    pgid: int

    def describe(self) -> str:
        return f"join the process group {self.pgid}" if self.pgid else "lead a new process group"

    def operands(self) -> Operands:
        return Operands(value=self.pgid)

    def hint(self, error: int) -> str | None:
        if error != errno.EPERM:
            return None
        if self.pgid == 0:
            return "It leads a session (start_new_session), and with that a process group already"
        return "There is no such process group in its session"


class SetGroups(Step):
    """Sets the supplementary groups (setgroups(2))."""

    kind = "set_groups"
    calls = "setgroups"
    gids: tuple[int, ...]

    def describe(self) -> str:
        return f"set the supplementary groups to {list(self.gids)}"

    def operands(self) -> Operands:
        data = struct.pack(f"={len(self.gids)}I", *self.gids)
        return Operands(value=len(self.gids), data=data)

    def hint(self, error: int) -> str | None:
        return {
            errno.EPERM: "It takes CAP_SETGID; and nobody may who has mapped his gid himself, as "
            "otherwise he could leave a group that is shut out (setgroups in user_namespaces(7))",
            errno.EINVAL: _NOT_MAPPED,
        }.get(error)


class SetGid(Step):
    """Sets the real, effective and saved gid (setresgid(2))."""

    kind = "set_gid"
    calls = "setresgid"
    gid: int

    def describe(self) -> str:
        return f"become the group {self.gid}"

    def operands(self) -> Operands:
        return Operands(value=self.gid)

    def hint(self, error: int) -> str | None:
        return {errno.EPERM: "It takes CAP_SETGID, which root has", errno.EINVAL: _NOT_MAPPED}.get(
            error
        )


class SetUid(Step):
    """Sets the real, effective and saved uid (setresuid(2))."""

    kind = "set_uid"
    calls = "setresuid"
    uid: int

    def describe(self) -> str:
        return f"become the user {self.uid}"

    def operands(self) -> Operands:
        return Operands(value=self.uid)

    def hint(self, error: int) -> str | None:
        return {errno.EPERM: "It takes CAP_SETUID, which root has", errno.EINVAL: _NOT_MAPPED}.get(
            error
        )


class DefaultSignal(Step):
    """Undoes that the interpreter ignores a signal (sigaction(2))."""

    kind = "default_signal"
    calls = "rt_sigaction"
    number: int

    def describe(self) -> str:
        return f"restore the default action of {signal.Signals(self.number).name}"

    def operands(self) -> Operands:
        return Operands(value=self.number)


class Duplicate(Step):
    """Gives an fd of the caller's to the program, under a number (dup(2))."""

    kind = "duplicate"
    calls = "dup3 fcntl"
    fd: int
    number: int

    def describe(self) -> str:
        name = {0: "stdin", 1: "stdout", 2: "stderr"}.get(self.number)
        if name:
            return f"make fd {self.fd} its {name}"
        number = "" if self.number == self.fd else f" as its fd {self.number}"
        return f"pass on fd {self.fd}{number}"

    def operands(self) -> Operands:
        return Operands(fd=self.fd, value=self.number)

    def hint(self, error: int) -> str | None:
        return {errno.EBADF: "Numbers of fds end at the limit nofile (RLIMIT_NOFILE)"}.get(error)


class CloseRange(Step):
    """Closes every fd of a range (close_range(2))."""

    kind = "close_range"
    calls = "close_range"
    first: int
    last: int

    LAST: ClassVar[int] = 2**32 - 1

    def describe(self) -> str:
        if self.last == self.LAST:
            return f"close every fd from {self.first} on"
        if self.last == self.first:
            return f"close the fd {self.first}"
        return f"close every fd from {self.first} to {self.last}"

    def operands(self) -> Operands:
        return Operands(flags=self.first, value=self.last)


class ExecuteInit(Step):
    """Executes pyns-init as PID 1; the steps that follow are those of its child (execveat(2))."""

    kind = "execute_init"
    calls = "fcntl execveat"
    program: int = -1  # by fd: nobody in the container can see or replace it
    plan: int = -1  # the file with what follows
    tell: int = -1  # where it writes what becomes of that

    NAME: ClassVar[bytes] = b"pyns-init"

    @property
    def fds(self) -> tuple[int, int, int]:
        """Those that have to be open until then."""
        return self.program, self.plan, self.tell

    def describe(self) -> str:
        return "execute pyns-init, which is PID 1 and does what follows in a child"

    def operands(self) -> Operands:
        strings = (self.NAME, str(self.plan).encode())
        # unsigned in C: -1, of a dry run, has to be something
        return Operands(strings, fd=self.program, flags=self.plan % 2**32, value=self.tell % 2**32)

    def hint(self, error: int) -> str | None:
        return {
            errno.EAGAIN: "It counts for RLIMIT_NPROC and the caller's own pids.max: allow one "
            "process more",
            errno.ENOEXEC: "It was built for another architecture: install pyns again",
        }.get(error)


class RestoreSignalMask(Step):
    """Unblocks what the caller had not blocked (sigprocmask(2))."""

    kind = "restore_signal_mask"
    calls = "rt_sigprocmask"

    def describe(self) -> str:
        return "restore the caller's signal mask"


class NoNewPrivileges(Step):
    """Keeps execve from granting privileges that one has not (PR_SET_NO_NEW_PRIVS(2const))."""

    kind = "no_new_privileges"
    calls = "prctl"

    def describe(self) -> str:
        return "gain no new privileges by execve"


class DieWithParent(Step):
    """Has the kernel kill it when the thread that cloned it ends (PR_SET_PDEATHSIG(2const))."""

    kind = "die_with_parent"
    calls = "prctl ppoll"
    pidfd: int = -1

    def describe(self) -> str:
        return "be killed when the thread that started it ends"

    def operands(self) -> Operands:
        return Operands(fd=self.pidfd)


class NewKeyring(Step):
    """Joins a new session keyring (keyctl_join_session_keyring(3))."""

    kind = "new_keyring"
    calls = "keyctl"

    def describe(self) -> str:
        return "join a new session keyring"

    def hint(self, error: int) -> str | None:
        return {
            errno.EDQUOT: "The user has as many keys as /proc/sys/kernel/keys allows",
            errno.ENOSYS: "The kernel was built without keyrings, or a seccomp filter forbids them",
        }.get(error)


class ResetSignals(Step):
    """Gives every signal its default action and unblocks it (signal(7))."""

    kind = "reset_signals"
    calls = "rt_sigaction"

    def describe(self) -> str:
        return "give every signal its default action, and block none"


class Execute(Step):
    """Executes the first candidate that can be (execve(2))."""

    kind = "execute"
    calls = "execve"
    candidates: tuple[bytes, ...]
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]

    def describe(self) -> str:
        arguments = _SHORT.repr([os.fsdecode(argument) for argument in self.arguments])
        if len(self.candidates) == 1:
            return f"execute {quoted(self.candidates[0])} with arguments {arguments}"
        return f"execute {arguments}, the first found of {len(self.candidates)} places in PATH"

    def operands(self) -> Operands:
        own = self.environment
        environment = own if isinstance(own, Strings) else Strings(own)
        return Operands(
            (*self.candidates, *self.arguments),
            flags=len(self.candidates),
            value=len(self.arguments),
            data=environment.text,
            more=len(environment),
        )

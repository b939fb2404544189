"""How a namespace is kept alive without a process: by a file that it is mounted on."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from pyns._shim import lib
from pyns.errors import NamespaceError
from pyns.namespaces.kinds import Namespace
from pyns.namespaces.targets import StrPath, Target, check_target, kind_of, opened, opened_namespace
from pyns.signals import signals_blocked

_MS_BIND = 0x1000  # mount(2)
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount(2)


def keep(kind: Namespace, path: StrPath, of: Target | None = None) -> None:
    """Keep a namespace alive, also without any process in it, by a bind mount of it on a new file.

    This is what `ip netns attach` and `unshare --net=FILE` do. `join={kind: path}`, `setns` and
    nsenter(1) get into it. `release` ends it; a mount namespace that was copied meanwhile, such as
    a running container's, has a copy of the mount and keeps it as well. A PID namespace dies with
    its PID 1: what is kept of it takes no process any more (ENOMEM).

    Args:
        kind: of what kind it is.
        path: of the file, which must not exist.
        of: whose it is: pid or `Process`, or an open file (a pidfd, a namespace); None for the
            calling thread's own.

    Raises:
        ValueError: it is of another kind.
        FileExistsError, FileNotFoundError: there is such a file already, or not its directory.
        ProcessLookupError, PermissionError: the process can't be looked at.
        NamespaceError: the kernel refused the mount: EPERM without the privilege, EINVAL for a
            MOUNT namespace that would be shared with others, or that is not newer.

    Needs: CAP_SYS_ADMIN.
    Source: namespaces(7), unshare(1), ip-netns(8).

    Example:
        >>> keep(Namespace.NET, "/dev/null")
        Traceback (most recent call last):
        FileExistsError: [Errno 17] File exists: '/dev/null'
    """
    if not isinstance(kind, Namespace):
        raise TypeError(f"kind={kind!r} is not a Namespace")
    if len(kind) != 1:
        raise ValueError(f"a file keeps one namespace, not {kind.words() or 'none'}")
    if of is not None:
        check_target("of=", of)
    is_made = False
    with opened_namespace(of, kind) as namespace:
        try:
            with signals_blocked():
                file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0)
                is_made = True
                try:
                    _mount(namespace, file, kind, path)
                finally:
                    os.close(file)
        except BaseException:
            # also when the handler of a signal that was blocked raised, afterwards
            if is_made:
                lib.thread_umount(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
                os.unlink(path)
            raise


def release(path: StrPath) -> None:
    """Unmount and remove the file that keeps a namespace; it ends with its last user.

    Args:
        path: of the file, as given to `keep`; one of `ip netns` or unshare(1) will do.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it keeps no namespace.
        NamespaceError: the kernel refused to unmount it: EPERM without the privilege.

    Needs: CAP_SYS_ADMIN.
    Source: umount(2), ip-netns(8).

    Example:
        >>> release("/dev/null")
        Traceback (most recent call last):
        ValueError: '/dev/null' is not the file of a namespace
    """
    with opened(path) as fd:
        if kind_of(fd) is None:
            raise ValueError(f"{path!r} is not the file of a namespace")
    result = lib.thread_umount(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
    if result < 0:
        raise NamespaceError(-result, f"unmount {path!r}", _hint(-result))
    with suppress(FileNotFoundError):
        os.unlink(path)


def _mount(namespace: int, file: int, kind: Namespace, path: StrPath) -> None:
    # through the fds, so that both are what was looked at
    source, target = b"/proc/self/fd/%d" % namespace, b"/proc/self/fd/%d" % file
    result = lib.thread_mount(source, target, _MS_BIND)
    if result == 0:
        return
    hint = _hint(-result)
    if kind == Namespace.MOUNT and -result == errno.EINVAL:
        hint = (
            "The file lies on a shared mount, and this would appear in other mount namespaces, "
            "too: take one on a private mount (mount --make-private)"
            if _is_shared(file)
            else "A mount namespace is kept in one that has a lower id: an older one, and since "
            "Linux 6.18 not even in each of these, but always in the host's first"
        )
    raise NamespaceError(-result, f"mount the {kind.words()} namespace on {path!r}", hint)


def _hint(error: int) -> str | None:
    if error == errno.EPERM:
        return "It needs CAP_SYS_ADMIN in the user namespace that owns this mount namespace"
    return None


def _is_shared(file: int) -> bool:
    """Whether a mount on this file would appear elsewhere (mount_namespaces(7))."""
    with open(f"/proc/self/fdinfo/{file}") as lines:
        [number] = [line.split()[1] for line in lines if line.startswith("mnt_id:")]
    with open("/proc/thread-self/mountinfo", "rb") as lines:
        mounts = [line.partition(b" - ")[0].split(b" ") for line in lines]
    return any(m[0] == number.encode() and b"shared:" in b" ".join(m[6:]) for m in mounts)

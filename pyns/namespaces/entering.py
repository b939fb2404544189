"""How the calling thread gets into other namespaces, and back."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from pyns import linux
from pyns._shim import ffi, lib
from pyns.errors import NamespaceError
from pyns.namespaces.kinds import FILES, Namespace
from pyns.namespaces.targets import (
    Target,
    check_kind,
    check_target,
    is_path,
    name_of,
    opened,
    pid_of,
)
from pyns.signals import signals_blocked

_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18  # mount(2)

# A thread enters these only for the children that it will have: what it goes back to.
_OF_CHILDREN = {Namespace.PID: "pid_for_children", Namespace.TIME: "time_for_children"}

_ALONE = {
    Namespace.MOUNT: "this one would have a current directory and umask of its own for good "
    "(CLONE_FS)",
    Namespace.TIME: "this one could not come back (EUSERS)",
}


def setns(target: Target, kinds: Namespace) -> AbstractContextManager[None]:
    """Have the calling thread in namespaces that are there, for the body of a `with`.

    What the body starts, threads and processes, is in them and stays there. PID is for processes
    only: the thread itself remains where it is, and can't start threads. A MOUNT namespace is
    entered at its root; the current directory is the former one again after the body. The thread
    must be the same at the end: no await and no yield in between.

    Args:
        target: path of a namespace's file, pid of a process, or an open file (of a namespace, or a
            pidfd: a `Process`, `Fd`).
        kinds: which of the process's; or the one that the file is of.

    Returns:
        A context manager.

    Raises:
        ValueError: it makes no sense, or there would be no way back: never from USER, and from
            MOUNT and TIME only in a process that has no other threads. `clone_into`
            starts a program in any.
        FileNotFoundError, ProcessLookupError, PermissionError: the target can't be opened.
        NamespaceError: the kernel refused it: EPERM without the privilege, EINVAL for a PID
            namespace that is not below the caller's own.
        RuntimeError: at the end, that the thread can't go back: let it end. As a rule, the body
            has given the privilege away.

    Needs: CAP_SYS_ADMIN, there and at home; CAP_SYS_CHROOT for MOUNT.
    Source: setns(2).

    Example:
        >>> setns("/proc/self/ns/user", Namespace.USER)
        Traceback (most recent call last):
        ValueError: user: nobody comes back from it (EPERM). A Container gets a program into one
    """
    _check_kinds(kinds)
    check_target("target=", target)
    if is_path(target) and len(kinds) != 1:
        raise ValueError(f"{target!r} is one namespace, not {kinds.words()}")
    return _Visit(kinds, target)


def unshare(kinds: Namespace) -> AbstractContextManager[None]:
    """Have the calling thread in new namespaces, for the body of a `with`.

    All that `setns` says holds here, too. The first process that the body starts is PID 1 of a new
    PID namespace. In a new MOUNT namespace no mount is shared with the former one, as with
    unshare(1), and the current directory is the same. A new TIME namespace is for processes only.

    Args:
        kinds: which.

    Returns:
        A context manager.

    Raises:
        ValueError: it makes no sense, or there would be no way back; see `setns`.
        NamespaceError: the kernel refused it: EPERM without the privilege, ENOSPC at the limit
            in /proc/sys/user, EINVAL for PID within another PID.
        RuntimeError: at the end, that the thread can't go back; see `setns`.

    Needs: CAP_SYS_ADMIN; Linux 6.2 for TIME, which execve enters since.
    Source: unshare(2).

    Example:
        >>> unshare(Namespace(0))
        Traceback (most recent call last):
        ValueError: kinds is empty: give Namespace.NET | ...
    """
    _check_kinds(kinds)
    return _Visit(kinds, None)


class _Visit(AbstractContextManager[None]):
    """Other namespaces for the calling thread, from the beginning of a `with` to its end."""

    def __init__(self, kinds: Namespace, target: Target | None) -> None:
        self._kinds = kinds
        self._target = target  # None: new ones
        self._home: _Home | None = None

    def __enter__(self) -> None:
        _check_way_back(self._kinds)
        if self._home is not None:
            raise RuntimeError("entered twice: call setns or unshare again")
        home = self._home = _Home(f"enter new namespaces: {self._kinds.words()}")
        # A signal handler that raises at the first instruction of __exit__ is the end of it. Then
        # the way back is as soon as that exception is dealt with.
        self._last_resort = weakref.finalize(self, home.go)
        self._last_resort.atexit = False
        try:
            with signals_blocked():
                home.note(self._kinds)
                self._leave(home)
        except BaseException:
            # also when the handler of a signal that was blocked raised, afterwards
            home.go()
            self._last_resort.detach()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._home is not None
        self._home.go()
        self._last_resort.detach()

    def _leave(self, home: _Home) -> None:
        if self._target is None:
            self._do(home, lib.thread_unshare, self._kinds.value)
            if Namespace.MOUNT in self._kinds:
                self._do(home, lib.thread_mount, ffi.NULL, b"/", _MS_REC | _MS_PRIVATE)
            return
        with opened(self._target) as fd:
            pid = pid_of(fd)
            if pid is None:
                check_kind(fd, self._kinds)
            name = name_of(self._target, pid)
            home.left_by = f"join the namespaces of {name}: {self._kinds.words()}"
            self._do(home, lib.thread_setns, fd, self._kinds.value)

    def _do(self, home: _Home, call: Callable[..., int], *arguments: object) -> None:
        was_left, home.is_left = home.is_left, True
        result = call(*arguments)
        if result < 0:
            home.is_left = was_left
            raise NamespaceError(-result, home.left_by, self._hint(-result))

    def _hint(self, error: int) -> str | None:
        if error == errno.EPERM:
            return (
                "It needs CAP_SYS_ADMIN, both here and there. A user namespace lends it to the "
                "program of a Container, not to a thread"
            )
        if error == errno.ENOSPC:
            return "A limit in /proc/sys/user/max_*_namespaces is reached, or they nest too deep"
        if error == errno.ESRCH:
            return "The process has ended"
        if error == errno.EINVAL and Namespace.PID in self._kinds:
            if self._target is not None:
                return "A PID namespace is entered from those above it"
            if _inode("pid") != _inode("pid_for_children"):
                return "The thread's children are born in another PID namespace already"
        return None


class _Home:
    """Where a thread was, and the way back."""

    def __init__(self, left_by: str) -> None:
        self.left_by = left_by  # what was done, in words
        self.is_left = False
        self._thread = threading.get_ident()
        self._fds = ExitStack()
        self._namespaces: dict[Namespace, int] = {}
        self._root = self._directory = -1

    def note(self, kinds: Namespace) -> None:
        """Open what there is to come back to."""
        for kind in Namespace:
            if kind in kinds:
                name = _OF_CHILDREN.get(kind, FILES[kind])
                self._namespaces[kind] = self._open(f"/proc/thread-self/ns/{name}", os.O_RDONLY)
        if Namespace.MOUNT in kinds:
            self._root = self._open("/", linux.O_PATH)
            self._directory = self._open(".", linux.O_PATH)

    def _open(self, path: str, flags: int) -> int:
        fd = os.open(path, flags | os.O_CLOEXEC)
        self._fds.callback(os.close, fd)
        return fd

    def go(self) -> None:
        """Return, whatever a signal handler raises meanwhile. The second time there is nothing."""
        if self._thread != threading.get_ident():
            raise RuntimeError(f"this is not the thread that is away: {self.left_by}")
        has_begun = False
        try:
            with signals_blocked():
                has_begun = True
                self._go_undisturbed()
        finally:
            if not has_begun:  # the handler of a signal that came before raised
                self.go()

    def _go_undisturbed(self) -> None:
        is_left, self.is_left = self.is_left, False
        with self._fds:
            stuck = []
            for kind, fd in self._namespaces.items() if is_left else ():
                result = lib.thread_setns(fd, kind.value)
                if result < 0:
                    stuck.append(f"{kind.words()} ({os.strerror(-result)})")
            if is_left and self._directory >= 0 and not stuck:
                try:
                    # setns(2) leaves it at the root of the namespace, which need not be its own
                    os.fchdir(self._root)
                    os.chroot(".")
                    os.fchdir(self._directory)
                except OSError as error:
                    stuck.append(f"the current directory ({error.strerror})")
        if stuck:
            raise RuntimeError(
                "this thread can't go back to where it was, and has to end: "
                f"{', '.join(stuck)}, after: {self.left_by}"
            )


def _check_kinds(kinds: Namespace) -> None:
    if not isinstance(kinds, Namespace):
        raise TypeError(f"kinds={kinds!r}: give Namespace.NET | ... , or parse()")
    if not kinds:
        raise ValueError("kinds is empty: give Namespace.NET | ...")
    if Namespace.USER in kinds:
        raise ValueError(
            "user: nobody comes back from it (EPERM). A Container gets a program into one"
        )


def _inode(link: str) -> int:
    try:
        return os.stat(f"/proc/thread-self/ns/{link}").st_ino
    except FileNotFoundError:  # a PID namespace that nobody was born in
        return 0


def _check_way_back(kinds: Namespace) -> None:
    """Raise ValueError if the thread, as it is, could not come back."""
    if Namespace.PID in kinds and not _inode("pid_for_children"):
        raise ValueError(
            "pid: the thread has a new one already, which can't be named without PID 1"
        )
    if Namespace.TIME in kinds and _inode("time") != _inode("time_for_children"):
        raise ValueError("time: the thread's children have another one already")
    threads = len(os.listdir("/proc/self/task"))
    for kind, why in _ALONE.items():
        if kind in kinds and threads > 1:
            raise ValueError(
                f"{kind.words()}: with {threads} threads in the process, {why}. A Container gets a "
                "program into one"
            )

"""What can go wrong, and who is to blame.

    ValueError, TypeError   the caller: what was asked makes no sense. Nothing was started
    OSError
    ├── FileNotFoundError, PermissionError, ...
    │                       the program or its cwd, exactly as subprocess raises them
    ├── SpawnError          the kernel refused a step of the plan
    │   └── NotPermittedError   one that subprocess has as well: also a PermissionError
    ├── CgroupError         the kernel refused a cgroup's file or directory
    └── NamespaceError      the kernel refused a thread other namespaces, or a file that keeps one

Whatever is raised, no process, fd, mount or cgroup is left behind.
"""

from __future__ import annotations

import errno as errno_module
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyns.reason import Reason

if TYPE_CHECKING:
    from pyns.steps import Step


# of two names for one number, errorcode has the other one
_NAMES = {errno_module.EOPNOTSUPP: "EOPNOTSUPP", errno_module.EDEADLK: "EDEADLK"}


def in_words(error: int) -> str:
    """Say an errno as people do and as man pages do: "Permission denied (EACCES)"."""
    name = _NAMES.get(error) or errno_module.errorcode.get(error, str(error))
    return f"{os.strerror(error)} ({name})"


@contextmanager
def noted(what: str) -> Iterator[None]:
    """Have an error say what was to be done, as one of a file says it by the file's name."""
    try:
        yield
    except OSError as error:
        error.add_note(f"to {what}")
        raise


class SpawnError(OSError):
    """The kernel refused one step of the plan; the program was not started.

    Attributes:
        step: the step that failed, an object of `pyns.steps`.
        index: its place in the plan, from 0.
        errno: what the kernel answered.
        hint: what to do about it, or None when that is not certain.
        reason: Reason.NOT_STARTED; or OOM_KILLED, if its group's counter says that the child fell
            victim to the OOM killer on its way.
    """

    reason: Reason = Reason.NOT_STARTED

    def __init__(
        self, errno: int, step: Step, index: int, count: int, hint: str | None = None
    ) -> None:
        super().__init__(errno, os.strerror(errno))
        self.step = step
        self.index = index
        self.count = count
        self.hint = hint

    def __str__(self) -> str:
        place = f"step {self.index + 1} of {self.count}, {self.step.describe()}"
        said = f"{place}: {in_words(self.errno or 0)}"
        return f"{said}. {self.hint}" if self.hint else said

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.errno, self.step, self.index, self.count, self.hint)
        return type(self), arguments, dict(self.__dict__)


class NotPermittedError(SpawnError, PermissionError):
    """The caller may not have the ids, session or process group that he asked for."""


class CgroupError(OSError):
    """A cgroup could not be made, read, written or removed.

    Attributes:
        errno: what the kernel answered, or EOPNOTSUPP when this host lacks what was asked for.
        controller: the controller that it was about, or None.
        file: path of the file or directory, or None.
        value: what was to be written, or None.
        hint: what to do about it, or None when that is not certain.
    """

    def __init__(
        self,
        errno: int,
        action: str,
        *,
        controller: str | None = None,
        file: str | None = None,
        value: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(errno, action)
        self.action = action
        self.controller = controller
        self.file = file
        self.value = value
        self.hint = hint

    def __str__(self) -> str:
        said = f"{self.action}: {in_words(self.errno or 0)}"
        return f"{said}. {self.hint}" if self.hint else said

    def __reduce__(self) -> tuple[Any, ...]:
        return _cgroup_error, (self.errno, self.action, dict(self.__dict__))


class NamespaceError(OSError):
    """A thread could not get into namespaces, or a file could not keep one.

    Attributes:
        errno: what the kernel answered.
        action: what was to be done.
        hint: what to do about it, or None when that is not certain.
    """

    def __init__(self, errno: int, action: str, hint: str | None = None) -> None:
        super().__init__(errno, action)
        self.action = action
        self.hint = hint

    def __str__(self) -> str:
        said = f"{self.action}: {in_words(self.errno or 0)}"
        return f"{said}. {self.hint}" if self.hint else said

    def __reduce__(self) -> tuple[Any, ...]:
        return NamespaceError, (self.errno, self.action, self.hint), dict(self.__dict__)


def _cgroup_error(errno: int, action: str, fields: dict[str, Any]) -> CgroupError:
    error = CgroupError(errno, action)
    error.__dict__.update(fields)
    return error

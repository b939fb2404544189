"""How what is bound gets other ids: by mounts that the parent makes, before there is a child.

The kernel asks for CAP_SYS_ADMIN in the user namespace that the filesystem was mounted in, which a
child in a user namespace of its own does not have.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pyns import marshal
from pyns.errors import SpawnError
from pyns.helping import carry_out
from pyns.hints import hint_for
from pyns.idmap import WriteMaps, write_maps
from pyns.mount_steps import TakeMount
from pyns.namespaces import Namespace
from pyns.plan import Plan
from pyns.steps import Clone, Keep, OpenTree

Lines = tuple[str, ...]


class OpenUserNamespace(WriteMaps):
    """Has the parent write id maps, and open the namespace that has them (user_namespaces(7))."""

    give: Callable[[int], None]

    def help_child(self, pid: int, keep: Keep) -> None:  # noqa: ARG002  the fd is given away
        """Write the maps, and give the fd away."""
        write_maps(pid, self)
        self.give(os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))


def open_trees(
    plan: Plan, own: tuple[Lines, Lines], parent_pidfd: int, files: ExitStack
) -> tuple[int, ...]:
    """Make the mounts that the steps of a plan take, and return their fds.

    Args:
        plan: of the container.
        own: what is written to uid_map and gid_map of its user namespace.
        parent_pidfd: of the calling thread.
        files: what closes them.

    Raises:
        SpawnError: the kernel refuses one, by the step that would have taken it.
    """
    trees: list[int] = []
    namespaces: dict[tuple[Lines, Lines], int] = {}
    for index, step in enumerate(plan):
        if not isinstance(step, TakeMount):
            continue
        with _told(plan, index, OpenTree(step.source, step.recursive).hint, step.hint):
            tree = marshal.open_tree(step.source, recursive=step.recursive)
            files.callback(os.close, tree)
        maps = (step.id_map, step.id_map) if step.id_map else own
        if maps not in namespaces:
            with _told(plan, index):
                namespaces[maps] = open_user_namespace(*maps, parent_pidfd, files)
        with _told(plan, index, step.hint):
            marshal.map_ids(tree, namespaces[maps])
        trees.append(tree)
    return tuple(trees)


def open_user_namespace(uid_map: Lines, gid_map: Lines, parent_pidfd: int, files: ExitStack) -> int:
    """Return an fd of a new user namespace with these maps, in which there is no process."""
    given: list[int] = []
    step = OpenUserNamespace(parent_pidfd, uid_map, gid_map, True, given.append)
    plan, report = carry_out(Clone(Namespace.USER), step)
    for fd in given:
        files.callback(os.close, fd)
    if report.index < len(plan) - 1:
        hint = hint_for(plan, report.index, report.error)
        raise SpawnError(report.error, plan.steps[report.index], report.index, len(plan), hint)
    return given[0]


@contextmanager
def _told(plan: Plan, index: int, *hints: Callable[[int], str | None]) -> Iterator[None]:
    """Have what is refused told as the step that it is for."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EINVAL
        said = (getattr(error, "hint", None), *(hint(number) for hint in hints))
        hint = next(filter(None, said), None)
        raise SpawnError(number, plan.steps[index], index, len(plan), hint) from error

"""From a description to a running child: the pipeline, front to back."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import NamedTuple

from pyns import kernel, linux, log, marshal
from pyns.cgroups import Cgroup
from pyns.cgroups.entry import Entry
from pyns.command import Command
from pyns.companions import Companions
from pyns.container import USER_LIMITS, Container
from pyns.descriptors import copy_clear_of
from pyns.errors import NotPermittedError, SpawnError, noted
from pyns.helping import helping, waiting_of
from pyns.hints import hint_for
from pyns.idmap import Caller
from pyns.idmapped import open_trees
from pyns.init import open_init, read_start
from pyns.joining import Joined, opened
from pyns.master import Terminal, open_handover, receive
from pyns.namespaces import Namespace
from pyns.plan import Plan, build_plan, entered_later, id_maps, may_take_template
from pyns.steps import (
    BirthInCgroup,
    ChangeDirectory,
    Clone,
    EnterCgroup,
    Execute,
    NewSession,
    OpenTree,
    SetGid,
    SetGroups,
    SetNamespaces,
    SetProcessGroup,
    SetUid,
    ShowCgroups,
    Step,
    Unshare,
    WaitForParent,
)
from pyns.template import open_template
from pyns.timing import Timing, timings

# What clone3 says of the cgroup to be born in, and of nothing else (clone(2)).
_BIRTH_ERRORS = {errno.EACCES, errno.EBUSY, errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV}

# Where subprocess raises PermissionError, which people catch.
_OF_SUBPROCESS = (NewSession, SetGid, SetGroups, SetProcessGroup, SetUid)

_PIDFD_THREAD = os.O_EXCL  # pidfd_open(2)
_NO_ENTRY = Entry()
_WAYS = (BirthInCgroup, EnterCgroup)
_REMEMBERED = 32  # setups of each container


class Child:
    """A process in the making, and all that is to be undone if it does not come about.

    It is made before anything is started and belongs to the caller: a signal handler may raise
    between any two lines, and what is not noted by then is lost.

    Attributes:
        report: what the shim says of it; `pid` and `pidfd` are -1 unless it runs.
        private_cgroup: the group that was made for it, to be removed after it; None without one.
        companions: what there is outside for it.
        told: fd on which its init tells what becomes of the program; -1 without one.
        terminal: master end of its terminal; None without one.
        timing: how long its steps took, if that is asked for by `is_timed`.
    """

    def __init__(self, *, is_timed: bool = False) -> None:
        self.is_timed = is_timed
        self.timing: tuple[Timing, ...] | None = None
        self.report = marshal.new_report()
        self.private_cgroup: Cgroup | None = None
        self.companions = Companions()
        self.told = -1
        self.terminal: Terminal | None = None

    def keep(self, told: int) -> None:
        """Own the fd on which its init tells."""
        self.told = told

    def abandon(self) -> None:
        """Kill it if it runs, reap it and remove its group."""
        if self.told >= 0:
            os.close(self.told)
            self.told = -1
        if self.terminal is not None:
            self.terminal.close()
        if self.report.pid > 0:
            with suppress(ProcessLookupError):
                linux.pidfd_send_signal(self.report.pidfd, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self.report.pid, 0)
            os.close(self.report.pidfd)
            self.report.pid = self.report.pidfd = -1
        self.companions.end()
        if self.private_cgroup is not None:
            self.private_cgroup.remove()
            self.private_cgroup = None

    def start_over(self) -> None:
        """Undo what there is, and be as new."""
        self.abandon()
        Child.__init__(self, is_timed=self.is_timed)


def spawn(
    child: Child,
    container: Container,
    command: Command,
    signal_mask: int,
    size: tuple[int, int] | None = None,
    *,
    takes_template: bool = True,
) -> None:
    """Start a program in a container.

    Args:
        child: what becomes of it; to be abandoned if this raises.
        container: what to isolate.
        command: what to start.
        signal_mask: of the program. All signals have to be blocked (`signals_blocked`).
        size: rows and columns of a terminal of its own; None for none.
        takes_template: whether a mount namespace is copied that is smaller than the caller's, where
            that makes no difference and the caller may do so.

    Raises:
        CgroupError: its cgroup can't be made or entered.
        FileNotFoundError, PermissionError, ...: the program can't be executed, or the cwd entered.
        SpawnError: the kernel refused another step.
        ImportError: an extra is not installed.
    """
    for network in container.network:
        network.check()
    group = container.cgroup
    with ExitStack() as opened_files:
        if container.limits is not None:
            group = child.private_cgroup = Cgroup.create(limits=container.limits, parent=group)
        caller, entry = Caller.current(), _NO_ENTRY
        if group is not None:
            later = entered_later(container, command, caller)
            entry = group.open_entry(later, opened_files)
            entry = _clear_of(command.numbers, entry, opened_files)
        joins: tuple[Joined, ...] = ()
        if container.join:
            joins = opened_files.enter_context(opened(container.joins, caller))
        parent_pidfd = -1
        if container.die_with_parent or container.needs_parent:
            parent_pidfd = opened_files.enter_context(_own_pidfd())
        proc = -1
        if any(getattr(container, name) is not None for name in USER_LIMITS):
            proc = os.open("/proc", linux.O_PATH | os.O_CLOEXEC)
            opened_files.callback(os.close, proc)
        init = None
        if container.init:
            init = open_init(opened_files, child.keep, command.numbers)
        terminal = handover = None
        if size is not None:
            terminal, handover = open_handover(size, opened_files)
        template = None
        if takes_template and may_take_template(container, caller):
            template = open_template()
        build = partial(
            build_plan,
            container,
            command,
            entry,
            caller,
            joins,
            parent_pidfd=parent_pidfd,
            proc=proc,
            init=init,
            terminal=terminal,
            template=template,
        )
        trees: tuple[int, ...] = ()
        if container.maps_mounts:
            uid_map, gid_map = (tuple(map(str, maps)) for maps in id_maps(container, caller))
            trees = open_trees(build(), (uid_map, gid_map), parent_pidfd, opened_files)
        # fds are part of it; the kernel gives the same numbers again and again
        shared = (caller, joins, parent_pidfd, proc, init, terminal, trees, template)
        is_own = child.private_cgroup is not None  # which has another name each time
        asked = (command.setup, entry.kind if is_own else entry, *shared)
        # the steps that are remembered name another group than his own; that is for nobody to see
        is_shown = is_own and (child.is_timed or log.is_heard())
        setup: Setup | None = None if is_shown else container.setups.get(asked)
        if setup is None:
            setup = Setup.of(build(trees=trees))
            if not (is_own and entry.later):  # which is all over the plan
                setup.remember(container, asked)
        elif is_own:
            setup = setup.of_group(entry)
        program = Execute(command.candidates, command.arguments, command.environment)
        plan = Plan((*setup.steps, program))
        packed = marshal.pack((program,), setup.packed)
        if init is not None:
            marshal.write_init_plan(plan, packed, signal_mask)
        if setup.waiting:
            opened_files.enter_context(
                helping(plan, setup.waiting, child.report, child.companions.add)
            )
        times = marshal.time_steps(child.report, len(plan)) if child.is_timed else None
        log.debug("start a program:\n%s", plan)
        marshal.spawn_packed(packed, signal_mask, child.report)
        if times is not None:
            child.timing = timings(plan, list(times))
        if init is not None and child.report.error == 0:
            index, child.report.error = read_start(child.told, child.report.pidfd)
            child.report.index = child.report.index if index is None else index
        if handover is not None and child.report.error == 0:
            child.terminal = receive(handover)
        if child.report.error and is_own:
            plan = build(trees=trees)
    if child.report.error:
        step = plan.steps[child.report.index]
        refused = isinstance(step, OpenTree) and child.report.error in (errno.EMFILE, errno.EPERM)
        if template is not None and (refused or isinstance(step, SetNamespaces)):
            # all sources at once are more fds than he may have, or he has given up the right since,
            # or gone to a user namespace
            log.debug("again without the template, because of: %s", step.describe())
            child.start_over()
            spawn(child, container, command, signal_mask, size, takes_template=False)
            return
        failure = explain(plan, child.report.index, child.report.error, command)
        log.debug("it is refused: %s", failure)
        raise failure
    log.debug("it is pid %d", child.report.pid)


def _clear_of(numbers: set[int], entry: Entry, opened_files: ExitStack) -> Entry:
    """Return an entry whose fds for the program are not overwritten by those that it gets."""
    if not any(fd in numbers for _, fd in entry.later):
        return entry
    copies = [(path, copy_clear_of(numbers, fd, opened_files)) for path, fd in entry.later]
    return entry._replace(later=tuple(copies))


class Setup(NamedTuple):
    """All steps of a plan but its last, which is the program: what many spawns share."""

    steps: tuple[Step, ...]
    packed: marshal.Packed
    waiting: tuple[WaitForParent, ...]  # those that wait for the parent
    ways: tuple[int, ...]  # which of them lead into a group

    @classmethod
    def of(cls, plan: Plan) -> Setup:
        """Return that of a plan; SpawnError (EOPNOTSUPP) if the kernel can't carry it out."""
        check_kernel(plan)
        steps = plan.steps[:-1]
        ways = tuple(index for index, step in enumerate(steps) if isinstance(step, _WAYS))
        return cls(steps, marshal.pack(steps), waiting_of(steps), ways)

    def of_group(self, entry: Entry) -> Setup:
        """Return the same for another group that is entered in the same way, by no init.

        Its steps name the first one still.
        """
        fds = [fd for _, fd in entry.tasks]
        if entry.birth is not None:
            fds.insert(0, entry.birth[1])
        packed = marshal.with_fds(self.packed, dict(zip(self.ways, fds, strict=True)))
        return self._replace(packed=packed)

    def remember(self, container: Container, asked: tuple[object, ...]) -> None:
        """Keep it for the next time that the same is asked of the container, if it recurs."""
        if all(mount.is_constant for mount in container.all_mounts):
            if len(container.setups) >= _REMEMBERED:
                container.setups.clear()
            container.setups[asked] = self


def check_kernel(plan: Plan) -> None:
    """Raise SpawnError (EOPNOTSUPP) for a step that this kernel would take, and do nothing."""
    if kernel.is_at_least((6, 2), os.uname().release):
        return
    for index, step in enumerate(plan):
        if isinstance(step, Unshare) and Namespace.TIME in step.namespaces:
            hint = "A program is moved to a new time namespace since Linux 6.2"
            raise SpawnError(errno.EOPNOTSUPP, step, index, len(plan), hint)


@contextmanager
def _own_pidfd() -> Iterator[int]:
    """Open a pidfd of the calling thread, whose end is what a child that is to die with it sees."""
    with noted("have the child see the end of the thread that starts it"):
        try:
            fd = linux.pidfd_open(threading.get_native_id(), _PIDFD_THREAD)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Before Linux 6.9 a process's only. It tells a little later, when all threads are gone.
            fd = linux.pidfd_open(os.getpid())
    try:
        yield fd
    finally:
        os.close(fd)


def explain(plan: Plan, index: int, error: int, command: Command) -> OSError:
    """Return the exception for a step that failed."""
    step = plan.steps[index]
    if isinstance(step, Clone) and error in _BIRTH_ERRORS and index > 0:
        index -= 1
        step = plan.steps[index]
        assert isinstance(step, BirthInCgroup)
    if error == errno.ECANCELED:
        hint = "The child was killed before it reached the program (SIGKILL, the OOM killer)"
        if isinstance(step, (Clone, ShowCgroups)):
            hint += ". If its v2 cgroup was ever killed (cgroup.kill), then by a bug of Linux 6.14"
        return SpawnError(error, step, index, len(plan), hint)
    if isinstance(step, (Execute, ChangeDirectory)):
        # as subprocess says it, because people catch that
        if isinstance(step, Execute):
            name = command.name
        else:  # without a name it is the caller's own
            name = step.path if command.cwd_name is None else command.cwd_name
        told = OSError(error, os.strerror(error), name)
        told.add_note(f"step {index + 1} of {len(plan)}: {step.describe()}")
        if (advice := hint_for(plan, index, error)) is not None:
            told.add_note(advice)
        return told
    refused = error in (errno.EPERM, errno.EACCES) and isinstance(step, _OF_SUBPROCESS)
    kind = NotPermittedError if refused else SpawnError
    return kind(error, step, index, len(plan), hint_for(plan, index, error))

"""In which order a container comes about, and why: the only place that knows."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pyns import capabilities
from pyns.cgroups.cgroup import planned_entry
from pyns.cgroups.entry import Entry
from pyns.command import (
    Arguments,
    Command,
    encode_arguments,
    encode_cwd,
    encode_environment,
    find_candidates,
    split_arguments,
)
from pyns.container import USER_LIMITS, Container
from pyns.idmap import Caller, IdMap, map_steps, uid_outside
from pyns.joining import Joined, named
from pyns.labels import label_steps
from pyns.landlock import RestrictSelf
from pyns.mount_steps import ASIDE_MAX, TakeMount
from pyns.mounts import Filesystem, Mount, StrPath, attributes_of, encode_target
from pyns.namespaces import Namespace
from pyns.peers import nearest
from pyns.rlimits import rlimit_steps
from pyns.rootfs import from_template, root_steps
from pyns.scheduling import scheduling_steps
from pyns.seccomp import InstallFilter
from pyns.steps import (
    BirthInCgroup,
    ChangeDirectory,
    Clone,
    CloneAgain,
    CloseRange,
    DefaultSignal,
    DieWithParent,
    EnterCgroup,
    Execute,
    ExecuteInit,
    HideMemory,
    LoopbackUp,
    NewKeyring,
    NewSession,
    NoNewPrivileges,
    OpenTree,
    ResetSignals,
    RestoreSignalMask,
    SetDomainname,
    SetGid,
    SetGroups,
    SetHostname,
    SetNamespaces,
    SetProcessGroup,
    SetPropagation,
    SetUid,
    SetUmask,
    ShowCgroups,
    Step,
    Unshare,
    WriteProc,
)
from pyns.terminal_steps import OpenTerminal, SetControllingTerminal, SetTerminalOwner


@dataclass(frozen=True)
class Plan:
    """The steps from clone3 to the program, in order."""

    steps: tuple[Step, ...]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        return "\n".join(f"{n:2}. {step.describe()}" for n, step in enumerate(self.steps, 1))

    def explain(self) -> str:
        """Return each step with its system calls, and what comes nearest with unshare and bwrap.

        Returns:
            Lines to print. At the end the command lines of unshare(1) and bwrap(1), each with the
            numbers of the steps that it can't express.

        Needs: nothing.
        Source: unshare(1), bwrap(1).

        Example:
            >>> print(Plan((Clone(Namespace.NET), LoopbackUp())).explain())
             1. clone the child into new namespaces: net
                    clone3
             2. bring the loopback interface up
                    socket, ioctl
            nearest: unshare --net --
                leaves out 2
            nearest: bwrap --dev-bind / / --unshare-net --
        """
        lines = []
        for number, step in enumerate(self.steps, 1):
            lines.append(f"{number:2}. {step.describe()}")
            if step.calls:
                lines.append(f"{'':8}{', '.join(step.calls.split())}")
        return "\n".join([*lines, *nearest(self.steps)])

    def to_json(self) -> str:
        """Return it as a JSON array of objects: kind, sentence and the step's own fields.

        Example:
            >>> Plan((LoopbackUp(),)).to_json()
            '[{"kind": "loopback_up", "sentence": "bring the loopback interface up"}]'
        """
        import json

        return json.dumps([_as_dict(step) for step in self.steps])


def _as_dict(step: Step) -> dict[str, Any]:
    own = {name: _as_json(getattr(step, name)) for name in step.names}
    return {"kind": step.kind, "sentence": step.describe(), **own}


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    if is_dataclass(value):
        return {field.name: _as_json(getattr(value, field.name)) for field in fields(value)}
    return value.words() if isinstance(value, Namespace) else value


def build_plan(
    container: Container,
    command: Command,
    entry: Entry,
    caller: Caller,
    joins: Sequence[Joined] = (),
    trees: Sequence[int] = (),
    *,
    parent_pidfd: int = -1,
    proc: int = -1,
    init: ExecuteInit | None = None,
    terminal: OpenTerminal | None = None,
    template: int | None = None,
) -> Plan:
    """Order everything that is asked for into steps. Each comment says what another order does.

    Args:
        container: what to isolate.
        command: what to start.
        entry: how the cgroups are entered.
        caller: who starts it.
        joins: the namespaces to join, opened.
        trees: fds of the mounts that the parent has made for it.
        parent_pidfd: of the thread that will clone, for `die_with_parent` and what waits for it.
        proc: fd of the caller's /proc, for `max_user_namespaces` and the like.
        init: how pyns-init is executed, if it is to be PID 1.
        terminal: how the program's terminal is opened, if it is to have one of its own.
        template: fd of a mount namespace with next to nothing in it, to be copied in place of the
            caller's where that makes no other difference.

    Raises:
        ValueError: the command and the container contradict each other.
    """
    new = container.namespaces
    joined = container.joined
    if Namespace.PID in new and command.process_group > 0:
        raise ValueError(
            f"process_group={command.process_group}: in a new PID namespace there are no groups "
            "yet. 0 makes one"
        )
    if new and not caller.is_privileged and Namespace.USER not in joined:
        new |= Namespace.USER  # lends him the right to the others (EPERM)
    if Namespace.USER in new:
        _check_ids(command, *id_maps(container, caller))
    steps: list[Step] = []

    # The parent's part. A child born in its v2 cgroup has its limits before its first instruction.
    if entry.birth is not None:
        steps.append(BirthInCgroup(*entry.birth))
    # A cgroup namespace's root is the cgroup that one is in when it is made. v1 groups are
    # entered after the clone; made by the clone, the namespace would show their full paths.
    # Beside what is joined: new ones are made with the right that the joined ones give, and a new
    # user namespace would take away the right to join (EPERM).
    late = new & Namespace.CGROUP if entry.tasks else Namespace(0)
    shows = bool(entry.later and Namespace.CGROUP in new)
    if shows:
        new &= ~Namespace.CGROUP
        late &= ~Namespace.CGROUP
    if joins:
        late = new
    # Entered by the program's execve; until then, and only then, the offsets can be set.
    last = new & Namespace.TIME
    # What a privileged caller sets up before it is looked up with his rights (EACCES), and none of
    # the other namespaces belongs to it: of use to a program with capabilities only.
    if caller.is_privileged and not joins and container.capabilities == ():
        last |= new & Namespace.USER
    propagation = "slave" if container.propagation == "slave" else "private"
    to_root = _root_steps(container, trees)
    if template is not None and not joins and _suffices(container, new & ~last, to_root):
        to_root = list(from_template(to_root, template, propagation))
        last |= Namespace.MOUNT
    elif Namespace.MOUNT in new:
        # Before any mount: a shared one would appear on the host too, and pivot_root says EINVAL.
        to_root.insert(0, SetPropagation(propagation))
    steps.append(Clone(new & ~late & ~last))

    # First of all: what follows is charged to the child's own limits.
    steps += [EnterCgroup(path, fd) for path, fd in entry.tasks]
    # In the caller's /proc, while it is there (ENOENT), and as its owner: before the uid changes
    # and the memory is hidden (EACCES). CPUs after the cgroups, whose cpuset decides which there
    # are (EINVAL).
    steps += scheduling_steps(
        container.oom_score_adj,
        container.nice,
        None if entry.later_birth else container.cpu_affinity,
        container.timer_slack_ns,
        core_scheduling=container.core_scheduling,
    )
    steps += label_steps(container.apparmor_profile, container.selinux_label)
    # Before anybody in there can look at the child, which has the caller's memory; but hidden, it
    # can't write its maps and offsets (EACCES).
    hides = bool(joins) and bool((Namespace.PID | Namespace.USER) & joined)
    writes = bool(new & (Namespace.USER | Namespace.TIME)) or bool(container.network)
    if joins:
        steps += _join_steps(joins, new & ~last, hides=hides and not writes)
        late = Namespace(0)
    if shows:
        # As the caller still: no other id may have a child born in the group (EACCES).
        steps.append(_show(entry))
    # Before any change of ids, after which an ordinary caller may not look at the child (EACCES).
    own_user = Namespace.USER in new & ~last | joined
    steps += [
        network.step(parent_pidfd, own_user=own_user, privileged=caller.is_privileged)
        for network in container.network
    ]
    if Namespace.USER in new & ~last:
        # As long as no id is mapped, no file can be made (EOVERFLOW). /proc is the caller's still.
        steps += _user_steps(container, caller, proc, parent_pidfd)
    if late:
        steps.append(Unshare(late))
    if Namespace.TIME in new:
        steps.append(Unshare(Namespace.TIME))
        if container.time_offsets:
            steps.append(
                WriteProc(
                    "/proc/self/timens_offsets", _offsets(dict(container.time_offsets).items())
                )
            )

    if hides and writes:
        steps.append(HideMemory())

    # Names and network need capabilities: before the uid changes (EPERM).
    if container.hostname is not None:
        steps.append(SetHostname(os.fsencode(container.hostname)))
    if container.domainname is not None:
        steps.append(SetDomainname(os.fsencode(container.domainname)))
    if container.has_loopback:
        steps.append(LoopbackUp())

    steps += to_root
    # After all mounts: pivot_root says EINVAL to shared ones, open_tree to unbindable ones.
    if container.propagation in ("shared", "unbindable"):
        steps.append(SetPropagation(container.propagation))

    # In the /dev/pts that the mounts make visible (ENOENT); before rlimits (EMFILE). Its owner can
    # be changed until the uid or the user namespace changes (EPERM).
    if terminal is not None:
        owner = command.uid
        if Namespace.USER in last:
            owner = uid_outside(id_maps(container, caller)[0], caller, command.uid)
        steps.append(terminal)
        if owner is not None:
            steps.append(SetTerminalOwner(owner, terminal.fd))

    # After the root and the mounts, and a path in what they make visible. While the caller may
    # still enter it: before the uid changes, as subprocess does.
    if command.cwd is not None:
        steps.append(ChangeDirectory(command.cwd, contained=Namespace.MOUNT in new | joined))
    if command.umask >= 0:
        # after mount targets are made, which have their own modes
        steps.append(SetUmask(command.umask))
    # Paths inside the root: after pivot_root. As whoever may reach them: before the uid changes.
    if container.landlock is not None:
        steps += container.landlock.rules()
    # After everything that opens files (nofile: EMFILE). Before the uid changes: root may go above
    # its hard limits (EPERM).
    steps += rlimit_steps(container.rlimits or ())
    # An init would be the one to lead a session or a group. It leaves these to the program.
    if init is None:
        steps += _own_steps(container, command, terminal)

    if Namespace.USER in last:
        # After all that needs capabilities over anything else (EPERM).
        steps.append(Unshare(Namespace.USER))
        steps += _user_steps(container, caller, proc, parent_pidfd)
    if container.capabilities is not None:
        # While there is CAP_SETPCAP: before the uid changes (EPERM).
        changes_uid = command.uid is not None
        steps += capabilities.steps_before_uid(container.capabilities, changes_uid=changes_uid)

    # The uid last: without it, neither groups nor gid can change (EPERM).
    if command.groups is not None:
        steps.append(SetGroups(command.groups))
    if command.gid is not None:
        steps.append(SetGid(command.gid))
    if command.uid is not None:
        steps.append(SetUid(command.uid))

    if container.new_keyring:
        # of the user that the program runs as: after the uid (EACCES for its owner)
        steps.append(NewKeyring())
    # After all that needs capabilities, ids included (EPERM). A change of the uid would empty the
    # effective and ambient sets again.
    if container.capabilities is not None:
        steps += capabilities.steps_after_uid(container.capabilities)
    if container.no_new_privileges:
        steps.append(NoNewPrivileges())
    if container.die_with_parent:
        # after the uid and the capabilities, whose change takes it back
        steps.append(DieWithParent(parent_pidfd))

    if container.landlock is not None:
        # after no_new_privileges and all mounts (EPERM), before its fd is closed (EBADF)
        steps.append(RestrictSelf())

    # After everything that opens files: what is not passed on is closed (CVE-2024-21626).
    lent = [fd for _, fd in entry.later if fd >= 0]
    if init is not None and terminal is not None:
        lent.append(terminal.fd)
    steps += command.fd_steps(init, terminal, lent)
    # Whatever the program must not be able to undo has been done: it is the init's as well. What
    # follows is the program's alone, and has to do without privileges, which execve takes from
    # any user but root.
    if init is not None:
        steps.append(init)
        # First of all: what the init has used is not charged to the program, what follows is.
        steps += [EnterCgroup(path, fd) for path, fd in entry.later]
        if entry.later_birth:
            # after the cpuset, as above
            steps += scheduling_steps(None, None, container.cpu_affinity, None)
        steps += _own_steps(container, command, terminal)
        steps += [CloseRange(fd, fd) for fd in lent]
    # Last of all that can fail: with a signal let in earlier, the child could end half-way.
    steps.append(RestoreSignalMask())
    # After everything but the program: a filter goes for every call from here on.
    if container.seccomp is not None:
        steps.append(InstallFilter(container.seccomp))
    steps.append(Execute(command.candidates, command.arguments, command.environment))
    return Plan(tuple(steps))


def _root_steps(container: Container, trees: Sequence[int]) -> list[Step]:
    made = iter(trees)
    return [
        step.made(next(made, -1)) if isinstance(step, TakeMount) else step
        for step in root_steps(
            container.root,
            container.all_mounts,
            attributes=attributes_of(container),
            masked=[encode_target(path) for path in container.masked_paths],
            protected=[encode_target(path) for path in container.read_only_paths],
        )
    ]


def _suffices(container: Container, new: Namespace, to_root: Sequence[Step]) -> bool:
    """Whether a copy of the template does: all that is needed of the caller's can be taken along.

    A mount namespace of another user namespace would make a difference: in a copy, what is
    read-only for the caller can't be made writable. So would a source beneath the root, which may
    be what was mounted there a step before.
    """
    sources = [step.source for step in to_root if isinstance(step, OpenTree)]
    return (
        container.root is not None
        and Namespace.MOUNT in new
        and Namespace.USER not in new
        and len(sources) < ASIDE_MAX
        and not any(_may_lie_beneath(container.root, source) for source in sources)
        and not any(
            mount.names_paths
            for mount in (container.root, *container.all_mounts)
            if isinstance(mount, Mount)
        )
    )


def _may_lie_beneath(root: StrPath | Filesystem, path: bytes) -> bool:
    if isinstance(root, Filesystem):
        return False
    above = os.path.normpath(os.fsencode(root))
    if not (path.startswith(b"/") and above.startswith(b"/")):
        return True
    # not `above` itself: normpath leaves two slashes in front as they are
    return os.path.commonpath((above, os.path.normpath(path))) == os.path.commonpath((above,))


def id_maps(container: Container, caller: Caller) -> tuple[Sequence[IdMap], Sequence[IdMap]]:
    """Return what is mapped in the container's user namespace: uids, gids."""
    return (
        (IdMap(caller.uid, caller.uid),) if container.uid_map is None else container.uid_map,
        (IdMap(caller.gid, caller.gid),) if container.gid_map is None else container.gid_map,
    )


def _check_ids(command: Command, uid_map: Sequence[IdMap], gid_map: Sequence[IdMap]) -> None:
    for what, numbers, maps in (
        ("user", (command.uid,), uid_map),
        ("group", (command.gid,), gid_map),
        ("extra_groups", command.groups or (), gid_map),
    ):
        for number in numbers:
            if number is not None and not any(number in m.all_inside for m in maps):
                known = ", ".join(map(str, maps)) or "nothing"
                kind = "uid" if what == "user" else "gid"
                raise ValueError(
                    f"{what}: {number} is nobody in the container's user namespace: {kind}_map is "
                    f"{known} (inside, outside, count)"
                )


def _join_steps(joins: Sequence[Joined], new: Namespace, *, hides: bool) -> Iterator[Step]:
    if hides:
        yield HideMemory()
    # The user namespace first: it gives the right to the others (EPERM).
    for join in sorted(joins, key=lambda join: Namespace.USER not in join.namespaces):
        yield SetNamespaces(join.namespaces, join.path, join.fd)
    born = Namespace.PID | Namespace.USER
    if new & born or any(Namespace.PID in join.namespaces for join in joins):
        yield CloneAgain(new)
    elif new:
        yield Unshare(new)
    for join in joins:
        if join.gid is not None:
            yield SetGroups(())
            yield SetGid(join.gid)
        if join.uid is not None:
            yield SetUid(join.uid)


def _show(entry: Entry) -> ShowCgroups:
    path, fd = entry.later_birth or ("", -1)
    tasks = tuple([file for there, file in entry.later if there != path])
    entered = [] if entry.birth is None else [entry.birth]
    paths = tuple([there for there, _ in (*entered, *entry.tasks, *entry.later)])
    return ShowCgroups(paths, fd, tasks, 2)


def _user_steps(
    container: Container, caller: Caller, proc: int, parent_pidfd: int
) -> Iterator[Step]:
    yield from map_steps(*id_maps(container, caller), caller, parent_pidfd)
    for name in USER_LIMITS:
        limit = getattr(container, name)
        if limit is not None:
            # of the namespace that one is in: not before, when it would be the caller's
            yield WriteProc(f"/proc/sys/user/{name}", str(limit), proc)


def _own_steps(
    container: Container, command: Command, terminal: OpenTerminal | None
) -> Iterator[Step]:
    if command.restore_signals:
        yield from (DefaultSignal(signal.SIGPIPE), DefaultSignal(signal.SIGXFSZ))
    if container.reset_signals:
        yield ResetSignals()
    own_session = container.new_session or terminal is not None
    if command.start_new_session or own_session:
        yield NewSession()
    if terminal is not None:
        # only a session's leader may, and before there is another one (EPERM)
        yield SetControllingTerminal(terminal.fd)
    if command.process_group > 0 or (command.process_group == 0 and not own_session):
        # after the session, whose leader leads a group, and can't change it (EPERM): so with
        # start_new_session it is refused, as by subprocess
        yield SetProcessGroup(command.process_group)


def entered_later(container: Container, command: Command, caller: Caller) -> tuple[int, ...]:
    """Return the versions of cgroups that the program can enter itself, as a child of an init.

    v1 lets the one who has opened the file move root's processes only if he is the host's root, and
    else his own (EACCES).
    """
    if not container.init:
        return ()
    outside: int | None = caller.uid if command.uid is None else command.uid
    if Namespace.USER in container.namespaces:
        outside = uid_outside(id_maps(container, caller)[0], caller, command.uid)
    return (1, 2) if outside == caller.uid or caller.is_root_of_host else (2,)


def _offsets(offsets: Iterable[tuple[str, float]]) -> str:
    lines = []
    for clock, seconds in offsets:
        whole = math.floor(seconds)
        lines.append(f"{clock} {whole} {round((seconds - whole) * 10**9)}\n")
    return "".join(lines)


def may_take_template(container: Container, caller: Caller) -> bool:
    """Whether it is worth the while to open the template."""
    return container.root is not None and caller.is_privileged and not container.join


def dry_run(container: Container, args: Arguments) -> Plan:
    """Return the plan for a program with the caller's environment and fds, opening nothing."""
    argv = split_arguments(args, shell=False, executable=None)
    command = Command(
        encode_arguments(argv),
        find_candidates(argv[0], container.environment),
        encode_environment(container.environment),
        encode_cwd(None, may_be_hidden=container.may_hide_cwd),
    )
    caller, entry = Caller.current(), Entry()
    later = entered_later(container, command, caller)
    if container.limits is not None:
        entry = planned_entry(container.limits, container.cgroup, later)
    elif container.cgroup is not None:
        entry = container.cgroup.closed_entry(later)
    joins = named(container.joins)
    init = ExecuteInit() if container.init else None
    template = -1 if may_take_template(container, caller) else None
    return build_plan(container, command, entry, caller, joins, init=init, template=template)

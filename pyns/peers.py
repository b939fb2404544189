"""Which command line of unshare(1) and bwrap(1) comes nearest to a plan, and what it leaves out."""

from __future__ import annotations

import os
import shlex
from collections import deque
from collections.abc import Iterator, Sequence

from pyns import mount_steps as filling
from pyns import steps
from pyns.capabilities import DropBounding, KeepCapabilities, RaiseAmbient, SetCapabilities
from pyns.idmap import WriteMaps
from pyns.namespaces import Namespace
from pyns.steps import MOUNT_ATTR_RDONLY, Step

# What any program that starts another one does, or what is only in the way of another step.
_IMPLIED = (
    steps.CloseRange,
    steps.DefaultSignal,
    steps.Duplicate,
    steps.Execute,
    steps.HideMemory,
    steps.HostRoot,
    steps.PivotRoot,
    steps.RestoreSignalMask,
)
# Those that begin a mount in hand, and those that go on with it.
_BEGIN = (steps.OpenTree, steps.NewMount, filling.TakeMount, filling.TakeUp)
_GO_ON = (
    steps.SetAttributes,
    filling.MakeDirectory,
    filling.MakeSymlink,
    filling.WriteFile,
    filling.OpenWithin,
    filling.SetAside,
    filling.TakeUp,
    filling.Stage,
    filling.Unstage,
    filling.CopyMode,
)
_END = (steps.Attach, filling.AttachRoot, filling.TakeMasks)

# What they call the namespaces; None: they have no option for it.
_UNSHARE = {kind: f"--{kind.words()}" for kind in Namespace}
_BWRAP = {
    kind: None if kind == Namespace.TIME else f"--unshare-{kind.words()}"
    for kind in Namespace
    if kind != Namespace.MOUNT  # always
}

Said = list[str] | None  # the arguments that say it; None: there are none


class Peer:
    """A command line in the making.

    Args:
        plan: what it is to do.
    """

    program = ""

    def __init__(self, plan: Sequence[Step]) -> None:
        self.plan = plan
        self.new = Namespace(0)
        for step in self.plan:
            if isinstance(step, (steps.Clone, steps.CloneAgain, steps.Unshare)):
                self.new |= step.namespaces
        self.kinds = {type(step) for step in self.plan}

    def say(self, step: Step) -> Said:
        """Return the arguments for a step that is not about a mount in hand."""
        raise NotImplementedError

    def say_mount(self, mount: Sequence[Step]) -> Said:
        """Return the arguments for a mount, from its first step to its last."""
        raise NotImplementedError

    def line(self) -> tuple[str, list[int]]:
        """Return the command line, and the numbers of the steps that it leaves out."""
        arguments, missing = [self.program], []
        for numbers, group in _grouped(self.plan):
            if isinstance(group[-1], _END):
                said = self.say_mount(group)
            else:
                is_implied = isinstance(group[0], _IMPLIED) or self._is_left(group[0])
                said = [] if is_implied else self.say(group[0])
            arguments += said or []
            if said is None:
                missing += numbers
        return shlex.join([*arguments, "--", *_command(self.plan)]), sorted(missing)

    def _is_left(self, step: Step) -> bool:
        """Whether a step joins a namespace that is only copied."""
        return isinstance(step, steps.SetNamespaces) and step.namespaces in self.new


def _grouped(plan: Sequence[Step]) -> Iterator[tuple[list[int], list[Step]]]:
    """Yield steps with their numbers: those of one mount together, any other by itself."""
    numbers: list[int] = []
    aside: deque[list[int]] = deque()
    for number, step in enumerate(plan, 1):
        if isinstance(step, filling.SetAside):
            aside.append([*numbers, number])
            numbers = []
            continue
        for _ in range(step.takes):
            numbers = aside.popleft() + numbers
        in_root = isinstance(step, filling.MakeEntry) and not step.in_hand
        if isinstance(step, _BEGIN + _GO_ON + _END) and not in_root:
            numbers.append(number)
            if isinstance(step, _END):
                yield numbers, [plan[n - 1] for n in numbers]
                numbers = []
        else:
            yield [number], [step]


def _command(plan: Sequence[Step]) -> list[str]:
    program = plan[-1]
    if not isinstance(program, steps.Execute):
        return []
    arguments = program.arguments
    if len(program.candidates) == 1:
        arguments = (program.candidates[0], *arguments[1:])
    return [os.fsdecode(argument) for argument in arguments]


class Unshare(Peer):
    """That of unshare(1)."""

    program = "unshare"
    root = ""

    def say(self, step: Step) -> Said:
        match step:
            case steps.Clone() | steps.CloneAgain() | steps.Unshare():
                fork = ["--fork"] if Namespace.PID in step.namespaces else []
                return [_UNSHARE[kind] for kind in step.namespaces] + fork
            case steps.SetPropagation(propagation="private" | "slave" | "shared"):
                return ["--propagation", step.propagation]
            case steps.NewRoot():
                return self._say_root(step.path)
            case steps.ChangeDirectory():
                return ["--wd", os.fsdecode(step.path)]
            case steps.SetGroups(gids=()) if steps.SetGid in self.kinds:
                return []  # --setgid does
            case steps.SetGid():
                return ["--setgid", str(step.gid)]
            case steps.SetUid():
                return ["--setuid", str(step.uid)]
            case steps.DieWithParent() if Namespace.PID in self.new:
                return ["--kill-child"]
            case steps.WriteProc():
                return _own_id(step, "--map-user", "--map-group") or self._say_offsets(step)
            case WriteMaps():
                return [
                    argument
                    for option, maps in (
                        ("--map-users", step.uid_map),
                        ("--map-groups", step.gid_map),
                    )
                    for inside, outside, count in (line.split() for line in maps)
                    for argument in (option, f"{outside},{inside},{count}")
                ]
        return None

    def _say_offsets(self, step: steps.WriteProc) -> Said:
        if step.path.endswith("/setgroups"):
            return []  # --map-group does
        lines = [line.split() for line in step.content.splitlines()]
        if not step.path.endswith("/timens_offsets") or any(line[2] != "0" for line in lines):
            return None
        return [argument for clock, seconds, _ in lines for argument in (f"--{clock}", seconds)]

    def say_mount(self, mount: Sequence[Step]) -> Said:
        match mount:
            case [steps.NewMount(fstype=b"proc"), steps.Attach(target=b"/proc")]:
                return [f"--mount-proc={self.root}/proc"]
            case [steps.OpenTree(source=source), *_, filling.AttachRoot()]:
                return self._say_root(source)
        return None

    def _say_root(self, path: bytes) -> Said:
        self.root = os.fsdecode(path)
        return ["--root", self.root]


class Bwrap(Peer):
    """That of bwrap(1), which has a mount namespace and no new privileges whatever is asked for."""

    program = "bwrap"

    def __init__(self, plan: Sequence[Step]) -> None:
        super().__init__(plan)
        self.dev = ""  # where its --dev is, which has all that lies below

    def line(self) -> tuple[str, list[int]]:
        line, missing = super().line()
        first = [] if {steps.NewRoot, filling.AttachRoot} & self.kinds else ["--dev-bind", "/", "/"]
        if Namespace.PID in self.new and steps.ExecuteInit not in self.kinds:
            first.append("--as-pid-1")
        return shlex.join([self.program, *first]) + line.removeprefix(self.program), missing

    def say(self, step: Step) -> Said:
        match step:
            case steps.Clone() | steps.CloneAgain() | steps.Unshare():
                options = [_BWRAP[kind] for kind in step.namespaces if kind in _BWRAP]
                return None if None in options else [option for option in options if option]
            case steps.SetPropagation(propagation="private" | "slave"):
                return []
            case steps.LoopbackUp() | steps.NoNewPrivileges() | steps.ExecuteInit():
                return []
            case DropBounding() | KeepCapabilities() | RaiseAmbient():
                return []  # with the sets, which come later
            case SetCapabilities():
                added = [argument for name in step.kept for argument in ("--cap-add", name.upper())]
                return ["--cap-drop", "ALL", *added]
            case steps.SetHostname():
                return ["--hostname", os.fsdecode(step.name)]
            case steps.NewRoot():
                return ["--bind", os.fsdecode(step.path), "/"]
            case filling.SetRootAttributes(attributes=attributes, below=False):
                return ["--remount-ro", "/"] if attributes == MOUNT_ATTR_RDONLY else None
            case filling.MakeDirectory():
                return ["--dir", os.fsdecode(step.path)]
            case filling.MakeSymlink():
                return ["--symlink", os.fsdecode(step.to), os.fsdecode(step.path)]
            case steps.ChangeDirectory():
                return ["--chdir", os.fsdecode(step.path)]
            case steps.NewSession():
                return ["--new-session"]
            case steps.DieWithParent():
                return ["--die-with-parent"]
            case steps.WriteProc():
                if step.path.endswith("/max_user_namespaces") and step.content == "0":
                    return ["--disable-userns"]
                return [] if step.path.endswith("/setgroups") else _own_id(step, "--uid", "--gid")
        return None

    def say_mount(self, mount: Sequence[Step]) -> Said:
        *middle, end = mount
        if isinstance(end, filling.AttachRoot):
            if isinstance(middle[0], steps.OpenTree):
                return ["--bind", os.fsdecode(middle[0].source), "/"]
            return self._say_entries(middle[1:], "")
        if not isinstance(end, steps.Attach):
            return None
        target = os.fsdecode(end.target)
        if self.dev and target.startswith(f"{self.dev}/"):
            return []
        if any(isinstance(s, filling.WriteFile) and s.path == b"null" for s in middle):
            self.dev = target
            return ["--dev", target]
        match middle:
            case [steps.OpenTree(source=source, recursive=True), *changes]:
                read_only = any(
                    isinstance(change, steps.SetAttributes)
                    and change.attributes & MOUNT_ATTR_RDONLY
                    for change in changes
                )
                return ["--ro-bind" if read_only else "--bind", os.fsdecode(source), target]
            case [steps.NewMount(fstype=b"proc" | b"mqueue" as fstype)]:
                return [f"--{fstype.decode()}", target]
            case [steps.NewMount(fstype=b"tmpfs", options=options), *entries]:
                known = {os.fsdecode(key): os.fsdecode(value) for key, value in options}
                mode = ["--perms", known["mode"]] if "mode" in known else []
                size = ["--size", known["size"]] if "size" in known else []
                below = self._say_entries(entries, target)
                return None if below is None else [*mode, *size, "--tmpfs", target, *below]
        return None

    def _say_entries(self, entries: Sequence[Step], target: str) -> Said:
        said: list[str] = []
        for entry in entries:
            match entry:
                case filling.MakeDirectory():
                    said += ["--dir", target + os.fsdecode(entry.path)]
                case filling.MakeSymlink():
                    said += ["--symlink", os.fsdecode(entry.to), target + os.fsdecode(entry.path)]
                case _:
                    return None
        return said


def _own_id(step: steps.WriteProc, uid: str, gid: str) -> Said:
    """Return what maps the caller's own id, if that is what a step writes."""
    for name, option in (("/uid_map", uid), ("/gid_map", gid)):
        if step.path.endswith(name):
            return [option, step.content.split()[0]]
    return None


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as people write them.

    Example:
        >>> ranges([1, 2, 3, 7, 9, 10])
        '1 to 3, 7, 9, 10'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    said = [f"{r[0]} to {r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in found]
    return ", ".join(said)


def nearest(plan: Sequence[Step]) -> Iterator[str]:
    """Yield a line for each peer, and one for what it leaves out.

    Args:
        plan: the steps, in order.
    """
    for peer in Unshare, Bwrap:
        line, missing = peer(plan).line()
        yield f"nearest: {line}"
        if missing:
            yield f"    leaves out {ranges(missing)}"

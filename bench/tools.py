"""The subjects that are programs of their own."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

from bench.bundle import write_bundle
from bench.floor import Start
from bench.isolation import EVERY, HOSTNAME, SETS, own_id_maps
from bench.subject import Subject, first_line
from pyns import Namespace

# an ordinary user's right to any other
LENT = Namespace(0) if os.geteuid() == 0 else Namespace.USER

_LONG = {kind: kind.words() for kind in EVERY}  # as unshare and bwrap call them
_CLONE = {kind: kind.words().replace("mount", "ns") for kind in EVERY}  # as clone(2)'s flags


class Tool(Subject):
    """A program that is started by limit.c, so that only its own work is added."""

    program: ClassVar[str]

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        """Return what comes after the program's name."""
        raise NotImplementedError

    def command(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        path = shutil.which(self.program)
        if path is None:
            raise FileNotFoundError(f"no {self.program} in PATH")
        return [path, *self.options(namespaces, argv)]

    def missing(self) -> str | None:
        asked = filter(self.is_asked_for, SETS.values())
        namespaces = next(n for n in asked if LENT in n)
        try:
            command = self.command(namespaces, [self.place.probe(namespaces)])
        except FileNotFoundError as error:
            return str(error)
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        said = (done.stderr + done.stdout).decode(errors="replace").split("\n")
        answer = said[0] or f"status {done.returncode}"
        return None if done.returncode == 0 else f"does not run here: {answer}"

    def version(self) -> str:
        told = first_line([self.program, "--version"])
        return told or f"tells no version; SHA-256 {_digest(self.program)[:16]}"

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        return self.place.floor.prepare(self.command(namespaces, argv))


def _digest(program: str) -> str:
    with open(shutil.which(program) or program, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Unshare(Tool):
    name = "unshare(1)"
    program = "unshare"
    differences = (
        "Less: chroot instead of pivot_root (the old root can be reached), no hostname, no "
        "loopback, nothing closed. More: its own exec, a fork for the program to be PID 1."
    )
    always = Namespace.PID
    sets_hostname = brings_loopback_up = False

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        options = [f"--{_LONG[kind]}" for kind in namespaces] + ["--fork"]
        if Namespace.USER in namespaces:
            options.append("--map-current-user")
        if Namespace.MOUNT in namespaces:
            options += [f"--root={self.place.root}", "--mount-proc"]
        return [*options, *argv]


class Bwrap(Tool):
    name = "bwrap"
    program = "bwrap"
    differences = (
        "Less: no time namespace. More: its own exec, a process that stays outside and waits, a "
        "tmpfs to build the root in, two pivot_roots, no_new_privs, all capabilities dropped."
    )
    makes = EVERY & ~Namespace.TIME
    always = Namespace.MOUNT | LENT

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        kinds = namespaces & self.makes & ~Namespace.MOUNT
        options = [f"--unshare-{_LONG[kind]}" for kind in kinds] + ["--as-pid-1"]
        options += ["--bind", str(self.place.root), "/", "--proc", "/proc"]
        return [*options, "--hostname", HOSTNAME, *argv]


class Nsjail(Tool):
    name = "nsjail"
    program = "nsjail"
    differences = (
        "More: its own exec, a process that stays outside and waits, a tmpfs to build the root "
        "in, no_new_privs, a new session. Without its niceness of 19 and its rlimits."
    )
    always = Namespace.MOUNT

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        left = self.makes & ~namespaces & ~Namespace.TIME
        options = [f"--disable_clone_new{_CLONE[kind]}" for kind in left]
        if Namespace.TIME in namespaces:
            options.append("--enable_clone_newtime")
        options += ["--nice_level", "0", "--disable_rlimits"]
        options += ["-Mo", "-Q", "--chroot", str(self.place.root), "--rw", "--proc_rw"]
        options += ["--hostname", HOSTNAME, "--cwd", "/", "--keep_env", "--keep_caps"]
        options += ["--user", str(os.geteuid()), "--group", str(os.getegid())]
        return [*options, "--", *argv]


class Minijail(Tool):
    name = "minijail0"
    program = "minijail0"
    differences = "Less: no time namespace. More: its own exec, a process outside that waits."
    makes = EVERY & ~Namespace.TIME
    always = Namespace.PID | Namespace.MOUNT

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        options = ["-T", "static", "-p", "-I", "-v", "-P", str(self.place.root)]
        options += ["-k", "proc,/proc,proc,0xe", f"--uts={HOSTNAME}"]
        switches = {Namespace.IPC: "-l", Namespace.NET: "-e", Namespace.CGROUP: "-N"}
        options += [switch for kind, switch in switches.items() if kind in namespaces]
        if Namespace.USER in namespaces:
            uids, gids = own_id_maps()
            options += [f"-m{uids}", f"-M{gids}"]
        return [*options, "--", *argv]


class Isolate(Tool):
    name = "isolate"
    program = "isolate"
    differences = (
        "Less: no uts, user, cgroup, time namespace; chroot. More: its own exec, a process "
        "outside that waits, one inside as PID 1, a tmpfs that the directory is bound into, a "
        "uid of the box's own, all capabilities dropped, rlimits, seccomp. Its box is made before."
    )
    makes = Namespace.PID | Namespace.MOUNT | Namespace.IPC | Namespace.NET
    always = Namespace.PID | Namespace.MOUNT | Namespace.IPC
    pid = 2
    enters_root = False
    limits: ClassVar[Sequence[str]] = ("--processes",)

    def missing(self) -> str | None:
        try:
            return super().missing()
        except subprocess.CalledProcessError as error:
            return f"does not run here: {error.stderr.strip()}"

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        options = self.options_of(FIRST_BOX, argv)
        return options if Namespace.NET in namespaces else ["--share-net", *options]

    def options_of(self, box: int, argv: Sequence[str]) -> list[str]:
        """Return those of one of the boxes, in each of which one program runs at a time."""
        directories = [f"box={new_box(box)}/box:rw", f"bench={self.place.root}:rw", "proc=proc:fs"]
        options = [f"--box-id={box}", "--silent", "--full-env", "--no-default-dirs", *self.limits]
        options += [f"--dir={rule}" for rule in directories]
        return [*options, "--run", "--", *(f"/bench{path}" for path in argv)]


FIRST_BOX = 900  # of those that it can have, 1000 usually: not one that is likely to be in use


@cache
def new_box(box: int) -> str:
    """Make a box of isolate's, until this process ends; return its directory."""
    command = ["isolate", f"--box-id={box}"]
    made = subprocess.run([*command, "--init"], capture_output=True, text=True, check=True)
    atexit.register(subprocess.run, [*command, "--cleanup"], check=False)
    return made.stdout.strip()


class MkosiSandbox(Tool):
    name = "mkosi-sandbox"
    program = "mkosi-sandbox"
    differences = (
        "Less: no pid, uts, cgroup, time namespace, for root no user namespace; the caller's "
        "/proc, no loopback. More: an interpreter of its own, a tmpfs to build the root in."
    )
    makes = Namespace.MOUNT | Namespace.IPC | Namespace.NET | LENT
    always = Namespace.MOUNT | LENT
    brings_loopback_up = False

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        options = ["--bind", str(self.place.root), "/", "--bind", "/proc", "/proc", "--chdir", "/"]
        kinds = namespaces & (Namespace.IPC | Namespace.NET)
        options += [f"--unshare-{_LONG[kind]}" for kind in kinds]
        return [*options, "--", *argv]


class Runc(Tool):
    name = "runc"
    program = "runc"
    differences = (
        "Less: no time namespace. More: a bundle to read, state on disk, a cgroup in every "
        "hierarchy, a /dev with nodes, a process outside that waits, a new session, all "
        "capabilities dropped."
    )
    makes = EVERY & ~Namespace.TIME
    always = Namespace.MOUNT
    before: ClassVar[Sequence[str]] = ()

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        bundle = write_bundle(self.place, namespaces, argv)
        return [*self.before, "run", "--bundle", bundle, f"pyns-bench-{os.getpid()}"]


class Crun(Runc):
    name = "crun"
    program = "crun"
    differences = (
        "Less: no time namespace. More: a bundle to read, state on disk, a /dev with nodes, a "
        "process outside that waits, a new session, all capabilities dropped."
    )
    before = ("--cgroup-manager=disabled",)

"""Has libFuzzer look for a plan that crashes the shim, its caller, or leaves something behind.

    python tests/fuzz/run.py --seconds 20

Builds plan.c with the shim, watched by AddressSanitizer and UndefinedBehaviorSanitizer (it needs
clang), and gives it plans to begin with: those of containers, and those of ../shim/random_plans.py.
The steps do what they do, so it runs in a container: an ordinary user outside, a root of a few
read-only directories, namespaces of its own, no capability. What it finds is in the directory that
is named at the end; `run.py --input FILE` tries that again. With `--work DIRECTORY` the inputs that
have reached something new are kept there, for the next time.
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from pyns import (
    Bind,
    Container,
    Dev,
    Dir,
    File,
    Landlock,
    Limits,
    Namespace,
    Overlay,
    Proc,
    Symlink,
    TimeoutExpired,
    Tmpfs,
    marshal,
    run,
)
from pyns import steps as step
from pyns.mount_steps import MakeDirectory
from pyns.plan import Plan
from pyns.terminal_steps import OpenTerminal, SetControllingTerminal

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
SOURCES = [CSRC / name for name in ("clone.c", "lending.c", "child.c", "mount.c", "terminal.c")]
# the child's stack is unmapped as it was left: marks would stay, for what is mapped there next
FLAGS = """
    -std=gnu11 -O1 -g -Wall -Wextra -Wshadow -Werror -fno-omit-frame-pointer -fstack-protector-all
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -mllvm -asan-stack=0
"""
USER = 65534  # outside, if root starts it
EXAMPLES = 300
RANDOM_PLANS = runpy.run_path(str(HERE.parent / "shim" / "random_plans.py"))


def build(target: Path) -> None:
    command = ["clang", *FLAGS.split(), f"-I{CSRC}", str(HERE / "plan.c"), *map(str, SOURCES)]
    subprocess.run([*command, "-lpthread", "-o", str(target)], check=True)


def containers() -> Iterator[Container]:
    """Yield containers that have, together, most kinds of steps."""
    root = Tmpfs("/", size="1M")
    usr = [Bind("/usr", read_only=True), Symlink("/lib64", "usr/lib64"), Symlink("/lib", "usr/lib")]
    yield Container(hostname="a", domainname="b", loopback=False)
    yield Container.sandbox(limits=Limits(), max_user_namespaces=None, max_inotify_instances=None)
    yield Container(root=root, mounts=[*usr, Proc(), Dev(), Dir("/a/b"), File("/c", "d")])
    yield Container(root=root, mounts=[*usr, Overlay("/o", lower=["/usr/bin", "/usr/lib"])])
    yield Container(root="/tmp", mounts=[*usr, Tmpfs("/a/b")], read_only=True)
    yield Container(
        read_only_paths=["/usr"], masked_paths=["/tmp", "/usr/bin/true"], rlimits={"nofile": 64}
    )
    yield Container(
        new_session=True,
        new_keyring=True,
        reset_signals=True,
        no_new_privileges=True,
        cpu_affinity={0},
        landlock=Landlock(read=["/usr", "/dev/null"], connect_tcp=[80]),
    )


NOT_HIS = (
    *(step.BirthInCgroup, step.Clone, step.EnterCgroup, step.ShowCgroups, step.WaitForParent),
    *(step.SetNamespaces, step.Unshare, step.SetGroups, step.SetGid, step.SetUid),
    *(step.ExecuteInit, step.DieWithParent, step.LoopbackUp, step.ChangeDirectory),
)


def plans() -> Iterator[Plan]:
    """Yield their plans, as somebody has them who may do nothing outside, and whom nobody helps."""
    every = Namespace(RANDOM_PLANS["ALL"])
    maps = (
        step.WriteProc("/proc/self/setgroups", "deny"),
        step.WriteProc("/proc/self/uid_map", "0 1000 1"),
        step.WriteProc("/proc/self/gid_map", "0 1000 1"),
    )
    program = (b"/usr/bin/true",)
    true = step.Execute(program, (b"true",), ())
    for box in containers():
        plan = replace(box, env={}).plan(["/usr/bin/true"])
        steps = (s for s in plan if not isinstance(s, NOT_HIS))
        yield Plan((step.Clone(every), *maps, *steps))
    fd = 100  # FD_FIRST of plan.c
    yield Plan(
        (
            step.Clone(every & ~Namespace.PID),
            *maps,
            step.ShowCgroups(()),
            step.Unshare(Namespace.PID),
            step.CloneAgain(Namespace(0)),
            step.NewSession(),
            OpenTerminal(24, 80, fd),
            SetControllingTerminal(fd),
            step.HostRoot(),
            step.ChangeDirectory(b"/tmp", contained=True),
            true,
        )
    )
    # as long as what the child has on its stack for it, and as the page that it puts pointers in
    path = b"/" + b"b/" * 2048
    yield Plan((step.Clone(every), *maps, step.HostRoot(), MakeDirectory(path, False), true))
    yield Plan((step.Clone(every), step.Execute(program, (b"x",) * 511, ())))


def seeds() -> Iterator[marshal.Packed]:
    found: list[marshal.Packed] = []
    profile = settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @profile
    @given(RANDOM_PLANS["blocks"]())
    def keep(plan: marshal.Packed) -> None:
        found.append(plan)

    keep()
    yield from found
    yield from map(marshal.pack, plans())


def write_seeds(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for number, (steps, text) in enumerate(seeds()):
        content = struct.pack("=I", len(steps)) + steps + text
        (directory / f"seed-{number}").write_bytes(content)


def fuzzed(work: Path) -> Container:
    """Return the container that libFuzzer runs in; `work` is all that it may write to."""
    return Container.sandbox(
        mounts=[Bind(work, "/work")],
        host_id=USER,
        init=False,  # a child that loses its parent is the fuzzer's, who counts them
        # what the steps are to reach, and the sanitizers' shadow
        seccomp=None,
        max_user_namespaces=None,
        masked_paths=(),
        read_only_paths=(),
    )


def give_to_user(directory: Path) -> None:
    if os.geteuid() == 0:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, USER, USER)


def fuzz(work: Path, arguments: list[str], timeout: float) -> int:
    give_to_user(work)
    environment = {
        "PYNS_CURRENT": "/work/current",
        "ASAN_OPTIONS": "detect_leaks=0",  # that takes ptrace
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = ["/work/plan", "-artifact_prefix=/work/", *arguments]
    try:
        return run(fuzzed(work), command, env=environment, cwd="/work", timeout=timeout).returncode
    except TimeoutExpired:
        print("it never ended with the input", work / "current", file=sys.stderr)
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--input", type=Path, help="try what it has found, once")
    parser.add_argument("--work", type=Path, help="a directory that is kept; made if missing")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="pyns-fuzz-"))
    work.mkdir(exist_ok=True)
    build(work / "plan")
    if options.input is not None:
        shutil.copy(options.input, work / "input")
        arguments = ["/work/input"]
    else:
        write_seeds(work / "corpus")
        arguments = [f"-max_total_time={options.seconds}", "-timeout=20", "-max_len=16384"]
        arguments += ["-print_final_stats=1", "-print_funcs=0", "/work/corpus"]  # funcs: by a child
    status = fuzz(work, arguments, options.seconds + 60)
    if status != 0:
        print(f"status {status}: see {work}", file=sys.stderr)
    elif options.work is None:
        shutil.rmtree(work)
    return status


if __name__ == "__main__":
    sys.exit(main())

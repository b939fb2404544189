"""The command lines that come nearest do what the plan does."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Bind, Container, Namespace, Proc, Tmpfs

Box = Callable[..., Container]
SEEN = "uname -n; echo $$; for n in uts ipc pid net; do readlink /proc/self/ns/$n; done"


def line_of(program: str, container: Container, script: str) -> list[str]:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} in PATH")
    said = container.plan(["sh", "-c", script]).explain().splitlines()
    [line] = [line for line in said if line.startswith(f"nearest: {program} ")]
    return shlex.split(line.removeprefix("nearest: "))


def output_of(line: list[str]) -> str:
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("program", "hostname"), [("unshare", os.uname().nodename), ("bwrap", "x")]
)
def test_the_same_namespaces_are_new(program: str, hostname: str) -> None:
    kinds = Namespace.MOUNT | Namespace.PID | Namespace.UTS | Namespace.NET
    name, pid, uts, ipc, pids, net = output_of(
        line_of(program, Container(namespaces=kinds, hostname="x"), SEEN)
    ).split()
    ours = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("uts", "ipc", "pid", "net")}
    assert (name, pid, ipc) == (hostname, "1", ours["ipc"])
    assert ours["uts"] != uts
    assert ours["pid"] != pids
    assert ours["net"] != net


@pytest.mark.usefixtures("namespaces")
def test_bwrap_mounts_the_same(new_root: Path) -> None:
    mounts = [Bind("/usr", read_only=True), Proc(), Tmpfs("/tmp", size=8192)]
    box = Container(root=new_root, mounts=mounts)
    script = "cd /; echo *; stat -f -c %b /tmp; test -w /usr || echo read-only"
    names, size, read_only = output_of(line_of("bwrap", box, script)).splitlines()
    assert set(names.split()) == {"proc", "tmp", "usr", *os.listdir(new_root)}
    assert (size, read_only) == ("2", "read-only")

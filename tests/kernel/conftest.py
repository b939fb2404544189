"""A container with a root of its own, in which the host's programs run."""

from __future__ import annotations

import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Completed, Container, IdMap, Limits, Namespace, Proc, kernel, run
from pyns.syscalls import numbers

Shell = Callable[..., str]


@pytest.fixture
def root_only() -> None:
    """Skip where credentials can't be changed."""
    if os.geteuid() != 0:
        pytest.skip(f"geteuid() is {os.geteuid()}: 0 is needed for another user or capabilities")


@pytest.fixture
def box(new_root: Path) -> Callable[..., Container]:
    """Describe a container whose root has the host's /usr and a /proc of its own."""

    def make(*mounts: Any, **fields: Any) -> Container:
        usual = (Bind("/usr", read_only=True), Proc())
        return Container(root=new_root, mounts=(*usual, *mounts), **fields)

    return make


@pytest.fixture
def shell() -> Shell:
    """Run a script in a container; return what it prints, without the last newline."""

    def execute(container: Container, script: str, *args: str, **options: Any) -> str:
        completed: Completed = run(
            container, ["sh", "-ec", script, "sh", *args], capture_output=True, text=True, **options
        )
        assert (completed.returncode, completed.stderr) == (0, "")
        return str(completed.stdout).rstrip("\n")

    return execute


@pytest.fixture
def admin() -> Callable[..., str]:
    """Run Python in a process of its own that may change its namespaces; return what it prints.

    With the privileges of root, or those that a container lends: all its namespaces are then those
    of a user namespace in which it is root.
    """

    def execute(code: str, *arguments: object) -> str:
        box = Container(namespaces=Namespace(0))
        if os.geteuid() != 0:
            has_time = kernel.is_at_least((6, 2), os.uname().release)
            box = Container(
                namespaces=~Namespace(0) if has_time else ~Namespace.TIME,
                uid_map=IdMap.current("uid", 0),
                gid_map=IdMap.current("gid", 0),
            )
        command = [sys.executable, "-P", "-c", textwrap.dedent(code), *map(str, arguments)]
        done = run(box, command, capture_output=True, text=True, cwd="/")
        assert (done.returncode, done.stderr) == (0, "")
        return str(done.stdout).rstrip("\n")

    return execute


PYTHON = "/usr/bin/python3"  # the host's, which a sandbox has
# What an attack begins with. `call` makes a system call by its name and returns "ok" or the errno.
ATTACK = """
import ctypes, errno, json, os, signal, sys
numbers = json.loads(sys.argv.pop(1))
libc = ctypes.CDLL(None, use_errno=True)
result = None

def call(name, *arguments):
    global result
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    number = numbers[name] if isinstance(name, str) else name
    result = libc.syscall(ctypes.c_long(number), *arguments)
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def attempt(action, *arguments, **options):
    try:
        action(*arguments, **options)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"

"""

Attack = Callable[..., str]


@pytest.fixture
def hostile() -> Callable[..., list[str]]:
    """Return the command that runs a hostile program."""
    if not os.path.exists(PYTHON):
        pytest.skip(f"{PYTHON} is not there: the attacks are written in it")
    known = json.dumps(numbers(os.uname().machine))
    return lambda code, *args: [PYTHON, "-c", ATTACK + code, known, *map(str, args)]


@pytest.fixture
def attack(hostile: Callable[..., list[str]]) -> Attack:
    """Run a hostile program in a container (None: in no container); return the words it says."""

    def execute(container: Container | None, code: str, *args: object, **options: Any) -> str:
        box = container or Container(namespaces=Namespace(0))
        usual: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 50, "cwd": "/"}
        done = run(box, hostile(code, *args), **(usual | options))
        assert (done.returncode, done.stderr) == (0, "")
        return " ".join(done.stdout.split())

    return execute


@pytest.fixture
def sandbox() -> Callable[..., Container]:
    """Describe a sandbox, without the cgroups that an ordinary user may not have."""

    def make(*args: Any, **fields: Any) -> Container:
        return Container.sandbox(*args, **{"limits": None, **fields})

    return make


@pytest.fixture
def rooted() -> Callable[..., Container]:
    """Describe a container whose program is root in it, of a user namespace if need be."""

    def make(**fields: Any) -> Container:
        if os.geteuid() != 0:
            fields["namespaces"] = fields.get("namespaces", Container().namespaces) | Namespace.USER
            fields |= {"uid_map": IdMap.current("uid", 0), "gid_map": IdMap.current("gid", 0)}
        return Container(**fields)

    return make


@pytest.fixture
def end_dropped() -> Callable[[], None]:
    """Return a function: end each Process that came to be, and was dropped on its way to us."""

    def end() -> None:
        gc.collect()
        for dropped in list(subprocess._active):  # type: ignore[attr-defined]  # it keeps those
            dropped.kill()
            dropped.wait()
        subprocess._cleanup()  # type: ignore[attr-defined]

    return end


@pytest.fixture(scope="session")
def _veth_refused() -> str | None:
    from pyroute2 import IPRoute, NetlinkError

    name = f"t{os.getpid()}p"
    try:
        with IPRoute() as route:
            route.link("add", kind="veth", ifname=name, peer={"ifname": f"{name}q"})
            route.link("del", ifname=name)
    except NetlinkError as error:
        return str(error)
    return None


@pytest.fixture
def veth(_veth_refused: str | None) -> None:
    """Skip where a veth pair can't be added."""
    if _veth_refused:
        pytest.skip(f"RTM_NEWLINK of a veth: {_veth_refused}")


@pytest.fixture
def tun() -> None:
    """Skip where this user may not have a tap device."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"open /dev/net/tun: {error}")


@pytest.fixture
def pasta() -> str:
    """Skip where pasta is not installed."""
    if shutil.which("pasta") is None:
        pytest.skip("there is no pasta in PATH")
    return "pasta"


@pytest.fixture
def host_address() -> str:
    """Return an address of this host that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))  # sends nothing
        except OSError as error:
            pytest.skip(f"this host has no default route: {error}")
        return str(probe.getsockname()[0])


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a directory on a block device; tmpfs and overlays have a major number of 0."""
    for place in (Path("/mnt/disk"), tmp_path):
        if place.is_dir() and os.access(place, os.W_OK) and os.major(place.stat().st_dev):
            return place
    pytest.skip(f"{tmp_path} and /mnt/disk are on no block device")


@pytest.fixture(params=["group", "pid", "init"])
def limited(request: pytest.FixtureRequest) -> Callable[[Limits], Container]:
    """Describe a container with limits: a group alone, with namespaces, with an init as well."""
    request.getfixturevalue("limits")
    if request.param == "group":
        return lambda limits: Container(namespaces=Namespace(0), limits=limits)
    request.getfixturevalue("namespaces")
    return lambda limits: Container(limits=limits, init=request.param == "init")

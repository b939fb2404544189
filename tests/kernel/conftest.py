"""A container with a root of its own, in which the host's programs run."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Completed, Container, Proc, run

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

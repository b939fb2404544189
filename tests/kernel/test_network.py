"""Devices of a container: veth pairs, moved ones, and networks of user mode."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Container,
    Device,
    File,
    IdMap,
    Namespace,
    SpawnError,
    Tmpfs,
    UserNetwork,
    Veth,
    clone_into,
    run,
)

pytestmark = pytest.mark.usefixtures("namespaces")

# of the range for benchmarks (RFC 2544), different ones in runs at the same time
NET = f"198.18.{os.getpid() % 250}"
OUTER, INNER = f"{NET}.1", f"{NET}.2"
PREFIX = f"t{os.getpid()}"  # of the names of our devices
NETWORK = Container().namespaces

# what it finds when it is the first thing that runs; it talks to each address
LOOK = """
import socket, sys
for _, name in socket.if_nameindex(): print("device", name)
port, timeout, *addresses = sys.argv[1:]
for address in addresses:
    try:
        with socket.create_connection((address, int(port)), int(timeout)) as connection:
            print(address, connection.recv(100).decode())
    except OSError as error:
        print(address, type(error).__name__)
"""


def look(box: Container, port: int = 1, *addresses: str, timeout: int = 20) -> list[str]:
    """Return what the first program of the container sees."""
    command = [sys.executable, "-IS", "-c", LOOK, str(port), str(timeout), *addresses]
    done = run(box, command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout).splitlines()


def devices() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def ours() -> set[str]:
    return {name for name in devices() if name.startswith(PREFIX)}


@pytest.fixture(autouse=True)
def no_device_is_left() -> Iterator[None]:
    """Fail a test that leaves a device behind: here at once, not a moment later."""
    yield
    assert ours() == set()


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Add a pair outside, of which a test may give one away."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as route:
        names = f"{PREFIX}a", f"{PREFIX}b"
        route.link("add", kind="veth", ifname=names[0], peer={"ifname": names[1]})
        index = route.link_lookup(ifname=names[0])[0]
        route.addr("add", index=index, address=OUTER, prefixlen=24)
        route.link("set", index=index, state="up")
        yield names
        with suppress(NetlinkError):  # a test has removed it
            route.link("del", index=index)


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Have a server that says "hello" to whoever connects; return its port."""
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(address: str) -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, 0), family=family)
        sockets.append(listener)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hello")

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    for listener in sockets:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


def failure(box: Container, args: tuple[str, ...] = ("true",)) -> SpawnError:
    with pytest.raises(SpawnError) as caught:
        clone_into(box, args)
    assert caught.value.step.kind == "wait_for_parent"
    assert caught.value.__cause__ is not None
    return caught.value


@pytest.mark.usefixtures("root_only", "veth")
class TestVeth:
    def test_is_up_before_the_first_instruction(self, serve: Callable[..., int]) -> None:
        four, six = f"198.19.{os.getpid() % 250}.1", f"fd00:{os.getpid() % 65536:x}:"
        box = Container(
            network=[
                Veth(
                    addresses=[f"{INNER}/24", f"{six}:2/64"],
                    gateway=[OUTER, f"{six}:1"],
                    outside_name=f"{PREFIX}a",
                    outside_addresses=[
                        f"{OUTER}/24",
                        f"{four}/32",
                        f"{six}:1/64",
                        f"{six}1::1/128",
                    ],
                )
            ]
        )
        # at addresses that only the default routes lead to
        assert look(box, serve("0.0.0.0"), OUTER, four) == [
            *("device lo", "device eth0", f"{OUTER} hello", f"{four} hello"),
        ]
        assert look(box, serve("::"), f"{six}:1", f"{six}1::1")[2:] == [
            *(f"{six}:1 hello", f"{six}1::1 hello"),
        ]

    def test_goes_with_the_container(self) -> None:
        box = Container(network=[Veth(outside_name=f"{PREFIX}a")])
        with clone_into(box, ["cat"], stdin=subprocess.PIPE) as process:
            assert ours() == {f"{PREFIX}a"}
            assert process.poll() is None
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
            assert ours() == set()

    def test_gets_a_name_outside_from_the_kernel(self) -> None:
        before = devices()
        with clone_into(Container(network=[Veth("a"), Veth("b")]), ["sleep", "60"]) as process:
            assert len({name for name in devices() - before if name.startswith("veth")}) >= 2
            process.kill()

    def test_has_its_mtu_at_both_ends(self) -> None:
        from pyroute2 import IPRoute

        box = Container(network=[Veth("x", outside_name=f"{PREFIX}a", mtu=1280)])
        read = "import fcntl,socket,struct;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);"
        read += "print(struct.unpack('16si',fcntl.ioctl(s,0x8921,struct.pack('16si',b'x',0)))[1])"
        with clone_into(
            box, [sys.executable, "-c", f"{read};input()"], stdin=-1, stdout=-1, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "1280\n"
            with IPRoute() as route:
                assert [each.get("mtu") for each in route.get_links(ifname=f"{PREFIX}a")] == [1280]
            process.kill()

    def test_belongs_to_a_bridge(self, serve: Callable[..., int]) -> None:
        from pyroute2 import IPRoute

        bridge = f"{PREFIX}br"
        with IPRoute() as route:
            route.link("add", kind="bridge", ifname=bridge)
            index = route.link_lookup(ifname=bridge)[0]
            try:
                route.addr("add", index=index, address=OUTER, prefixlen=24)
                route.link("set", index=index, state="up")
                box = Container(network=[Veth(addresses=f"{INNER}/24", bridge=bridge)])
                assert look(box, serve(OUTER), OUTER)[2:] == [f"{OUTER} hello"]
            finally:
                route.link("del", index=index)

    def test_in_a_user_namespace_with_other_ids(self, serve: Callable[..., int]) -> None:
        # the parent maps them after it has added the pair: the child waits twice
        box = Container(
            namespaces=NETWORK | Namespace.USER,
            uid_map=[IdMap(0, 100_000, 65_536)],
            gid_map=[IdMap(0, 100_000, 65_536)],
            network=[
                Veth(addresses=f"{INNER}/24", outside_addresses=f"{OUTER}/24"),
                Veth("eth1", outside_name=f"{PREFIX}b"),
            ],
        )
        said = run(
            box,
            ["/usr/bin/python3", "-IS", "-c", LOOK, str(serve("0.0.0.0")), "20", OUTER],
            stdout=-1,
            text=True,
            cwd="/",
        ).stdout
        assert said.split("\n")[:4] == ["device lo", "device eth0", "device eth1", f"{OUTER} hello"]

    @pytest.mark.parametrize(
        ("fields", "error", "said"),
        [
            ({"gateway": "203.0.113.1"}, errno.ENETUNREACH, "A gateway lies in the network"),
            ({"bridge": f"{PREFIX}none"}, errno.ENODEV, f"There is no device '{PREFIX}none'"),
            ({"outside_name": "lo"}, errno.EEXIST, "The kernel refused to add the pair"),
            (
                {"outside_addresses": [f"{OUTER}/24"] * 2},
                errno.EEXIST,
                f"The kernel refused to give it the address {OUTER}/24",
            ),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
    )
    def test_that_the_kernel_refuses_fails_the_step(
        self, fields: dict[str, Any], error: int, said: str
    ) -> None:
        given: dict[str, Any] = {"outside_name": f"{PREFIX}a", **fields}
        refused = failure(Container(network=[Veth(addresses=f"{INNER}/24", **given)]))
        assert (refused.errno, type(refused.step).__name__) == (error, "AddVeth")
        assert said in (refused.hint or "")
        assert ours() == set()  # not only at the end of the test

    @pytest.mark.parametrize(
        ("fields", "args", "error"),
        [
            ({}, ["/does/not/exist"], FileNotFoundError),
            ({"root": "/does/not/exist"}, ["true"], SpawnError),
            ({"network": [Veth(outside_name=f"{PREFIX}a"), Device("none")]}, ["true"], SpawnError),
            ({"init": True}, ["/does/not/exist"], FileNotFoundError),
        ],
        ids=["program", "later step", "later device", "init"],
    )
    def test_goes_at_once_when_the_container_fails(
        self, fields: dict[str, Any], args: list[str], error: type[OSError]
    ) -> None:
        box = Container(**{"network": [Veth(outside_name=f"{PREFIX}a")], **fields})
        with pytest.raises(error):
            clone_into(box, args)
        assert ours() == set()

    def test_may_be_removed_by_others(self) -> None:
        from pyroute2 import IPRoute

        box = Container(network=[Veth(outside_name=f"{PREFIX}a")])
        with clone_into(box, ["sleep", "60"]) as process, IPRoute() as route:
            route.link("del", ifname=f"{PREFIX}a")
            process.kill()

    def test_goes_with_a_caller_that_is_killed(self) -> None:
        script = (
            "from pyns import *\n"
            f"network = [Veth(outside_name={PREFIX + 'a'!r})]\n"
            "box = Container(network=network, die_with_parent=True)\n"
            "clone_into(box, ['sleep', '60'])\n"
            "print('up', flush=True); input()"
        )
        with subprocess.Popen([sys.executable, "-P", "-c", script], stdin=-1, stdout=-1) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"up\n"
            assert ours() == {f"{PREFIX}a"}
            caller.kill()
        deadline = time.monotonic() + 20
        while ours() and time.monotonic() < deadline:  # the kernel takes its time
            time.sleep(0.01)
        assert ours() == set()

    def test_from_four_threads_at_once(self) -> None:
        def work(number: int) -> None:
            for _ in range(5):
                box = Container(network=[Veth(outside_name=f"{PREFIX}{number}")])
                assert run(box, ["true"]).returncode == 0

        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_leaves_the_thread_where_it_was(self) -> None:
        before = os.readlink("/proc/thread-self/ns/net")
        assert run(Container(network=[Veth()]), ["true"]).returncode == 0
        assert os.readlink("/proc/thread-self/ns/net") == before


class TestExtra:
    @pytest.mark.usefixtures("ordinary")
    @pytest.mark.parametrize("network", [Veth(), Device("lo", name="eth0")], ids=["veth", "device"])
    def test_is_refused_to_others_who_are_told_what_needs_no_privilege(
        self, network: Veth | Device
    ) -> None:
        error = failure(Container(network=[network]))
        assert error.errno == errno.EPERM
        assert "UserNetwork needs no privilege" in (error.hint or "")

    def test_that_is_missing_is_said_before_anything_starts(self) -> None:
        script = (
            "import sys; sys.modules['pyroute2'] = None\n"
            "from pyns import *\n"
            "box = Container(network=[Veth()]); box.plan(['true'])\n"
            "try: run(box, ['true'])\n"
            "except ImportError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", script], stdout=-1, text=True, check=True, timeout=50
        )
        assert "pip install 'pyns-linux[net]'" in done.stdout

    def test_is_not_imported_without_need(self) -> None:
        script = (
            "import sys; from pyns import *\n"
            "run(Container(), ['true']); Container(network=[Veth()]).plan(['true'])\n"
            "print('pyroute2' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", script], stdout=-1, text=True, check=True, timeout=50
        )
        assert done.stdout == "False\n"


@pytest.mark.usefixtures("root_only", "veth")
class TestDevice:
    def test_is_moved_and_given_back(
        self, pair: tuple[str, str], serve: Callable[..., int]
    ) -> None:
        box = Container(
            network=[Device(pair[1], name="eth0", addresses=f"{INNER}/24", gateway=OUTER)]
        )
        said = look(box, serve(OUTER), OUTER)
        assert said == ["device lo", "device eth0", f"{OUTER} hello"]
        assert ours() == set(pair)

    def test_is_away_meanwhile(self, pair: tuple[str, str]) -> None:
        with clone_into(Container(network=[Device(pair[1])]), ["sleep", "60"]) as process:
            assert ours() == {pair[0]}
            process.kill()
        assert ours() == set(pair)

    @pytest.mark.parametrize(
        ("fields", "error"),
        [({}, FileNotFoundError), ({"gateway": "203.0.113.1"}, SpawnError)],
        ids=["program", "its own step"],
    )
    def test_is_given_back_when_the_container_fails(
        self, pair: tuple[str, str], fields: dict[str, str], error: type[OSError]
    ) -> None:
        with pytest.raises(error):
            clone_into(Container(network=[Device(pair[1], "eth0", **fields)]), ["/none"])
        assert ours() == set(pair)

    def test_is_given_back_under_another_name_if_its_own_is_taken(
        self, pair: tuple[str, str]
    ) -> None:
        from pyroute2 import IPRoute

        before = devices()
        box = Container(network=[Device(pair[1])])
        with clone_into(box, ["sleep", "60"]) as process, IPRoute() as route:
            index = route.link_lookup(ifname=pair[0])[0]
            route.link("set", index=index, state="down")  # before Linux 6.2 only then it is renamed
            route.link("set", index=index, ifname=pair[1])
            process.kill()
            process.wait()
            [other] = devices() - before
            assert other.startswith("dev")

    def test_may_be_removed_inside(self, pair: tuple[str, str]) -> None:
        from pyroute2 import IPRoute

        box = Container(network=[Device(pair[1])])
        with clone_into(box, ["sleep", "60"]) as process, IPRoute() as route:
            route.link("del", ifname=pair[0])  # its other end goes with it
            process.kill()
            process.wait()

    def test_that_is_not_there(self) -> None:
        error = failure(Container(network=[Device(f"{PREFIX}none")]))
        assert (error.errno, error.hint) == (errno.ENODEV, f"There is no device '{PREFIX}none'")

    def test_that_can_not_be_moved(self) -> None:
        error = failure(Container(network=[Device("lo", name="eth0")]))
        assert error.errno == errno.EINVAL
        assert "Neither lo nor a bridge can be moved" in (error.hint or "")


@pytest.fixture(params=["pasta", "slirp4netns"])
def program(request: pytest.FixtureRequest) -> str:
    """Return the name of a program for networks of user mode that is installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} in PATH")
    return str(request.param)


def children_of(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


@pytest.mark.usefixtures("tun", "host_address")
class TestUserNetwork:
    def test_is_ready_before_the_first_instruction(
        self, program: str, host_address: str, serve: Callable[..., int]
    ) -> None:
        said = look(
            Container(network=[UserNetwork(program=program)]), serve(host_address), host_address
        )
        assert said == ["device lo", "device eth0", f"{host_address} hello"]

    def test_reaches_the_hosts_loopback_only_when_asked(
        self, program: str, serve: Callable[..., int]
    ) -> None:
        port = serve("127.0.0.1")
        for asked in (True, False):
            network = UserNetwork("tap0", program=program, host_loopback=asked)
            box, timeout = Container(network=[network]), 20 if asked else 1
            said = look(box, port, "127.0.0.1", network.gateway, timeout=timeout)
            assert said[:3] == ["device lo", "device tap0", "127.0.0.1 ConnectionRefusedError"]
            assert (said[3] == f"{network.gateway} hello") == asked

    def test_is_a_process_that_has_nothing_of_the_callers_and_ends(
        self, program: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LD_PRELOAD", "/does/not/exist.so")
        kept = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(kept, True)
        before = children_of(os.getpid())
        box = Container(network=[UserNetwork(program=program)])
        try:
            with clone_into(box, ["sleep", "60"], env={}) as process:
                helpers = children_of(os.getpid()) - before - {process.pid}
                assert len(helpers) == 2
                for pid in helpers:
                    assert os.getsid(pid) != os.getsid(0)
                    status = Path(f"/proc/{pid}/status").read_text()
                    assert "\nSigBlk:\t0000000000000000\n" in status
                    if os.geteuid() == 0:  # they are not dumpable
                        fds = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
                        assert "/etc/passwd" not in fds
                        assert b"LD_PRELOAD" not in Path(f"/proc/{pid}/environ").read_bytes()
                process.kill()
            assert not children_of(os.getpid()) & helpers
        finally:
            os.close(kept)

    @pytest.mark.parametrize("init", [False, True])
    def test_ends_when_the_container_fails(self, program: str, init: bool) -> None:
        before = children_of(os.getpid())
        with pytest.raises(FileNotFoundError):
            clone_into(Container(network=[UserNetwork(program=program)], init=init), ["/none"])
        assert children_of(os.getpid()) <= before

    def test_ends_with_a_caller_that_is_killed(self, program: str) -> None:
        script = (
            "from pyns import *\n"
            f"box = Container(network=[UserNetwork(program={program!r})], die_with_parent=True)\n"
            "clone_into(box, ['sleep', '60'])\n"
            "print('up', flush=True); input()"
        )
        with subprocess.Popen([sys.executable, "-P", "-c", script], stdin=-1, stdout=-1) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"up\n"
            pidfds = [os.pidfd_open(pid) for pid in children_of(caller.pid)]
            assert len(pidfds) == 3
            caller.kill()
        poll = select.poll()
        for pidfd in pidfds:
            poll.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + 20
        while pidfds and time.monotonic() < deadline:
            for pidfd, _ in poll.poll(20_000):
                poll.unregister(pidfd)
                os.close(pidfd)
                pidfds.remove(pidfd)
        assert pidfds == []

    def test_forwards_ports(self, pasta: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        answer = (
            "import socket, sys; port = int(sys.argv[1])\n"
            "tcp = socket.create_server(('0.0.0.0', 8080))\n"
            "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('0.0.0.0', port))\n"
            "print('up', flush=True)\n"
            "tcp.accept()[0].sendall(b'from inside')\n"
            "data, address = udp.recvfrom(100); udp.sendto(data * 2, address)"
        )
        network = UserNetwork(program=pasta, tcp_ports={port: 8080}, udp_ports={port: port})
        box = Container(network=[network])
        with clone_into(box, [sys.executable, "-ISc", answer, str(port)], stdout=-1) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                assert connection.recv(100) == b"from inside"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(20)
                asking.sendto(b"twice", ("127.0.0.1", port))
                assert asking.recv(100) == b"twicetwice"

    def test_that_can_not_be_fails_the_step_with_what_the_program_says(
        self, pasta: str, serve: Callable[..., int]
    ) -> None:
        port = serve("127.0.0.1")
        error = failure(Container(network=[UserNetwork(program=pasta, tcp_ports={port: 80})]))
        assert error.errno == errno.ENETDOWN
        assert "pasta said: " in (error.hint or "")
        assert str(port) in (error.hint or "")

    def test_has_a_resolv_conf(self, program: str, shell: Callable[..., str]) -> None:
        network = UserNetwork(program=program, network="198.19.0.0/16")
        box = Container(
            network=[network],
            mounts=[Tmpfs("/mnt"), File("/mnt/resolv.conf", network.resolv_conf)],
        )
        assert shell(box, "cat /mnt/resolv.conf", cwd="/") == "nameserver 198.19.0.3"

    @pytest.mark.usefixtures("root_only", "veth")
    def test_beside_another_device(self, program: str) -> None:
        box = Container(network=[UserNetwork(program=program), Veth("eth1")])
        assert look(box) == ["device lo", "device eth0", "device eth1"]

    def test_with_other_ids(self, program: str) -> None:
        box = Container(
            namespaces=NETWORK | Namespace.USER,
            uid_map=IdMap.current("uid", 0),
            gid_map=IdMap.current("gid", 0),
            network=[UserNetwork(program=program)],
        )
        assert look(box) == ["device lo", "device eth0"]

    def test_of_a_sandbox(self, program: str, host_address: str, serve: Callable[..., int]) -> None:
        network = UserNetwork(program=program)
        box = Container.sandbox(limits=None, network=[network])
        port = serve(host_address)
        command = ["/usr/bin/python3", "-IS", "-c", LOOK, str(port), "20", host_address]
        done = run(box, command, capture_output=True, text=True, cwd="/")
        assert done.stderr == ""
        assert done.stdout.splitlines() == ["device lo", "device eth0", f"{host_address} hello"]


class InterruptionError(Exception):
    """What a signal handler raises."""


@pytest.mark.usefixtures("tun", "host_address")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_is_left_when_a_signal_handler_raises(
    program: str, end_dropped: Callable[[], None]
) -> None:
    def handler(*_: object) -> None:
        raise InterruptionError

    network: list[Any] = [UserNetwork(program=program)]
    if os.geteuid() == 0:
        network.append(Veth("eth1", outside_name=f"{PREFIX}a"))
    old = signal.signal(signal.SIGALRM, handler)
    struck = 0
    try:
        for turn in range(30):
            process = None
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + turn * 0.002)
                process = clone_into(Container(network=network), ["sleep", "60"])
                signal.setitimer(signal.ITIMER_REAL, 0)
            except InterruptionError:
                struck += 1
            if process is not None:
                process.kill()
                process.wait()
            process = None
            end_dropped()
            assert ours() == set()  # the leak guard looks for the rest
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert struck


class TestProgram:
    def test_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        true = shutil.which("true")
        monkeypatch.setenv("PATH", str(tmp_path))
        error = failure(Container(network=[UserNetwork()]), (str(true),))
        assert error.errno == errno.ENOENT
        assert "The package passt has pasta" in (error.hint or "")

    def test_that_ends_at_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "pasta").write_text("#!/bin/sh\necho cannot >&2; exit 1\n")
        (tmp_path / "pasta").chmod(0o755)
        true = shutil.which("true")
        monkeypatch.setenv("PATH", str(tmp_path))
        error = failure(Container(network=[UserNetwork()]), (str(true),))
        assert error.errno == errno.ENETDOWN
        assert str(error.hint).startswith("pasta said: cannot")

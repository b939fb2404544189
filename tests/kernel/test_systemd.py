"""A delegated scope from systemd: asked for once, then plain mkdir."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from pyns import CgroupError
from pyns.cgroups import delegation, hierarchies, systemd

HEAD = (
    "import os, sys; from pyns import *; from pyns.cgroups import *\n"
    "from pyns.cgroups.systemd import delegated_scope\n"
)


def script(text: str, **environment: str) -> str:
    """Run it in a process of its own, which systemd may move; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", HEAD + text],
        stdout=-1,
        stderr=-1,
        text=True,
        timeout=50,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def manager() -> None:
    """Skip where systemd gives no scope."""
    if not os.path.isdir(delegation.SYSTEMD):
        pytest.skip(f"no {delegation.SYSTEMD}: systemd does not run here")
    path = systemd.bus_address().removeprefix("unix:path=")
    if not os.path.exists(path.split(",")[0]):
        pytest.skip(f"no {path}: this user has no systemd, or no bus")


@pytest.mark.usefixtures("manager")
class TestScope:
    def test_is_the_callers_own_and_has_limited_groups_below(self) -> None:
        if hierarchies()[0].version == 1 and os.geteuid() != 0:
            pytest.skip("there are v1 hierarchies, of which systemd delegates none")
        said = script(
            "scope = delegated_scope()\n"
            "fds = sorted(os.listdir('/proc/self/fd'))\n"
            "limits = Limits(memory_max='100M', pids_max=9, cpu_max=1)\n"
            "with Cgroup.create(limits=limits, parent=scope) as group:\n"
            "    box = Container(namespaces=Namespace(0), cgroup=group)\n"
            "    inside = run(box, ['cat', '/proc/self/cgroup'], stdout=-1, text=True).stdout\n"
            "print(scope.paths[-1], group.paths, *current().values(), inside, sep='\\n')"
        )
        scope, _, *rest = said.splitlines()
        assert scope.endswith(".scope")
        unit = os.path.basename(scope)
        assert any(line.endswith(f"{unit}/main") for line in rest)
        assert any(line.startswith("0::") and f"{unit}/" in line for line in rest)

    def test_is_the_default_parent_of_an_ordinary_user(self) -> None:
        if os.geteuid() == 0 or hierarchies()[0].version == 1:
            pytest.skip("root's default parent is at the top; v1 is not delegated")
        said = script(
            "scope = delegated_scope()\n"
            "with Cgroup.create(limits=Limits(pids_max=9)) as group:\n"
            "    print(os.path.dirname(group.paths[0]) == scope.paths[0])"
        )
        assert said == "True\n"

    def test_goes_with_its_last_process(self) -> None:
        path = script("print(delegated_scope().paths[-1])").strip()
        end = time.monotonic() + 20
        while os.path.exists(path) and time.monotonic() < end:
            time.sleep(0.05)
        assert not os.path.exists(path)

    def test_has_the_name_and_description_that_it_is_given(self) -> None:
        user = [] if os.geteuid() == 0 else ["--user"]
        said = script(
            "import subprocess\n"
            "delegated_scope('pyns-test', description='a test')\n"
            f"subprocess.run(['systemctl', *{user}, 'show', 'pyns-test.scope', '-p', 'Delegate', "
            "'-p', 'Description', '-p', 'CollectMode'])\n"
            "try: delegated_scope('pyns-test.scope')\n"
            "except CgroupError as error: print(error.errno)"
        )
        assert sorted(said.splitlines()) == sorted(
            [
                "Delegate=yes",
                "Description=a test",
                "CollectMode=inactive-or-failed",
                str(errno.EEXIST),
            ]
        )

    def test_leaves_no_fd_and_no_thread(self) -> None:
        said = script(
            "def look(): return [os.listdir('/proc/self/' + d) for d in ('fd', 'task')]\n"
            "before = look(); delegated_scope().close(); print(look() == before)"
        )
        assert said == "True\n"

    def test_without_a_bus_says_how_to_have_one(self) -> None:
        where = "DBUS_SYSTEM_BUS_ADDRESS" if os.geteuid() == 0 else "DBUS_SESSION_BUS_ADDRESS"
        said = script(
            "try: delegated_scope()\nexcept CgroupError as error: print(error)",
            **{where: "unix:path=/does/not/exist"},
        )
        assert "No such file or directory (ENOENT). No bus is there" in said
        assert ("loginctl enable-linger" in said) == (os.geteuid() != 0)

    @pytest.mark.usefixtures("ordinary")
    def test_of_the_system_is_refused_to_an_ordinary_user(self) -> None:
        said = script(
            "try: delegated_scope()\nexcept CgroupError as error: print(error)",
            DBUS_SESSION_BUS_ADDRESS="unix:path=/run/dbus/system_bus_socket",
        )
        assert "Permission denied (EACCES). It says: " in said


def test_says_which_extra_is_missing() -> None:
    said = script(
        "sys.modules['jeepney'] = None\n"
        "try: delegated_scope()\n"
        "except ImportError as error: print(error)"
    )
    assert "pip install 'pyns-linux[systemd]'" in said


def test_extra_is_imported_only_when_it_is_used() -> None:
    assert script("print('jeepney' in sys.modules)") == "False\n"


def test_without_systemd_says_so() -> None:
    if os.path.isdir(delegation.SYSTEMD):
        pytest.skip(f"{delegation.SYSTEMD}: it runs here")
    with pytest.raises(CgroupError, match="It does not run here: there is no /run/sys") as caught:
        systemd.delegated_scope()
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("name", ["a/b", "a b", "ä", "x" * 250, "a@b", "a\n"])
def test_name_that_no_unit_has_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name="):
        systemd.delegated_scope(name)


def start(address: str, timeout: float = 20) -> CgroupError:
    with pytest.raises(CgroupError) as caught:
        systemd.start_scope("pyns-test.scope", "", address, timeout)
    return caught.value


class TestBus:
    def test_that_does_not_answer(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "bus"))
            listener.listen()
            assert start(f"unix:path={tmp_path}/bus", 0.2).errno == errno.ETIMEDOUT

    def test_that_nobody_listens_on(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "bus"))
        error = start(f"unix:path={tmp_path}/bus")
        assert error.errno == errno.ECONNREFUSED
        assert "No bus is there" in (error.hint or "")

    @pytest.mark.parametrize("address", ["tcp:host=localhost,port=1", "nonsense", ""])
    def test_of_another_kind(self, address: str) -> None:
        assert start(address).errno == errno.EHOSTUNREACH

    def test_without_systemd_on_it(self, bus: str) -> None:
        error = start(bus)
        assert error.errno == errno.EHOSTUNREACH
        assert "systemd is not on that bus" in (error.hint or "")

    def test_result_of_the_job_is_told(self, bus: str) -> None:
        with Manager(bus, "failed") as manager:
            error = start(bus)
        assert error.errno == errno.ECANCELED
        assert "The job ended with 'failed'; journalctl " in (error.hint or "")
        name, mode, properties, _ = manager.asked
        assert (name, mode) == ("pyns-test.scope", "fail")
        assert ("Delegate", ("b", True)) in properties

    def test_end_of_the_job_is_waited_for(self, bus: str) -> None:
        with Manager(bus, None):
            assert start(bus, 0.5).errno == errno.ETIMEDOUT


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """Start a bus of our own, without systemd on it."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    address = f"unix:path={tmp_path}/bus"
    command = ["dbus-daemon", "--session", "--nofork", f"--address={address}", "--print-address=1"]
    with subprocess.Popen(command, stdout=-1, stderr=-3) as daemon:
        assert daemon.stdout is not None
        if not daemon.stdout.readline():
            pytest.skip(f"{' '.join(command)} ends at once")
        yield address
        daemon.terminate()


class Manager:
    """What answers in systemd's place, to say what the real one is hard to be brought to."""

    def __init__(self, address: str, result: str | None) -> None:
        from jeepney import DBusAddress, message_bus, new_signal
        from jeepney.io.blocking import Proxy, open_dbus_connection

        self.connection = open_dbus_connection(address)
        Proxy(message_bus, self.connection).RequestName("org.freedesktop.systemd1")
        where = DBusAddress(
            "/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager"
        )
        # of another's job first, then of ours, before the answer: all three have to be told apart
        self.signals = [
            new_signal(where, "JobRemoved", "uoss", (n, f"/job/{n}", "x.scope", said))
            for n, said in ((1, "done"), (2, result))
            if said is not None
        ]
        self.asked: Any = None
        self.thread = threading.Thread(target=self._answer)

    def _answer(self) -> None:
        from jeepney import MessageType, new_method_return

        messages: deque[Any] = deque()
        while not messages:
            message = self.connection.receive(timeout=20)
            if message.header.message_type is MessageType.method_call:
                messages.append(message)
        self.asked = messages[0].body
        for signal in self.signals:
            self.connection.send(signal)
        self.connection.send(new_method_return(messages[0], "o", ("/job/2",)))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.thread.join()
        self.connection.close()

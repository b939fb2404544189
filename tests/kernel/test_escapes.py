"""Ways out through files, processes and terminals, tried in the sandbox and without its walls."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pyns import (
    Bind,
    CgroupFs,
    Container,
    Dev,
    Devpts,
    Dir,
    File,
    IdMap,
    Mqueue,
    Namespace,
    Overlay,
    Proc,
    SpawnError,
    Symlink,
    Sysfs,
    Tmpfs,
    clone_into,
    marshal,
    run,
)
from pyns.cgroups import hierarchies
from pyns.plan import Plan
from pyns.signals import signals_blocked
from pyns.steps import CloneAgain, EnterCgroup, HideMemory, SetNamespaces

pytestmark = pytest.mark.usefixtures("namespaces")

Attack = Callable[..., str]
Box = Callable[..., Container]
Hostile = Callable[..., list[str]]

WITHOUT_PID = ~Namespace.TIME & ~Namespace.PID
WITHOUT_NET = ~Namespace.TIME & ~Namespace.NET


def everybody(path: Path) -> Path:
    """Let all users look below a directory that pytest has made for one."""
    for each in (path, path.parent, path.parent.parent):
        if each.stat().st_uid == os.geteuid():
            each.chmod(each.stat().st_mode | 0o755)
    return path


class TestProgramsOfTheHost:
    """What is executed is written to afterwards (CVE-2019-5736)."""

    CODE = """
import subprocess
program = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
program.stdin.write(b'x')
program.stdout.read(1)  # before it has answered, exe may be what it was before its execve
fd = os.open(f'/proc/{program.pid}/exe', os.O_RDONLY)
program.communicate()
print(attempt(open, f'/proc/self/fd/{fd}', 'wb'), attempt(open, sys.argv[1], 'wb'))
"""

    @pytest.mark.parametrize("read_only", [True, False])
    def test_are_overwritten_only_where_they_are_bound_writable(
        self, attack: Attack, sandbox: Box, tmp_path: Path, read_only: bool
    ) -> None:
        program = Path(shutil.copy("/bin/cat", everybody(tmp_path)))
        program.chmod(0o777)
        box = sandbox(mounts=[Bind(tmp_path, "/job", read_only=read_only)])
        said = attack(box, self.CODE, "/job/cat")
        assert said == ("EROFS EROFS" if read_only else "ok ok")
        assert (program.stat().st_size > 0) == read_only

    def test_are_not_the_init(self, attack: Attack, sandbox: Box) -> None:
        code = (
            "names = 'exe', 'environ', 'mem', 'maps', 'auxv', 'syscall', 'stack'\n"
            "links = 'root', 'cwd', 'exe'\n"
            "print(*(attempt(open, f'/proc/1/{name}', 'rb') for name in names))\n"
            "print(*(attempt(os.readlink, f'/proc/1/{name}') for name in links))\n"
            "print(attempt(os.listdir, '/proc/1/fd'), attempt(open, '/proc/1/mem', 'r+b'))\n"
        )
        said = attack(sandbox(), code).split()
        assert set(said) == {"EACCES"}
        # PID 1 is the program itself
        without = attack(sandbox(init=False), code).split()
        assert without.count("ok") >= len(said) - 1  # stack takes CAP_SYS_ADMIN

    CALLS = """
pid = int(sys.argv[1])
buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
print(call('ptrace', 16, pid, 0, 0),  # PTRACE_ATTACH
      call('process_vm_readv', pid, vector, 1, vector, 1, 0),
      call('kcmp', os.getpid(), pid, 0, 0, 0))
fd = call('pidfd_open', pid, 0)
print(fd, call('pidfd_getfd', result, 99, 0) if fd == 'ok' else '-')
"""

    def test_calls_reach_neither_the_init_nor_what_is_outside(
        self, attack: Attack, sandbox: Box
    ) -> None:
        code = self.CALLS
        assert attack(sandbox(), code, 1) == "EPERM EPERM EPERM ok EPERM"
        assert attack(sandbox(seccomp=None), code, 1) == "EPERM EPERM EPERM ok EPERM"
        pid = os.getpid()
        assert attack(sandbox(seccomp=None), code, pid) == "ESRCH ESRCH ESRCH ESRCH -"
        # of oneself, to see that the calls are right: EPERM to trace oneself, EBADF for the fd
        code = code.replace("int(sys.argv[1])", "os.getpid()")
        assert attack(sandbox(seccomp=None), code, 0) == "EPERM ok ok ok EBADF"


class TestDescriptors:
    """What the caller has open, and where a cwd leads (CVE-2024-21626)."""

    CODE = """
fds = set(map(int, os.listdir('/proc/self/fd'))) - {0, 1, 2}
for fd in fds:
    if os.path.exists(f'/proc/self/fd/{fd}/secret'): print('found', fd)
print(len(fds))
"""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Iterator[int]:
        (everybody(tmp_path) / "secret").write_text("secret")
        fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        os.set_inheritable(fd, True)
        yield fd
        os.close(fd)

    def test_of_the_caller_are_closed(self, attack: Attack, sandbox: Box, outside: int) -> None:
        assert attack(sandbox(), self.CODE) == "1"  # its own, of the listing
        assert f"found {outside}" in attack(sandbox(), self.CODE, close_fds=False)

    def test_are_no_way_for_the_cwd(self, sandbox: Box, outside: int) -> None:
        for cwd in (f"/proc/self/fd/{outside}", f"/proc/{os.getpid()}/fd/{outside}", "/proc/1/cwd"):
            with pytest.raises(OSError, match=r"No such|Too many|denied"):
                run(sandbox(), ["true"], cwd=cwd)
        cwd = f"/proc/self/fd/{outside}"
        assert (
            run(Container(namespaces=Namespace(0)), ["test", "-e", "secret"], cwd=cwd).returncode
            == 0
        )

    def test_cwd_is_not_that_of_the_caller(
        self, attack: Attack, sandbox: Box, tmp_path: Path
    ) -> None:
        code = "print(os.getcwd(), os.path.exists('../' * 30 + sys.argv[1]))"
        before = os.getcwd()
        os.chdir(tmp_path)
        try:
            assert attack(sandbox(), code, tmp_path, cwd=None) == "/ False"
            assert attack(None, code, tmp_path, cwd=None) == f"{tmp_path} True"
        finally:
            os.chdir(before)


class TestLinksInAnImage:
    """An image is its maker's, so any place in it may be a link to somewhere of the host's."""

    KINDS: ClassVar[dict[str, Callable[[str], dict[str, Any]]]] = {
        "Bind": lambda at: {"mounts": [Bind("/usr", at, read_only=True)]},
        "Bind of a file": lambda at: {"mounts": [Bind("/bin/true", at)]},
        "Tmpfs": lambda at: {"mounts": [Tmpfs(at)]},
        "Proc": lambda at: {"mounts": [Proc(at)]},
        "Dev": lambda at: {"mounts": [Dev(at)]},
        "Devpts": lambda at: {"mounts": [Devpts(at)]},
        "Mqueue": lambda at: {"mounts": [Mqueue(at)]},
        "Sysfs": lambda at: {"mounts": [Sysfs(at)]},
        "CgroupFs": lambda at: {"mounts": [CgroupFs(at)]},
        "File": lambda at: {"mounts": [File(at, "x")]},
        "Dir": lambda at: {"mounts": [Dir(at)]},
        "Symlink": lambda at: {"mounts": [Symlink(at, "x")]},
        "Overlay": lambda at: {
            "mounts": [Overlay(at, ["/usr/share"], userxattr=os.geteuid() != 0)]
        },
        "mask": lambda at: {"masked_paths": [at]},
        "read-only path": lambda at: {"read_only_paths": [at]},
    }

    @pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
    @pytest.mark.parametrize("link", ["absolute", "relative", "the place itself"])
    def test_lead_no_mount_outside(
        self, sandbox: Box, new_root: Path, tmp_path: Path, fields: Any, link: str
    ) -> None:
        outside = tmp_path / "outside"
        (outside / "there").mkdir(parents=True)
        to = outside if link != "relative" else Path("../" * 30 + str(outside))
        (new_root / "link").symlink_to(to / "there" if link == "the place itself" else to)
        at = "/link" if link == "the place itself" else "/link/there/new"
        # whoever goes by the path is led outside
        (new_root / "link" / "control").mkdir()
        before = [(path, files) for path, _, files in os.walk(outside)]
        assert any("control" in path for path, _ in before)
        given = fields(at)
        mounts = [Bind("/usr", read_only=True), *given.pop("mounts", ())]
        try:
            run(sandbox(new_root, mounts=mounts, **given), ["/bin/true"], check=True)
        except SpawnError as error:
            assert error.step.kind in {  # noqa: PT017
                "attach", "make_directory", "make_symlink", "mask", "make_read_only",
            }  # fmt: skip
        assert [(path, files) for path, _, files in os.walk(outside)] == before
        assert str(outside) not in Path("/proc/self/mountinfo").read_text()

    def test_lead_no_cwd_outside(self, sandbox: Box, new_root: Path, tmp_path: Path) -> None:
        (new_root / "link").symlink_to(tmp_path)
        assert os.path.samefile(new_root / "link", tmp_path)
        with pytest.raises(FileNotFoundError):
            run(sandbox(new_root, mounts=[Bind("/usr", read_only=True)]), ["true"], cwd="/link")

    def test_to_magic_links_are_refused(self, sandbox: Box, new_root: Path, tmp_path: Path) -> None:
        (new_root / "link").symlink_to("/proc/self/root")
        assert os.path.samefile(f"{new_root}/link{tmp_path}", tmp_path)
        mounts = [Bind("/usr", read_only=True), Proc(), Tmpfs(f"/link{tmp_path}")]
        with pytest.raises(SpawnError) as caught:
            run(sandbox(new_root, mounts=mounts), ["true"])
        assert caught.value.step.kind == "attach"
        assert caught.value.errno in (errno.ELOOP, errno.EXDEV)


class TestPropagation:
    """The caller's mounts are shared, as systemd makes them."""

    OUTER = """
import json, subprocess, sys
from pyns import Bind, Container, IdMap, Proc, Tmpfs, run

place, commands = sys.argv[1], json.loads(sys.argv[2])

def mounted():
    return [line.split()[4] for line in open("/proc/self/mountinfo")]

before = mounted()
subprocess.run(["unshare", "--mount", "--propagation", "unchanged",
                "mount", "-t", "tmpfs", "leak", place], check=True)
print(mounted().count(place))  # what it does if propagation is not cut off
subprocess.run(["umount", place], check=True)
box = Container(mounts=[Proc(), Tmpfs(place)])
for command in commands:
    print(run(box, command, cwd="/").returncode)
own = (IdMap(1000, 0),)  # here is no other id, perhaps
box = Container.sandbox(limits=None, mounts=[Bind(place, "/mnt")], uid_map=own, gid_map=own)
run(box, ["true"], check=True)
run(Container(root="/", mounts=[Proc()]), ["true"], cwd="/", check=True)
print(mounted() == before)
"""

    def test_is_cut_off_in_both_directions(self, rooted: Box, tmp_path: Path) -> None:
        place = str(tmp_path)
        commands = [
            ["mount", "-t", "tmpfs", "leak", place],
            ["umount", "-l", place],
            ["sh", "-c", "umount -l /proc; umount -l /dev; umount -a -l; true"],
        ]
        outer = rooted(namespaces=Namespace.MOUNT, propagation="shared")
        command = [sys.executable, "-P", "-c", self.OUTER, place, json.dumps(commands)]
        done = run(outer, command, capture_output=True, text=True)
        if done.stdout.startswith("0"):
            pytest.skip("mounts of a shared mount namespace do not propagate to its parent here")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["1", "0", "0", "0", "True"]


class TestProcesses:
    """Others of the same user, outside."""

    @pytest.fixture
    def victim(self) -> Iterator[subprocess.Popen[bytes]]:
        ids: dict[str, Any] = {}
        if os.geteuid() == 0:
            ids = {"user": 65534, "group": 65534, "extra_groups": []}
        with subprocess.Popen(["sleep", "60"], **ids) as process:
            yield process
            process.kill()

    def test_get_no_signals(
        self, attack: Attack, sandbox: Box, victim: subprocess.Popen[bytes]
    ) -> None:
        code = """
child = os.fork()
if not child:
    signal.pause()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(attempt(os.kill, int(sys.argv[1]), signal.SIGTERM), attempt(os.kill, -1, signal.SIGTERM))
print(attempt(os.kill, 0, signal.SIGTERM), attempt(os.pidfd_open, int(sys.argv[1])))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        # those inside do
        assert attack(sandbox(), code, victim.pid) == "ESRCH ok ok ESRCH -15"
        assert victim.poll() is None
        # it is the same user
        same = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        control = "print(attempt(os.kill, int(sys.argv[1]), signal.SIGTERM))"
        assert attack(None, control, victim.pid, **same) == "ok"
        assert victim.wait(20) == -signal.SIGTERM

    def test_are_reached_by_no_call(
        self, attack: Attack, sandbox: Box, victim: subprocess.Popen[bytes]
    ) -> None:
        code = TestProgramsOfTheHost.CALLS
        assert attack(sandbox(seccomp=None), code, victim.pid) == "ESRCH ESRCH ESRCH ESRCH -"
        same = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        traced, read, *others = attack(None, code, victim.pid, **same).split()
        if traced == "EPERM":
            pytest.skip("ptrace of the same user's without any wall: EPERM (yama.ptrace_scope)")
        assert (traced, *others) == ("ok", "ok", "ok", "EBADF")
        assert read in ("ok", "EFAULT")  # the address is one of the reader's

    def test_get_no_signals_to_all(self, hostile: Hostile) -> None:
        """kill(-1) goes to all of the PID namespace."""
        outer = """
import json, os, subprocess, sys
from pyns import Container, IdMap, Namespace, run
ids = {"user": 65534, "group": 65534, "extra_groups": []} if sys.argv[2] == "0" else {}
own = (IdMap(1000, int(ids.get("user", 0))),)
for fields in {}, {"init": False, "namespaces": ~Namespace.TIME & ~Namespace.PID}:
    victim = subprocess.Popen(["sleep", "60"], **ids)
    box = Container.sandbox(limits=None, uid_map=own, gid_map=own, **fields)
    print(run(box, json.loads(sys.argv[1]), cwd="/", capture_output=True, text=True).stdout.strip())
    print(victim.poll() if "init" not in fields else victim.wait(20), flush=True)
    victim.kill()
    victim.wait()
"""
        command = json.dumps(hostile("print(attempt(os.kill, -1, signal.SIGTERM))"))
        kinds = Namespace.PID | Namespace.MOUNT
        ids = {}
        if os.geteuid() != 0:
            kinds |= Namespace.USER
            ids = {"uid_map": IdMap.current("uid", 0), "gid_map": IdMap.current("gid", 0)}
        box = Container(namespaces=kinds, **ids)  # type: ignore[arg-type]  # nobody else is in it
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 50, "cwd": "/"}
        done = run(box, [sys.executable, "-P", "-c", outer, command, str(os.geteuid())], **options)
        assert (done.stdout.split(), done.stderr) == (["ESRCH", "None", "ok", "-15"], "")

    def test_get_none_of_their_group(self, hostile: Hostile) -> None:
        """kill(0) goes by the group, which crosses PID namespaces."""
        outer = """
import json, os, signal, sys
from pyns import Container, run
signal.signal(signal.SIGUSR1, lambda *_: print('hit'))
for box in Container.sandbox(limits=None), Container():
    run(box, json.loads(sys.argv[1]))
    print('next', flush=True)
"""
        command = hostile("signal.signal(10, signal.SIG_IGN); os.kill(0, signal.SIGUSR1)")
        done = subprocess.run(
            [sys.executable, "-P", "-c", outer, json.dumps(command)],
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=50,
        )
        assert (done.stdout.split(), done.stderr) == (["next", "hit", "next"], "")

    @pytest.mark.usefixtures("root_only")
    def test_show_no_files_through_proc(
        self, attack: Attack, sandbox: Box, new_root: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").touch()
        code = (
            "for pid in os.listdir('/proc'):\n"
            "    for link in ('root', 'cwd', 'fd/0', 'task/1/root'):\n"
            "        try: found = os.path.exists(f'/proc/{pid}/{link}{sys.argv[1]}')\n"
            "        except OSError: continue\n"
            "        if found: print('found')\n"
        )
        assert attack(sandbox(), code, tmp_path / "secret") == ""
        usual = [Bind("/usr", read_only=True), Proc()]
        box = Container(namespaces=Namespace.MOUNT, root=new_root, mounts=usual)
        assert "found" in attack(box, code, tmp_path / "secret")

    def test_show_no_secrets(self, attack: Attack, sandbox: Box, monkeypatch: Any) -> None:
        monkeypatch.setenv("SECRET", "pyns-secret")
        code = (
            "import glob\n"
            "for path in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):\n"
            "    try: text = open(path, 'rb').read()\n"
            "    except OSError: continue\n"
            "    if b'pyns-' + b'secret' in text: print('found', path)\n"
            "print(os.environ.get('SECRET'))\n"
        )
        assert attack(sandbox(), code) == "None"
        assert "found" in attack(sandbox(env=None), code)

    def test_have_no_abstract_sockets(self, attack: Attack, sandbox: Box) -> None:
        code = (
            "import socket\n"
            "print(attempt(socket.socket(socket.AF_UNIX).connect, chr(0) + sys.argv[1]))\n"
        )
        name = f"pyns-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"\0{name}")
            server.listen()
            assert attack(sandbox(), code, name) == "ECONNREFUSED"
            assert attack(sandbox(namespaces=WITHOUT_NET), code, name) == "ok"

    def test_have_no_ports(self, attack: Attack, sandbox: Box) -> None:
        code = (
            "import socket\n"
            "print(attempt(socket.create_connection, ('127.0.0.1', int(sys.argv[1]))))\n"
            "print(attempt(socket.create_connection, ('192.0.2.1', 80), timeout=5))\n"
            "print(*(name for _, name in socket.if_nameindex()))\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert attack(sandbox(), code, port) == "ECONNREFUSED ENETUNREACH lo"
            control = code.partition("print(attempt(socket.create_connection, ('192")[0]
            assert attack(sandbox(namespaces=WITHOUT_NET), control, port) == "ok"


class TestEnd:
    """Who outlives the caller."""

    OUTER = """
import json, sys
from pyns import Container, clone_into
box = Container.sandbox(limits=None, **json.loads(sys.argv[1])) if sys.argv[1] else None
child = clone_into(box or Container(namespaces=0 * Container().namespaces), json.loads(sys.argv[2]))
print(child.pid, flush=True)
child.wait()
"""
    ORPHAN = """
libc.prctl(1, 0)  # PR_SET_PDEATHSIG, of its own
if os.fork(): signal.pause()
os.setsid()
if os.fork(): os._exit(0)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, signal.SIG_IGN)
print('orphan', flush=True)
while True: signal.pause()
"""

    def survives(self, fields: str, command: list[str]) -> bool:
        """Kill the caller once there is an orphan; whether something still holds the pipe."""
        outer = self.OUTER.replace("0 * Container().namespaces", "Namespace(0)")
        outer = outer.replace("import Container,", "import Container, Namespace,")
        with subprocess.Popen(
            [sys.executable, "-P", "-c", outer, fields, json.dumps(command)],
            stdout=subprocess.PIPE,
            text=True,
        ) as caller:
            assert caller.stdout is not None
            try:
                words = {caller.stdout.readline().strip(), caller.stdout.readline().strip()}
                assert "orphan" in words, words
                pid = int((words - {"orphan"}).pop())
                child = os.pidfd_open(pid)
            finally:
                caller.kill()
            try:
                caller.wait()
                # ignores all signals: whoever is dead soon was killed by the kernel
                ready, _, _ = select.select([caller.stdout], [], [], 0.5)
                if not ready:
                    for process in self.holders(caller.stdout.fileno()):
                        with suppress(ProcessLookupError):  # with its PID 1
                            os.kill(process, signal.SIGKILL)
                assert caller.stdout.read() == ""
                assert select.select([child], [], [], 20)[0], "the program is still there"
            finally:
                os.close(child)
        return not ready

    @staticmethod
    def holders(fd: int) -> list[int]:
        """Return the processes that have the pipe open, but for this one."""
        pipe, found = os.readlink(f"/proc/self/fd/{fd}"), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                fds = os.listdir(f"/proc/{pid}/fd")
                if pipe in [os.readlink(f"/proc/{pid}/fd/{n}") for n in fds]:
                    found.append(int(pid))
            except OSError:
                continue
        return [pid for pid in found if pid != os.getpid()]

    def test_nobody_in_a_sandbox(self, hostile: Hostile) -> None:
        assert not self.survives("{}", hostile(self.ORPHAN))

    def test_orphans_elsewhere(self, hostile: Hostile) -> None:
        assert self.survives("", hostile(self.ORPHAN))

    def test_program_that_is_pid_1_itself_can_lift_it(self, hostile: Hostile) -> None:
        # as docs/sandbox.md says: die_with_parent is PID 1's, and the program's only if it is that
        assert self.survives('{"init": false}', hostile(self.ORPHAN))

    def test_nobody_the_program(self, attack: Attack, sandbox: Box) -> None:
        # returns when nobody has the pipe of stdout any more
        code = self.ORPHAN.replace("signal.pause()\nos.setsid", "os._exit(0)\nos.setsid")
        attack(sandbox(), code, timeout=20)


class TestTerminal:
    OUTER = """
import fcntl, json, os, sys, termios
from pyns import Container, run
os.setsid()
terminal = os.open(sys.argv[1], os.O_RDWR)  # and so it is the controlling one
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
tty = {"new_session": False, "init": False}
for fields in {**tty, "seccomp": None}, tty, {"seccomp": None}, {}:
    box = Container.sandbox(limits=None, **fields)
    run(box, json.loads(sys.argv[2]), stdin=terminal, cwd="/")
"""

    def test_of_the_caller_can_not_be_typed_into(self, hostile: Hostile) -> None:
        code = (
            "import fcntl, termios\n"
            "print(attempt(open, '/dev/tty'), attempt(fcntl.ioctl, 0, termios.TIOCSTI, b'x'),"
            " attempt(fcntl.ioctl, 0, 0x541C, bytes(8)))\n"
        )
        main, side = os.openpty()
        try:
            os.fchmod(side, 0o666)
            command = [sys.executable, "-P", "-c", self.OUTER, os.ttyname(side)]
            done = subprocess.run(
                [*command, json.dumps(hostile(code))], capture_output=True, text=True, timeout=50
            )
        finally:
            os.close(main)
            os.close(side)
        assert done.stderr == ""
        nothing, filtered, session, both = (line.split() for line in done.stdout.splitlines())
        assert both == ["ENXIO", "EPERM", "EPERM"]
        assert filtered == ["ok", "EPERM", "EPERM"]
        # without the capability the kernel types into the controlling terminal only, or into none
        assert session[:2] == ["ENXIO", "EIO" if nothing[1] == "EIO" else "EPERM"]
        assert nothing[0] == "ok"
        if nothing[1] == "EIO":
            pytest.skip("TIOCSTI without any wall: EIO, as dev.tty.legacy_tiocsti is 0")
        assert nothing[1] == "ok"


class TestKernelFiles:
    PLACES = (
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/user/max_user_namespaces",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
    )
    CODE = "for path in sys.argv[1:]: print(attempt(os.open, path, os.O_WRONLY))"

    def test_can_not_be_written(self, attack: Attack, sandbox: Box) -> None:
        said = attack(sandbox(), self.CODE, *self.PLACES).split()
        assert set(said) <= {"EACCES", "EROFS", "ENOENT", "EPERM"}
        # no /sys at all
        assert set(said[-3:]) == {"ENOENT"}

    @pytest.mark.usefixtures("root_only")
    def test_can_be_by_root(self, attack: Attack) -> None:
        assert attack(Container(), self.CODE, *self.PLACES).split().count("ok") >= 6

    def test_of_its_own_network_are_read_only_even_for_their_owner(
        self, attack: Attack, sandbox: Box, rooted: Box
    ) -> None:
        place = "/proc/sys/net/ipv4/ip_forward"
        assert attack(sandbox(), self.CODE, place) in ("EACCES", "EROFS")
        assert attack(rooted(read_only_paths=["/proc/sys"]), self.CODE, place) == "EROFS"
        assert attack(rooted(), self.CODE, place) == "ok"


class TestCgroups:
    """Leaving one's group, lifting its limits, and release_agent (CVE-2022-0492)."""

    CODE = """
for path, _, names in os.walk('/sys/fs/cgroup'):
    for name in ('release_agent', 'cgroup.procs', 'tasks', 'memory.max', 'memory.limit_in_bytes',
                 'pids.max', 'cgroup.subtree_control', 'notify_on_release'):
        if name in names: print(attempt(os.open, os.path.join(path, name), os.O_WRONLY))
    print(attempt(os.mkdir, os.path.join(path, 'mine')))
"""

    def test_are_not_there(self, attack: Attack, sandbox: Box) -> None:
        assert attack(sandbox(), self.CODE) == ""

    def test_can_not_be_written_where_they_are(self, attack: Attack, sandbox: Box) -> None:
        if not hierarchies():
            pytest.skip("/proc/self/mountinfo has no cgroup hierarchy")
        said = attack(sandbox(mounts=[CgroupFs()]), self.CODE).split()
        assert said
        assert set(said) <= {"EROFS", "EACCES"}

    @pytest.mark.usefixtures("root_only")
    def test_can_be_by_root_with_the_hosts(self, attack: Attack) -> None:
        code = self.CODE.replace("    print(attempt(os.mkdir", "    0 and print(attempt(os.mkdir")
        box = Container(
            root=Tmpfs("/"),
            mounts=[*(Container.sandbox(limits=None).mounts or ()), Bind("/sys/fs/cgroup")],
        )
        assert "ok" in attack(box, code).split()

    def test_can_not_be_mounted(self, attack: Attack, sandbox: Box, rooted: Box) -> None:
        code = (
            "for kind in b'cgroup2', b'cgroup':\n"
            "    print(call('mount', b'x', b'/tmp', kind, 0, b'none,name=pyns-test'))\n"
        )
        for box in (sandbox(), sandbox(seccomp=None)):
            assert attack(box, code) == "EPERM EPERM"
        code = "print(call('mount', b'x', b'/tmp', b'cgroup2', 0, None))"
        assert attack(rooted(), code) == "ok"


class TestPrivileges:
    @pytest.mark.usefixtures("root_only")
    def test_are_not_given_by_setuid_programs(self, sandbox: Box, tmp_path: Path) -> None:
        program = Path(shutil.copy("/usr/bin/id", everybody(tmp_path)))
        program.chmod(0o4755)

        def uid(box: Container, **options: Any) -> str:
            done = run(box, ["/job/id", "-u"], capture_output=True, text=True, **options)
            return str(done.stdout).strip()

        given = [Bind(tmp_path, "/job")]
        assert uid(sandbox(mounts=given)) == "1000"
        other = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
        box = Container(root=Tmpfs("/"), mounts=[*(sandbox().mounts or ()), *given])
        assert uid(box, **other) == "0"
        # each wall alone
        assert (
            uid(Container(root=box.root, mounts=box.mounts, no_new_privileges=True), **other)
            == "65534"
        )
        inert = [*(sandbox().mounts or ()), Bind(tmp_path, "/job", nosuid=True)]
        assert uid(Container(root=box.root, mounts=inert), **other) == "65534"

    def test_stay_none_when_ids_are_asked_for(
        self, attack: Attack, sandbox: Box, rooted: Box
    ) -> None:
        """Without a group one could get at what is closed to that (CVE-2014-8989)."""
        code = (
            "print(attempt(os.setgroups, []), attempt(os.setuid, 0), attempt(os.setgid, 0))\n"
            "print(attempt(open, '/proc/self/uid_map', 'w'))\n"
        )
        assert attack(sandbox(), code).split()[:3] == ["EPERM", "EINVAL", "EINVAL"]
        groups, *ids = attack(rooted(), code).split()[:3]
        assert ids == ["ok", "ok"]
        # who is root in a user namespace of an ordinary user has the other two only
        assert groups == ("ok" if os.geteuid() == 0 else "EPERM")

    def test_are_not_lent_by_rlimits_niceness_and_the_oom_score(
        self, attack: Attack, sandbox: Box
    ) -> None:
        code = """
for most in 10, 11:
    print(call('prlimit64', 0, 7, ctypes.byref((ctypes.c_uint64 * 2)(most, most)), None))
print(attempt(os.setpriority, os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1))
def score(number):
    with open('/proc/self/oom_score_adj', 'w') as file: file.write(str(number))
lowest = int(sys.argv[1])
print(attempt(score, lowest), attempt(score, lowest - 1) if lowest > -1000 else 'EACCES')
"""
        own = Path("/proc/self/oom_score_adj").read_text()
        *refused, to_the_callers, below_it = attack(sandbox(), code, own).split()
        assert (refused, below_it) == (["ok", "EPERM", "EACCES"], "EACCES")
        # who had CAP_SYS_RESOURCE when he raised the score has set the lowest, too
        assert to_the_callers in ("ok", "EACCES")


class TestLibraries:
    """What the program's environment has loaded (LD_PRELOAD) is loaded by the program alone."""

    SOURCE = """
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void)
{
	FILE *file = fopen("/tmp/loaded", "a");

	if (file) {
		fprintf(file, "%d\\n", getpid());
		fclose(file);
	}
}
"""

    def test_are_not_loaded_by_the_init(self, sandbox: Box, tmp_path: Path) -> None:
        if not shutil.which("gcc"):
            pytest.skip("gcc is not there: it builds the library")
        (tmp_path / "x.c").write_text(self.SOURCE)
        library = everybody(tmp_path) / "x.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "x.c"], check=True)
        box = sandbox(mounts=[Bind(library, "/x.so")])
        done = run(
            box,
            ["cat", "/tmp/loaded"],
            env={"PATH": "/usr/bin", "LD_PRELOAD": "/x.so"},
            capture_output=True,
        )
        assert done.stdout == b"2\n"
        assert not os.path.exists("/tmp/loaded")


class TestCoreDumps:
    def test_are_not_written(self, attack: Attack, sandbox: Box) -> None:
        pattern = Path("/proc/sys/kernel/core_pattern").read_text()
        if pattern[0] in "|/@":
            pytest.skip(f"core_pattern is {pattern}: not a file in the current directory")
        code = (
            "os.chdir('/tmp')\n"
            "child = os.fork()\n"
            "if not child: os.kill(os.getpid(), signal.SIGSEGV)\n"
            "status = os.waitpid(child, 0)[1]\n"
            "print(os.WCOREDUMP(status), *os.listdir('/tmp'))\n"
        )
        assert attack(sandbox(), code) == "False"
        # a handler ("|program" as the pattern) is started unless the limit is 1, also with 0
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        assert dict(sandbox().rlimits or ())["core"] == ((1, 1) if hard else (0, 0))
        rlimits = dict(sandbox().rlimits or ()) | {"core": "unlimited"}
        assert attack(sandbox(rlimits=rlimits), code).startswith("True core")


class TestEntering:
    """Until it executes, the child that enters a container has the caller's memory and fds."""

    CODE = """
sys.stdin.readline()
while not os.path.exists('/proc/2'): pass
print(attempt(open, '/proc/2/mem', 'r+b'), attempt(os.readlink, '/proc/2/fd/0'))
print(call('pidfd_open', 2, 0), call('pidfd_getfd', result, 0, 0))
"""

    @pytest.mark.parametrize("hides", [True, False])
    def test_shows_them_to_nobody_inside(self, hostile: Hostile, hides: bool) -> None:
        kinds = Container().namespaces | Namespace.USER
        ids = {"uid_map": IdMap.current("uid", 0), "gid_map": IdMap.current("gid", 0)}
        box = Container(namespaces=kinds, **ids)  # type: ignore[arg-type]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": "/"}
        reader, writer = os.pipe()
        with clone_into(box, hostile(self.CODE), **pipes) as inside:  # type: ignore[arg-type]
            plan = Container(namespaces=Namespace(0), join={kinds: inside.pid}).plan(["true"])
            steps = [
                SetNamespaces(step.namespaces, step.path, inside.pidfd)
                if isinstance(step, SetNamespaces)
                else step
                for step in plan
                if hides or not isinstance(step, HideMemory)
            ]
            # it gets no further than this: the pipe is full
            os.set_blocking(writer, False)
            with suppress(BlockingIOError):
                while True:
                    os.write(writer, bytes(4096))
            os.set_blocking(writer, True)
            steps.insert(steps.index(CloneAgain(Namespace(0))) + 1, EnterCgroup("", writer))
            report = marshal.new_report()

            def enter() -> None:
                with signals_blocked() as mask:
                    marshal.spawn(Plan(tuple(steps)), mask, report)

            thread = threading.Thread(target=enter)
            thread.start()
            try:
                said, _ = inside.communicate("go\n", timeout=20)
            finally:
                os.set_blocking(reader, False)
                with suppress(BlockingIOError):
                    while True:
                        os.read(reader, 65536)
                thread.join(20)
                os.close(reader)
                os.close(writer)
            if report.pid > 0:
                os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
                os.close(report.pidfd)
        assert said.split() == (["EACCES", "EACCES", "ok", "EPERM"] if hides else ["ok"] * 4)

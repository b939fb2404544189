"""What a sandbox can use up: each thing ends at its limit, wherever that is."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable

import pytest

from pyns import Container, Dev, Limits, Tmpfs, run
from pyns.sandbox import LIMITS

pytestmark = pytest.mark.usefixtures("namespaces")

Attack = Callable[..., str]
Box = Callable[..., Container]
Hostile = Callable[..., list[str]]

COUNT = """
count = 0
try:
    while True:
        {}
        count += 1
except OSError as error:
    print(count, errno.errorcode[error.errno], flush=True)
os._exit(0)
"""
FORKS = COUNT.format("os.fork() or signal.pause()")
FDS = COUNT.format("os.open('/', os.O_RDONLY)")
TERMINALS = COUNT.format("os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)")
INOTIFY = COUNT.format("if call('inotify_init1', 0) != 'ok': raise OSError(ctypes.get_errno(), '')")
SIGNALS = "signal.pthread_sigmask(signal.SIG_BLOCK, [40])\n" + COUNT.format(
    "if libc.sigqueue(os.getpid(), 40, None): raise OSError(ctypes.get_errno(), '')"
)
QUEUES = "attributes = (ctypes.c_long * 8)(0, 10, 8192)\n" + COUNT.format(
    "if call('mq_open', b'%d' % count, 0o102, 0o600, attributes) != 'ok':"
    " raise OSError(ctypes.get_errno(), '')"
)


def ends(said: str, error: str, most: int) -> None:
    """A little is used before it begins: by Python, and by the init."""
    count, why = said.split()
    assert why == error
    assert max(0, most - 8) <= int(count) <= most


def with_rlimit(box: Container, **limit: int) -> Container:
    return dataclasses.replace(box, rlimits={**dict(box.rlimits or ()), **limit})


@pytest.mark.parametrize(
    ("code", "error", "usual", "limit", "less"),
    [
        (FORKS, "EAGAIN", 256, "nproc", 20),
        (FDS, "EMFILE", 1024, "nofile", 40),
        (SIGNALS, "EAGAIN", 1024, "sigpending", 20),
    ],
    ids=["processes", "fds", "pending signals"],
)
def test_rlimits_hold(
    attack: Attack, sandbox: Box, code: str, error: str, usual: int, limit: str, less: int
) -> None:
    ends(attack(sandbox(), code), error, usual)
    ends(attack(with_rlimit(sandbox(), **{limit: less}), code), error, less)


def test_message_queues_are_limited(attack: Attack, sandbox: Box) -> None:
    # of 65536 bytes none of 10 times 8192 is left
    assert attack(sandbox(), QUEUES) == "0 EMFILE"
    assert attack(with_rlimit(sandbox(), msgqueue=300_000), QUEUES) in ("2 EMFILE", "3 EMFILE")


def test_what_is_the_callers_too_is_left_to_him(attack: Attack, sandbox: Box) -> None:
    """inotify instances count for who has made the user namespace, too; 128 are usual."""
    ends(attack(sandbox(), INOTIFY), "EMFILE", 8)
    ends(attack(sandbox(max_inotify_instances=20), INOTIFY), "EMFILE", 20)


def test_terminals_are_left_to_others(attack: Attack, sandbox: Box) -> None:
    ends(attack(sandbox(), TERMINALS), "ENOSPC", 64)
    ends(attack(sandbox(mounts=[Dev(pts_max=9)]), TERMINALS), "ENOSPC", 9)


class TestFilesInMemory:
    BYTES = """
for path in sys.argv[1:]:
    with open(os.path.join(path, 'bomb'), 'wb') as file:
        print(attempt(os.posix_fallocate, file.fileno(), 0, 257 * 2**20))
        os.ftruncate(file.fileno(), 0)
"""

    def test_end_at_the_size(self, attack: Attack, sandbox: Box, rooted: Box) -> None:
        code = self.BYTES
        assert attack(sandbox(), code, "/tmp", "/dev/shm") == "ENOSPC ENOSPC"
        assert attack(rooted(mounts=[Tmpfs("/tmp")]), code, "/tmp") == "ok"
        assert attack(sandbox(mounts=[Tmpfs("/tmp", size="300M")]), code, "/tmp") == "ok"

    @pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
    def test_end_at_the_number(self, attack: Attack, sandbox: Box, place: str) -> None:
        code = "os.chdir(sys.argv[1])\n" + COUNT.format("os.mknod(str(count))")
        most = 65536 if place == "/tmp" else 4096
        ends(attack(sandbox(), code, place), "ENOSPC", most)
        small = sandbox(mounts=[Tmpfs(place, inodes=50)])
        ends(attack(small, code, place), "ENOSPC", 50)

    def test_are_made_nowhere_else(self, attack: Attack, sandbox: Box) -> None:
        code = """
for path, below, _ in os.walk('/'):
    if path == '/': below[:] = set(below) - {'proc', 'tmp'}
    if path.count('/') == 3: below.clear()
    if path != '/dev/shm':
        try: os.close(os.open(os.path.join(path, 'bomb'), os.O_CREAT | os.O_WRONLY))
        except OSError: continue
        print(path)
"""
        assert attack(sandbox(), code) == ""
        assert attack(sandbox(mounts=[Tmpfs("/home")]), code) == "/home"


@pytest.mark.usefixtures("limits")
class TestCgroup:
    BOMB = "kept = []\nfor _ in range(int(sys.argv[1])): kept.append(b'x' * 2**20)\nprint('had')"

    def test_memory_ends(self, attack: Attack, sandbox: Box, hostile: Hostile) -> None:
        few, many = (
            sandbox(limits=Limits(memory_max=size, memory_swap_max=0)) for size in ("64M", "256M")
        )
        done = run(few, hostile(self.BOMB, 150), capture_output=True)
        assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
        assert done.usage is not None
        assert done.usage.oom_kills
        assert attack(many, self.BOMB, 150) == "had"

    def test_memory_of_files_is_the_same(self, sandbox: Box, hostile: Hostile) -> None:
        box = sandbox(limits=Limits(memory_max="64M", memory_swap_max=0))
        code = "os.posix_fallocate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 0, 150 * 2**20)"
        done = run(box, hostile(code), capture_output=True)
        assert done.returncode != 0

    def test_processes_end(self, attack: Attack, sandbox: Box) -> None:
        for most in 15, 30:
            box = with_rlimit(sandbox(limits=Limits(pids_max=most)), nproc=200)
            ends(attack(box, FORKS), "EAGAIN", most)

    def test_preset_limits_all_of_it(self) -> None:
        box = Container.sandbox()
        assert box.limits in (LIMITS, dataclasses.replace(LIMITS, memory_swap_max=None))

"""The kernel takes each limit, shows it, and holds it: on v1, hybrid and v2 hosts alike."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyns import CgroupError, Container, IoMax, Limits, Namespace, run
from pyns.cgroups import Cgroup, bpf, hierarchies

pytestmark = pytest.mark.usefixtures("limits")

PLAIN = Namespace(0)
M = 1 << 20
NO_LIMIT = 2**62  # v1 shows the largest number of whole pages


def version_of(controller: str) -> int:
    """Return the version of the hierarchy that has a controller, 0 if none has."""
    return max((h.version for h in hierarchies() if controller in h.controllers), default=0)


def needs_v2(controller: str) -> None:
    if version_of(controller) != 2:
        pytest.skip(f"hierarchies(): {controller} is of version {version_of(controller)}, not 2")


@pytest.fixture
def made() -> Iterator[Callable[..., Cgroup]]:
    """Make groups that are removed at the end; skip what this host has no controller for."""
    groups: list[Cgroup] = []

    def make(parent: Cgroup | None = None, **limits: Any) -> Cgroup:
        try:
            group = Cgroup.create(limits=Limits(**limits), parent=parent)
        except CgroupError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            pytest.skip(f"Cgroup.create({', '.join(limits)}): {error}")
        groups.append(group)
        return group

    yield make
    for group in reversed(groups):
        group.remove()


def text(group: Cgroup, *names: str) -> str:
    """Return what the kernel shows in the file of the first of these names that there is."""
    for name in names:
        for path in group.paths:
            if os.path.exists(f"{path}/{name}"):
                return Path(path, name).read_text().strip()
    raise AssertionError(f"none of {names} in {group.paths}")


def python(group: Cgroup, code: str, **options: Any) -> Any:
    box = Container(namespaces=PLAIN, cgroup=group)
    command = [sys.executable, "-I", "-S", "-c", code]
    return run(box, command, capture_output=True, text=True, timeout=50, **options)


def memory(group: Cgroup) -> tuple[int | None, int | None]:
    """Return the limits of memory and of swap beside it, in MiB; None for no limit."""
    limit = text(group, "memory.max", "memory.limit_in_bytes")
    if version_of("memory") == 2:
        swap = text(group, "memory.swap.max")
        return tuple(None if t == "max" else int(t) // M for t in (limit, swap))  # type: ignore
    sum_ = int(text(group, "memory.memsw.limit_in_bytes"))
    return (
        None if int(limit) > NO_LIMIT else int(limit) // M,
        None if sum_ > NO_LIMIT else (sum_ - int(limit)) // M,
    )


@pytest.fixture
def swap_is_counted(limits: None, made: Callable[..., Cgroup]) -> None:  # noqa: ARG001  first
    made(memory_max="1G", memory_swap_max=0)  # skips


@pytest.mark.usefixtures("swap_is_counted")
class TestMemory:
    @pytest.mark.parametrize(
        ("first", "then", "is_now"),
        [
            ((100, 50), (200, None), (200, 50)),
            ((100, 50), (120, None), (120, 50)),
            ((100, 50), (50, None), (50, 50)),
            ((100, 50), (200, 0), (200, 0)),
            ((100, 50), (50, 0), (50, 0)),
            ((100, 50), (50, 100), (50, 100)),
            ((100, 50), (None, 0), (100, 0)),
            ((100, 50), (None, 100), (100, 100)),
            ((100, 50), (None, "max"), (100, None)),
            ((100, 50), ("max", "max"), (None, None)),
            ((100, 50), (200, "max"), (200, None)),
            ((100, 0), (200, None), (200, 0)),
            ((100, 0), (50, None), (50, 0)),
            ((100, 0), (50, 0), (50, 0)),
            ((100, 0), (200, 0), (200, 0)),
            ((100, 0), ("max", "max"), (None, None)),
            ((100, None), (200, None), (200, None)),
            ((100, None), ("max", None), (None, None)),
            ((100, None), (None, 0), (100, 0)),
            ((100, None), (50, 0), (50, 0)),
            ((None, None), (100, None), (100, None)),
            ((None, None), (100, 0), (100, 0)),
            ((None, None), (None, "max"), (None, None)),
        ],
        ids=str,
    )
    def test_is_raised_lowered_and_lifted(
        self, made: Callable[..., Cgroup], first: Any, then: Any, is_now: Any
    ) -> None:
        group = made(**self.limits(first), pids_max=9)
        assert memory(group) == first
        group.apply(Limits(**self.limits(then)))
        assert memory(group) == is_now

    @staticmethod
    def limits(pair: tuple[int | str | None, ...]) -> dict[str, Any]:
        names = ("memory_max", "memory_swap_max")
        return {
            name: value if value == "max" else f"{value}M"
            for name, value in zip(names, pair, strict=True)
            if value is not None
        }

    def test_memory_alone_is_not_lifted_where_v1_would_free_swap(
        self, made: Callable[..., Cgroup]
    ) -> None:
        group = made(memory_max="100M", memory_swap_max=0)
        if version_of("memory") == 2:
            group.apply(Limits(memory_max="max"))
            assert memory(group) == (None, 0)
        else:
            with pytest.raises(ValueError, match="memory_swap_max='max' as well"):
                group.apply(Limits(memory_max="max"))
            assert memory(group) == (100, 0)

    def test_raised_limit_lets_a_living_program_have_more(
        self, made: Callable[..., Cgroup]
    ) -> None:
        eat = f"x = bytearray({60 * M}); print('held')"
        group = made(memory_max="30M", memory_swap_max=0)
        assert python(group, eat).returncode == -signal.SIGKILL
        group.apply(Limits(memory_max="90M"))
        assert python(group, eat).stdout == "held\n"
        group.apply(Limits(memory_max="30M"))
        assert python(group, eat).returncode == -signal.SIGKILL


def test_kinds_of_memory_that_only_v2_has(made: Callable[..., Cgroup]) -> None:
    limits = {"memory_high": "50M", "memory_low": "20M", "memory_min": "10M"}
    if version_of("memory") == 1:
        for name, value in {**limits, "memory_oom_group": True}.items():
            with pytest.raises(ValueError, match=f"cgroup v1 has no {name}: "):
                made(**{name: value})
        return
    group = made(**limits, memory_oom_group=True)
    files = ("memory.high", "memory.low", "memory.min", "memory.oom.group")
    assert [text(group, f) for f in files] == ["52428800", "20971520", "10485760", "1"]
    group.apply(Limits(memory_high="max", memory_low=0, memory_min="max", memory_oom_group=False))
    assert [text(group, f) for f in files] == ["max", "0", "max", "0"]


def test_oom_group_takes_the_whole_group(made: Callable[..., Cgroup]) -> None:
    needs_v2("memory")
    group = made(memory_max="60M", memory_swap_max=0, memory_oom_group=True)
    script = 'sleep 50 & "$0" -I -S -c "x = bytearray(200 << 20)"; echo alive'
    box = Container(namespaces=PLAIN, cgroup=group)
    completed = run(
        box, ["sh", "-c", script, sys.executable], stdout=-1, stderr=subprocess.DEVNULL, timeout=50
    )
    # the shell, which holds next to nothing, goes too, and what it left running
    assert (completed.returncode, completed.stdout) == (-signal.SIGKILL, b"")
    deadline = time.monotonic() + 10
    while group.processes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert group.processes == []


def test_pids_are_lowered_raised_and_lifted(made: Callable[..., Cgroup]) -> None:
    group = made(pids_max=5)
    assert text(group, "pids.max") == "5"
    fork = "import os\nif os.fork() == 0: os._exit(0)\nos.wait(); print('forked')"
    for limit, works in ((1, False), (2, True), ("max", True)):
        group.apply(Limits(pids_max=limit))
        assert text(group, "pids.max") == str(limit)
        completed = python(group, fork)
        assert (completed.stdout == "forked\n", "BlockingIOError" in completed.stderr) == (
            works,
            not works,
        )


def bandwidth(group: Cgroup) -> tuple[str, int, int]:
    """Return quota ("max" for none), period and burst in microseconds."""
    if version_of("cpu") == 2:
        quota, period = text(group, "cpu.max").split()
    else:
        quota = text(group, "cpu.cfs_quota_us").replace("-1", "max")
        period = text(group, "cpu.cfs_period_us")
    return quota, int(period), int(text(group, "cpu.max.burst", "cpu.cfs_burst_us"))


class TestCpu:
    @pytest.mark.parametrize(
        ("first", "then", "is_now"),
        [
            ((0.5, None), (0.3, None), ("30000", 0)),
            ((0.5, None), (2, None), ("200000", 0)),
            ((0.5, None), ("max", None), ("max", 0)),
            ((0.5, None), (None, 0.5), ("50000", 50000)),
            ((0.5, 0.5), (None, 0), ("50000", 0)),
            ((0.5, 0.5), (0.4, 0.1), ("40000", 10000)),
            ((0.5, 0.5), (0.8, 0.7), ("80000", 70000)),
            ((0.5, 0.2), (0.3, 0.3), ("30000", 30000)),
            ((0.5, 0.2), (0.2, None), ("20000", 20000)),
            ((0.5, 0.5), ("max", None), ("max", 50000)),
            ((0.5, 0.5), ("max", 0), ("max", 0)),
            (("max", 0.5), (0.4, 0.3), ("40000", 30000)),
        ],
        ids=str,
    )
    def test_time_is_raised_lowered_and_lifted(
        self, made: Callable[..., Cgroup], first: Any, then: Any, is_now: Any
    ) -> None:
        group = made(cpu_max=first[0], cpu_max_burst=first[1])
        group.apply(Limits(cpu_max=then[0], cpu_max_burst=then[1]))
        assert bandwidth(group) == (is_now[0], 100_000, is_now[1])

    def test_a_burst_above_the_quota_changes_nothing(self, made: Callable[..., Cgroup]) -> None:
        group = made(cpu_max=0.5, cpu_max_burst=0.4)
        for limits in (Limits(cpu_max=0.3), Limits(cpu_max_burst=0.6)):
            with pytest.raises(ValueError, match="can't be above cpu_max"):
                group.apply(limits)
        assert bandwidth(group) == ("50000", 100_000, 40_000)

    @pytest.mark.parametrize("period", [10_000, 1_000_000])
    def test_another_period_is_left_below_a_group_that_has_no_more(
        self, made: Callable[..., Cgroup], period: int
    ) -> None:
        parent = made(cpu_max=0.5)
        group = made(parent=parent, cpu_max=0.5)
        quota = period // 2
        if version_of("cpu") == 2:
            group.apply(Limits(extra={"cpu.max": f"{quota} {period}"}))
        else:
            # as any hand would have to: a smaller share first
            order = ("period", "quota") if period > 100_000 else ("quota", "period")
            files = {"period": ("cpu.cfs_period_us", period), "quota": ("cpu.cfs_quota_us", quota)}
            group.apply(Limits(extra=dict(files[name] for name in order)))
        assert bandwidth(group) == (str(quota), period, 0)
        group.apply(Limits(cpu_max_burst=0.2))
        assert bandwidth(group) == (str(quota), period, period // 5)
        group.apply(Limits(cpu_max=0.5, cpu_max_burst=0))
        assert bandwidth(group) == ("50000", 100_000, 0)

    def test_idle_and_weight(self, made: Callable[..., Cgroup]) -> None:
        group = made(cpu_idle=True)
        assert text(group, "cpu.idle") == "1"
        with pytest.raises(CgroupError, match="give cpu_idle=False too") as caught:
            group.apply(Limits(cpu_weight=50))
        assert (caught.value.errno, caught.value.controller) == (errno.EINVAL, "cpu")
        group.apply(Limits(cpu_idle=False, cpu_weight=50))
        assert text(group, "cpu.idle") == "0"
        assert (text(group, "cpu.weight", "cpu.shares")) in ("50", "512")

    def test_time_is_held_and_lifted(self, made: Callable[..., Cgroup]) -> None:
        spin = (
            "import time\nt, c = time.monotonic(), time.process_time()\n"
            "while time.monotonic() - t < 1: pass\nprint(time.process_time() - c)"
        )
        group = made(cpu_max=0.2)
        # whole periods, and what the start took: well below the core that it asked for
        assert float(python(group, spin).stdout) < 0.5
        group.apply(Limits(cpu_max="max"))
        throttled = text(group, "cpu.stat")
        python(group, spin)
        pick = [line for line in throttled.splitlines() if line.startswith("nr_throttled")]
        assert pick[0] in text(group, "cpu.stat")  # not once more


class TestCpuset:
    STATUS = "print(*[l for l in open('/proc/self/status') if '_allowed_list' in l], sep='')"

    def test_cpus_and_nodes(self, made: Callable[..., Cgroup]) -> None:
        group = made(cpuset_cpus="0", cpuset_mems=[0])
        assert (text(group, "cpuset.cpus"), text(group, "cpuset.mems")) == ("0", "0")
        said = python(group, self.STATUS).stdout.split()
        assert said == ["Cpus_allowed_list:", "0", "Mems_allowed_list:", "0"]

    def test_are_changed(self, made: Callable[..., Cgroup]) -> None:
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            pytest.skip(f"sched_getaffinity(0) is {usable}: two CPUs are needed")
        group = made(cpuset_cpus=usable[:1])
        group.apply(Limits(cpuset_cpus=usable[-1:]))
        said = python(group, "import os; print(*os.sched_getaffinity(0))").stdout
        assert said == f"{usable[-1]}\n"

    def test_lifting_is_a_word_of_v2_only(self, made: Callable[..., Cgroup]) -> None:
        if version_of("cpuset") == 1:
            with pytest.raises(ValueError, match="cgroup v1 has no cpuset_cpus='max'"):
                made(cpuset_cpus="max")
            return
        group = made(cpuset_cpus="0", cpuset_mems="0")
        group.apply(Limits(cpuset_cpus="max", cpuset_mems="max"))
        assert (text(group, "cpuset.cpus"), text(group, "cpuset.mems")) == ("", "")

    def test_node_that_is_not_there(self, made: Callable[..., Cgroup]) -> None:
        with pytest.raises(CgroupError) as caught:
            made(cpuset_mems="77")
        error = caught.value
        assert (error.controller, error.value) == ("cpuset", "77")
        assert str(error.file).endswith("/cpuset.mems")


# /dev/full and /dev/zero, which no interpreter needs, and /dev/null
OPEN = """
import os
for path, flags in (("null", 2), ("zero", 0), ("zero", 1), ("full", 0), ("full", 2)):
    try:
        os.close(os.open("/dev/" + path, flags))
        print("+", end="")
    except PermissionError:
        print("-", end="")
"""
MAKE = """
import os, sys
try:
    os.mknod(sys.stdin.read(), {kind}, os.makedev({major}, {minor}))
    print("made")
except OSError as error:
    print(error.errno)
"""


@pytest.fixture(params=["apply", "program"])
def put(request: pytest.FixtureRequest) -> Callable[[Cgroup, Any], None]:
    """Return how a rule gets into force: as this host has it, and by the program of v2."""
    if request.param == "apply":
        return lambda group, rules: group.apply(Limits(devices=rules))

    def attach(group: Cgroup, rules: Any) -> None:
        found = [h.version == 2 for h in group._directories]
        if True not in found:
            pytest.skip("hierarchies(): none of version 2")
        directory = list(group._directories.values())[found.index(True)]
        kept = Limits(devices=rules).devices
        assert isinstance(kept, (str, tuple))
        bpf.put(directory.fd, directory.path, None if isinstance(kept, str) else kept)

    return attach


@pytest.fixture
def device_group(made: Callable[..., Cgroup]) -> Cgroup:
    try:
        return made(devices="max")
    except CgroupError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        pytest.skip(f"Cgroup.create(devices): {error}")


Put = Callable[[Cgroup, Any], None]


class TestDevices:
    @pytest.mark.parametrize(
        ("rules", "opened"),
        [
            ("max", "+++++"),
            ((), "-----"),
            (("/dev/null rw",), "+----"),
            (("c 1:5 r",), "-+---"),
            (("c 1:5 w", "c 1:7 r"), "--++-"),
            (("c 1:* rw",), "+++++"),
            (("c *:7 rwm", "b *:* rwm"), "---++"),
            # O_RDWR wants one rule that allows both
            (("c 1:* r", "c *:3 w"), "-+-+-"),
        ],
        ids=str,
    )
    def test_only_what_is_named_is_opened(
        self, device_group: Cgroup, put: Put, rules: Any, opened: str
    ) -> None:
        put(device_group, rules)
        assert python(device_group, OPEN).stdout == opened

    def test_only_what_is_named_is_made(
        self, device_group: Cgroup, put: Put, tmp_path: Path
    ) -> None:
        put(device_group, ("c 1:3 m", "/dev/null r", "b 7:* m"))
        outcomes = []
        kinds = ((stat.S_IFCHR, 1, 3), (stat.S_IFCHR, 1, 5), (stat.S_IFBLK, 7, 1))
        for place, (kind, major, minor) in enumerate(kinds):
            code = MAKE.format(kind=kind | 0o600, major=major, minor=minor)
            said = python(device_group, code, input=str(tmp_path / str(place))).stdout
            outcomes.append(said.strip())
        assert outcomes == ["made", str(errno.EPERM), "made"]

    def test_rules_replace_those_before_and_are_lifted(
        self, device_group: Cgroup, put: Put
    ) -> None:
        for rules, opened in (
            (("c 1:3 rw",), "+----"),
            (("c 1:5 r",), "-+---"),
            (("c 1:5 rw",), "-++--"),
            ((), "-----"),
            (("c 1:7 rw",), "---++"),
            ("max", "+++++"),
            ("max", "+++++"),
            (("c 1:3 rw",), "+----"),
        ):
            put(device_group, rules)
            assert python(device_group, OPEN).stdout == opened

    def test_group_below_has_no_more_than_the_one_above(
        self, device_group: Cgroup, put: Put, made: Callable[..., Cgroup]
    ) -> None:
        put(device_group, ("c 1:3 rw", "c 1:5 rw"))
        below = made(parent=device_group, devices=("c 1:3 rw", "c 1:5 rw"))
        assert python(below, OPEN).stdout == "+++--"
        put(below, ("c 1:3 r", "c 1:5 r"))
        assert python(below, OPEN).stdout == "-+---"

    def test_group_below_that_wants_more(
        self, device_group: Cgroup, made: Callable[..., Cgroup]
    ) -> None:
        device_group.apply(Limits(devices=("c 1:5 rw",)))
        if version_of("devices") == 1:  # v1 says so, v2 asks the programs of both
            with pytest.raises(CgroupError, match="above does not allow") as caught:
                made(parent=device_group, devices=("c 1:5 r", "c 1:7 rw"))
            error = caught.value
            assert (error.errno, error.value) == (errno.EPERM, "c 1:7 rw")
        else:
            below = made(parent=device_group, devices=("c 1:5 r", "c 1:7 rw"))
            assert python(below, OPEN).stdout == "-+---"

    def test_more_rules_than_fit_a_page(self, device_group: Cgroup, put: Put) -> None:
        many = [f"c {major}:{minor} r" for major in range(200, 210) for minor in range(60)]
        put(device_group, [*many, "c 1:5 r"])
        assert python(device_group, OPEN).stdout == "-+---"

    def test_program_of_another_stays(
        self, device_group: Cgroup, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not any(h.version == 2 for h in device_group._directories):
            pytest.skip("hierarchies(): none of version 2")
        [directory] = [d for h, d in device_group._directories.items() if h.version == 2]
        others = bpf._Calls(directory.path, "")
        monkeypatch.setattr(bpf, "_NAME", b"of_another")
        program = others.load(("c 1:5 r", "c 1:7 r"))
        monkeypatch.undo()
        others.attach(directory.fd, program, None)
        os.close(program)
        for rules, opened in ((("c 1:5 r", "c 1:3 rw"), "-+---"), ("max", "-+-+-")):
            put(device_group, rules)
            assert python(device_group, OPEN).stdout == opened

    def test_program_that_is_put_often_is_there_once(self, device_group: Cgroup) -> None:
        if not any(h.version == 2 for h in device_group._directories):
            pytest.skip("hierarchies(): none of version 2")
        [directory] = [d for h, d in device_group._directories.items() if h.version == 2]
        for _ in range(70):  # a group takes 64
            bpf.put(directory.fd, directory.path, ("c 1:5 r",))

    def test_v1_with_groups_below_says_what_is_wrong(self, made: Callable[..., Cgroup]) -> None:
        if version_of("devices") != 1:
            pytest.skip("hierarchies(): none of version 1 has devices")
        group = made(devices=("c 1:3 rw",))
        made(parent=group, devices=("c 1:3 r",))
        with pytest.raises(CgroupError, match="It has groups below it") as caught:
            group.apply(Limits(devices=()))
        assert caught.value.errno == errno.EINVAL


@pytest.fixture
def disk() -> tuple[str, Path]:
    """Find a disk that can be read past the page cache; return its number and a node."""
    tried = []
    for block in sorted(Path("/sys/block").iterdir()):
        number = (block / "dev").read_text().strip()
        node = Path("/dev", block.name)
        if int((block / "size").read_text()) < 20480:
            continue  # less than 10 MiB
        try:
            os.close(os.open(node, os.O_RDONLY | os.O_DIRECT))
        except OSError as error:
            tried.append(str(error))
            continue
        return number, node
    pytest.skip(f"/sys/block has no disk of 10 MiB that opens with O_RDONLY | O_DIRECT: {tried}")


def io(group: Cgroup, number: str) -> dict[str, str]:
    """Return what the kernel shows of a disk's limits, by v2's names; without a limit: nothing."""
    if version_of("io") == 2:
        lines = [line.split() for line in text(group, "io.max").splitlines()]
        pairs = [pair.split("=") for line in lines if line[0] == number for pair in line[1:]]
        return {name: value for name, value in pairs if value != "max"}
    found = {}
    for name in ("rbps", "wbps", "riops", "wiops"):
        way = "read" if name[0] == "r" else "write"
        for line in text(group, f"blkio.throttle.{way}_{name[1:]}_device").splitlines():
            if line.split()[0] == number:
                found[name] = line.split()[1]
    return found


READ = """
import mmap, os, sys, time
fd = os.open(sys.stdin.read(), os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 18)
start = time.monotonic()
for _ in range(8):
    os.readv(fd, [buffer])
print(time.monotonic() - start)
"""


class TestIo:
    def test_limits_are_set_changed_and_lifted(
        self, made: Callable[..., Cgroup], disk: tuple[str, Path]
    ) -> None:
        number, node = disk
        group = made(io_max=[IoMax(str(node), rbps="10M", wiops=100)])
        assert io(group, number) == {"rbps": "10485760", "wiops": "100"}
        group.apply(Limits(io_max=[IoMax(number, rbps=2, wbps=3, riops=2, wiops=2**32 - 2)]))
        assert io(group, number) == {
            "rbps": "2",
            "wbps": "3",
            "riops": "2",
            "wiops": "4294967294",
        }
        group.apply(Limits(io_max=[IoMax(number, "max", "max", "max", "max")]))
        assert io(group, number) == {}

    def test_reads_are_held_and_lifted(
        self, made: Callable[..., Cgroup], disk: tuple[str, Path]
    ) -> None:
        number, node = disk
        group = made(io_max=[IoMax(number, rbps="1M")])
        slow = float(python(group, READ, input=str(node)).stdout)
        group.apply(Limits(io_max=[IoMax(number, rbps="max")]))
        fast = float(python(group, READ, input=str(node)).stdout)
        assert (slow > 1, fast < 1) == (True, True), (slow, fast)  # 2 MiB

    def test_disk_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(CgroupError) as caught:
            Cgroup.create(limits=Limits(io_max=[IoMax("4000:77", rbps=1000)]))
        error = caught.value
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip(f"Cgroup.create(io_max): {error}")
        assert error.errno == errno.ENODEV
        assert "a partition, which has no limits of its own" in str(error)

    def test_weight(self, made: Callable[..., Cgroup]) -> None:
        group = made(io_weight=1000)
        shown = {
            name: Path(path, name).read_text().split()[-1]
            for path in group.paths
            for name in ("io.weight", "io.bfq.weight", "blkio.bfq.weight")
            if os.path.exists(f"{path}/{name}")
        }
        wanted = {"io.weight": "1000", "io.bfq.weight": "181", "blkio.bfq.weight": "181"}
        assert shown == {name: wanted[name] for name in shown} != {}

    def test_weight_of_one_disk(self, made: Callable[..., Cgroup], disk: tuple[str, Path]) -> None:
        number, node = disk
        group = made(io_weight={str(node): 200})  # skips where bfq is not its scheduler
        names = ("io.bfq.weight", "blkio.bfq.weight_device", "io.weight")
        assert any(
            f"{number} " in Path(path, name).read_text()
            for path in group.paths
            for name in names
            if os.path.exists(f"{path}/{name}")
        )
        group.apply(Limits(io_weight={number: "default"}))


def test_huge_pages_are_limited_and_lifted(made: Callable[..., Cgroup]) -> None:
    group = made(hugetlb_max={"2MB": "4M"})
    names = ("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes")
    assert text(group, *names) == str(4 * M)
    group.apply(Limits(hugetlb_max={"2MB": "max"}))
    shown = text(group, *names)
    assert shown == "max" or int(shown) > NO_LIMIT


def test_size_of_pages_that_this_machine_has_not(made: Callable[..., Cgroup]) -> None:
    group = made(hugetlb_max={"2MB": 0})
    with pytest.raises(CgroupError, match="/sys/kernel/mm/hugepages") as caught:
        group.apply(Limits(hugetlb_max={"3MB": 0}))
    error = caught.value
    assert (error.errno, error.controller, error.value) == (errno.EOPNOTSUPP, "hugetlb", "0")
    assert "/hugetlb.3MB." in str(error.file)


class TestExtra:
    def test_is_written_last(self, made: Callable[..., Cgroup]) -> None:
        file, value = ("cpu.weight", "7") if version_of("cpu") == 2 else ("cpu.shares", "77")
        group = made(cpu_weight=100, extra={file: value})
        assert text(group, file) == value

    def test_files_of_v2(self, made: Callable[..., Cgroup]) -> None:
        if not any(h.version == 2 for h in hierarchies()):
            pytest.skip("hierarchies(): none of version 2")
        group = made(extra={"cgroup.max.descendants": 1}, pids_max=5)
        assert text(group, "cgroup.max.descendants") == "1"

    def test_file_that_is_not_there(self, made: Callable[..., Cgroup]) -> None:
        group = made(pids_max=5)
        before = time.monotonic()
        with pytest.raises(CgroupError, match="The kernel has no such file") as caught:
            group.apply(Limits(extra={"pids.nix": "1"}))
        assert time.monotonic() - before < 5
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.errno, error.controller, error.value) == (errno.EOPNOTSUPP, "pids", "1")
        assert error.file.endswith("/pids.nix")

    def test_controller_that_nobody_has(self) -> None:
        with pytest.raises(CgroupError, match="use the cgroup controller nix: ") as caught:
            Cgroup.create(limits=Limits(extra={"nix.max": "1"}))
        assert caught.value.errno == errno.EOPNOTSUPP


def test_refused_limit_leaves_no_group() -> None:
    # the leak guard sees to it
    with pytest.raises(CgroupError):
        Cgroup.create(limits=Limits(memory_max="100M", extra={"pids.max": "many"}))

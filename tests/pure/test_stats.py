"""What the kernel's files say of a group's use, and what lies between two readings."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from pyns.cgroups import HugetlbStats, IoStats, Pressure, Stall, Stats, stats_v1, stats_v2
from pyns.cgroups.stats import ALL_FIELDS, Source, chosen, collect

TEXTS = Path(__file__).parent / "cgroup_files"
V1, V2 = stats_v1.SOURCES, stats_v2.SOURCES
EVERY_CONTROLLER = ("cpu", "cpuacct", "memory", "pids", "io", "blkio", "hugetlb")


class Files(dict[str, str]):
    """The files of a group, by name; notes which are read."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(texts)
        self.was_read: list[str] = []

    def text(self, name: str) -> str | None:
        self.was_read.append(name)
        return self.get(name)

    def names(self) -> list[str]:
        return list(self)


def files_of(name: str) -> Files:
    """Return what a kernel wrote: for each file a line "-- name", and then its text."""
    parts = (TEXTS / f"{name}.txt").read_text().split("-- ")[1:]
    return Files(dict(part.split("\n", 1) for part in parts))


def read(sources: tuple[Source, ...], files: Files, *wanted: str) -> Stats:
    fields_of = frozenset(wanted) or ALL_FIELDS
    return Stats(**collect(chosen(sources, EVERY_CONTROLLER, fields_of), files))


def stall(avg10: float, avg60: float, avg300: float, total: float) -> Stall:
    return Stall(avg10=avg10, avg60=avg60, avg300=avg300, total_seconds=total)


def both(*values: float) -> Pressure:
    return Pressure(some=stall(*values), full=stall(*values))


class TestRealFiles:
    """Of one program: 20 MiB of heap, 3 of shared memory, 8 of a file, throttled to a fifth."""

    def test_v2_of_linux_6_1(self) -> None:
        assert read(V2, files_of("v2-linux-6.1")) == Stats(
            cpu_seconds=0.758474,
            user_seconds=0.309322,
            system_seconds=0.449152,
            throttled_seconds=2.87309,
            throttled_periods=37,
            memory_current=35983360,
            memory_peak=35983360,
            memory_swap_current=0,
            memory_swap_peak=None,
            memory_anon=25772032,
            memory_file=9859072,
            memory_shmem=3145728,
            memory_kernel=98304,
            oom_kills=0,
            memory_max_events=0,
            memory_high_events=0,
            pids_current=1,
            pids_peak=1,
            io={
                "254:0": IoStats(read_bytes=6555648, write_bytes=8388608, reads=7, writes=9),
            },
            hugetlb={
                "1GB": HugetlbStats(current=0, peak=None, max_events=0),
                "2MB": HugetlbStats(current=4194304, peak=None, max_events=0),
            },
            cpu_pressure=both(13.94, 2.51, 0.52, 2.894868),
            memory_pressure=both(0, 0, 0, 0),
            io_pressure=both(0, 0, 0, 0.009142),
        )

    def test_v2_of_linux_7_3(self) -> None:
        assert read(V2, files_of("v2-linux-7.3")) == Stats(
            cpu_seconds=0.61977,
            user_seconds=0.292177,
            system_seconds=0.327593,
            throttled_seconds=2.374294,
            throttled_periods=30,
            memory_current=37994496,
            memory_peak=37994496,
            memory_swap_current=0,
            memory_swap_peak=0,
            memory_anon=25776128,
            memory_file=11636736,
            memory_shmem=3145728,
            memory_kernel=102400,
            oom_kills=0,
            memory_max_events=0,
            memory_high_events=0,
            pids_current=1,
            pids_peak=1,
            io={
                "254:0": IoStats(read_bytes=8390656, write_bytes=8388608, reads=15, writes=4),
            },
            hugetlb={
                "1GB": HugetlbStats(current=0, peak=None, max_events=0),
                "2MB": HugetlbStats(current=4194304, peak=None, max_events=0),
            },
            cpu_pressure=both(7.06, 1.27, 0.26, 1.655758),
            memory_pressure=both(0, 0, 0, 0),
            io_pressure=both(0, 0, 0, 0.004902),
        )

    def test_v1_of_linux_6_1(self) -> None:
        assert read(V1, files_of("v1-linux-6.1")) == Stats(
            cpu_seconds=0.736841724,
            user_seconds=0.236,
            system_seconds=0.352,
            throttled_seconds=2.836164628,
            throttled_periods=36,
            memory_current=35831808,
            memory_peak=36061184,
            memory_swap_current=0,
            memory_anon=25739264,
            memory_file=9863168,
            memory_shmem=3145728,
            memory_kernel=106496,
            oom_kills=0,
            pids_current=1,
            pids_peak=1,
            io={},  # a device of which it says nothing but 0
            hugetlb={
                "1GB": HugetlbStats(current=0, peak=0, max_events=0),
                "2MB": HugetlbStats(current=4194304, peak=4194304, max_events=0),
            },
        )

    def test_v1_of_linux_6_18(self) -> None:
        assert read(V1, files_of("v1-linux-6.18")) == Stats(
            cpu_seconds=0.282599420,
            user_seconds=0.18,
            system_seconds=0.084,
            throttled_seconds=1.025738826,
            throttled_periods=14,
            memory_current=37912576,
            memory_peak=83886080,
            memory_swap_current=0,
            memory_anon=25575424,
            memory_file=11825152,
            memory_shmem=3145728,
            memory_kernel=102400,
            oom_kills=1,
            pids_current=1,
            pids_peak=1,
            io={
                "254:0": IoStats(read_bytes=8671232, write_bytes=8396800, reads=71, writes=5),
            },
        )

    def test_together_they_fill_every_field(self) -> None:
        silent = ALL_FIELDS
        for name in ("v2-linux-7.3", "v1-linux-6.18"):
            stats = read(V2 if name.startswith("v2") else V1, files_of(name))
            silent = silent & {f.name for f in fields(Stats) if getattr(stats, f.name) is None}
        assert silent == set()


class TestOddFiles:
    @pytest.mark.parametrize("sources", [V1, V2], ids=["v1", "v2"])
    def test_that_are_not_there_say_nothing(self, sources: tuple[Source, ...]) -> None:
        assert read(sources, Files({})) == Stats()

    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize(
        "text", ["", "\n", "max\n", "-1\n", "x 1 2 3\n", "=\n = =\n", "\0", "٣\n"]
    )
    def test_that_say_nothing_known_are_no_numbers(self, version: str, text: str) -> None:
        sources = V1 if version == "v1" else V2
        files = files_of("v1-linux-6.1" if version == "v1" else "v2-linux-7.3")
        told = asdict(read(sources, Files(dict.fromkeys(files, text))))
        told["hugetlb"] = told["io"] = None
        assert set(told.values()) == {None}

    def test_with_lines_of_later_kernels_are_read(self) -> None:
        files = files_of("v2-linux-7.3")
        for name in ("cpu.stat", "memory.events", "memory.stat", "cpu.pressure", "io.stat"):
            files[name] = f"later\nlater 1 2\nlater x=y z\n{files[name]}later -1\n8:16\n8:32 a=1\n"
        assert read(V2, files) == read(V2, files_of("v2-linux-7.3"))

    def test_with_values_that_are_none_leave_the_others(self) -> None:
        files = Files({"cpu.stat": "usage_usec x\nuser_usec 1000000\nsystem_usec\n"})
        assert read(V2, files) == Stats(user_seconds=1.0)

    def test_of_memory_events_are_told_apart(self) -> None:
        text = "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n"
        assert read(V2, Files({"memory.events": text})) == Stats(
            memory_high_events=2, memory_max_events=3, oom_kills=5
        )

    def test_of_io_name_devices_without_figures(self) -> None:
        text = "8:0\n8:16 rbytes=1 wbytes=2 rios=3\n8:32 cost.usage=5\n"
        assert read(V2, Files({"io.stat": text})).io == {
            "8:16": IoStats(read_bytes=1, write_bytes=2, reads=3, writes=None)
        }

    def test_of_pressure_without_full(self) -> None:
        text = "some avg10=1.50 avg60=0.25 avg300=nan total=2000000\n"
        assert read(V2, Files({"cpu.pressure": text})).cpu_pressure == Pressure(
            some=Stall(avg10=1.5, avg60=0.25, avg300=None, total_seconds=2.0)
        )

    def test_of_v1_before_it_counted_oom_kills(self) -> None:
        files = Files({"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"})
        assert read(V1, files) == Stats()

    @pytest.mark.parametrize("seed", range(50))
    def test_never_fail(self, seed: int) -> None:
        rng = random.Random(seed)
        alphabet = string.printable + "=: \n0123456789maxtotal\0é²"
        for sources, name in ((V1, "v1-linux-6.18"), (V2, "v2-linux-7.3")):
            files = files_of(name)
            for file, text in files.items():
                broken = list(text)
                for _ in range(rng.randrange(1, 20)):
                    where = rng.randrange(len(broken) + 1)
                    broken[where : where + rng.randrange(3)] = rng.choices(alphabet, k=3)
                files[file] = "".join(broken[: rng.randrange(len(broken) + 1)])
            stats = read(sources, files)
            assert isinstance(stats - stats, Stats)


class TestWanted:
    def test_is_all_that_is_read(self) -> None:
        files = files_of("v2-linux-7.3")
        wanted = ("cpu_seconds", "user_seconds", "memory_peak", "oom_kills", "pids_peak")
        stats = read(V2, files, *wanted)
        assert files.was_read == ["cpu.stat", "memory.peak", "memory.events", "pids.peak"]
        assert all(getattr(stats, name) is not None for name in wanted)

    def test_is_not_read_without_the_controller(self) -> None:
        files = files_of("v2-linux-7.3")
        wanted = frozenset({"cpu_seconds", "memory_peak", "pids_peak", "io"})
        collect(chosen(V2, ("hugetlb",), wanted), files)
        assert files.was_read == ["cpu.stat"]


class TestDifference:
    BEFORE = Stats(
        cpu_seconds=1.1,
        oom_kills=2,
        memory_current=100,
        memory_peak=500,
        pids_peak=3,
        io={"8:0": IoStats(read_bytes=10, write_bytes=20, reads=1, writes=2)},
        hugetlb={"2MB": HugetlbStats(current=5, peak=9, max_events=1)},
        cpu_pressure=Pressure(some=stall(1, 2, 3, 10)),
    )
    AFTER = Stats(
        cpu_seconds=1.4,
        oom_kills=3,
        memory_current=50,
        memory_peak=500,
        pids_peak=4,
        io={
            "8:0": IoStats(read_bytes=15, write_bytes=20, reads=2, writes=2),
            "8:16": IoStats(read_bytes=7, write_bytes=0, reads=1, writes=None),
        },
        hugetlb={"2MB": HugetlbStats(current=6, peak=12, max_events=4)},
        cpu_pressure=Pressure(some=stall(4, 5, 6, 10.25), full=stall(1, 1, 1, 1)),
    )

    def test_subtracts_each_field_in_its_way(self) -> None:
        between = self.AFTER - self.BEFORE
        assert between == Stats(
            cpu_seconds=0.3,  # 1.4 - 1.1 is 0.2999999999999998
            oom_kills=1,
            memory_current=50,
            memory_peak=None,  # the record is older
            pids_peak=4,  # the record was broken
            io={
                "8:0": IoStats(read_bytes=5, write_bytes=0, reads=1, writes=0),
                "8:16": IoStats(read_bytes=7, write_bytes=0, reads=1, writes=None),
            },
            hugetlb={"2MB": HugetlbStats(current=6, peak=12, max_events=3)},
            cpu_pressure=Pressure(some=stall(4, 5, 6, 0.25)),
        )

    def test_of_the_same_is_nothing(self) -> None:
        nothing = self.AFTER - self.AFTER
        assert (nothing.cpu_seconds, nothing.oom_kills, nothing.memory_peak) == (0, 0, None)
        assert nothing.memory_current == 50

    def test_of_what_one_of_them_does_not_know_is_not_known(self) -> None:
        known = Stats(cpu_seconds=1.0, memory_peak=5, io={}, memory_current=3)
        assert Stats() - known == Stats()
        assert known - Stats() == Stats(memory_current=3)

    @pytest.mark.parametrize("name", sorted(ALL_FIELDS))
    def test_has_a_rule_for_every_field(self, name: str) -> None:
        [field] = [f for f in fields(Stats) if f.name == name]
        rule = field.metadata["between"].__name__
        if name.endswith("_current") or name in (
            "memory_anon",
            "memory_file",
            "memory_shmem",
            "memory_kernel",
        ):
            assert rule == "_latest"
        elif name.endswith("_peak"):
            assert rule == "_risen"
        elif name in ("io", "hugetlb"):
            assert rule == "_each"
        else:
            assert rule == "_difference"

    def test_of_different_things_is_a_mistake(self) -> None:
        with pytest.raises(TypeError):
            Stats() - IoStats()  # type: ignore[operator]

"""How the kernel treats a process beside others: CPUs, nice value, timers, and when memory ends."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator

from pyns.steps import Operands, Step

_MOST_CPUS = 2**16


class SetOomScoreAdj(Step):
    """Says how readily the OOM killer takes it (proc_pid_oom_score_adj(5))."""

    kind = "set_oom_score_adj"
    calls = "openat write"
    value: int

    def describe(self) -> str:
        return f"set oom_score_adj to {self.value}"

    def operands(self) -> Operands:
        return Operands((b"%d" % self.value,))

    def hint(self, error: int) -> str | None:
        return {
            errno.EACCES: "Lower than the caller's own takes CAP_SYS_RESOURCE on the host",
            errno.ENOENT: "The caller has no /proc",
        }.get(error)


class SetNice(Step):
    """Sets the nice value (setpriority(2))."""

    kind = "set_nice"
    calls = "setpriority"
    value: int

    def describe(self) -> str:
        return f"set the nice value to {self.value}"

    def operands(self) -> Operands:
        return Operands(value=self.value % 2**64)

    def hint(self, error: int) -> str | None:
        if error == errno.EACCES:
            return "Lower than the caller's own takes CAP_SYS_NICE on the host, or RLIMIT_NICE"
        return None


class SetAffinity(Step):
    """Sets the CPUs that it may run on (sched_setaffinity(2))."""

    kind = "set_affinity"
    calls = "sched_setaffinity"
    cpus: tuple[int, ...]

    def describe(self) -> str:
        return f"run on the CPUs {', '.join(map(str, self.cpus))}"

    def operands(self) -> Operands:
        size = (max(self.cpus) // 64 + 1) * 8  # whole words, as the kernel wants it
        data = sum(1 << cpu for cpu in self.cpus).to_bytes(size, "little")
        return Operands(value=size, data=data)

    def hint(self, error: int) -> str | None:
        if error == errno.EINVAL:
            return "None of them is there and in its cpuset: see os.sched_getaffinity(0)"
        return None


class SetTimerSlack(Step):
    """Sets how late its timers may be (PR_SET_TIMERSLACK(2const))."""

    kind = "set_timer_slack"
    calls = "prctl"
    nanoseconds: int

    def describe(self) -> str:
        return f"let timers be {self.nanoseconds} ns late"

    def operands(self) -> Operands:
        return Operands(value=self.nanoseconds)


class NewCoreCookie(Step):
    """Has tasks with another cookie kept off its CPU core (PR_SCHED_CORE(2const))."""

    kind = "new_core_cookie"
    calls = "prctl"

    def describe(self) -> str:
        return "share a CPU core only with its own children: a new core scheduling cookie"

    def hint(self, error: int) -> str | None:
        return {
            errno.ENODEV: "No core of this machine runs two threads at once (SMT): leave "
            "core_scheduling out, nobody can share one",
            errno.EINVAL: "This kernel was built without CONFIG_SCHED_CORE",
        }.get(error)


def parse_cpus(cpus: Collection[int]) -> tuple[int, ...]:
    """Return the CPUs in order, each once.

    Raises:
        TypeError: not a collection of numbers.
        ValueError: none at all, or a number out of range.

    Example:
        >>> parse_cpus({3, 1})
        (1, 3)
    """
    if isinstance(cpus, (str, bytes)) or not isinstance(cpus, Collection):
        raise TypeError(f"cpu_affinity={cpus!r}: give a list of CPU numbers")
    for cpu in cpus:
        check_int("cpu_affinity", cpu, 0, _MOST_CPUS - 1)
    if not cpus:
        raise ValueError("cpu_affinity is empty: give at least one CPU, or None")
    return tuple(sorted(set(cpus)))


def check_int(name: str, value: int | None, low: int, high: int) -> None:
    """Raise TypeError or ValueError for what is neither None nor an int from low to high."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not an int")
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is out of range: {low} to {high}")


def scheduling_steps(
    oom_score_adj: int | None,
    nice: int | None,
    cpus: Collection[int] | None,
    timer_slack_ns: int | None,
    *,
    core_scheduling: bool = False,
) -> Iterator[Step]:
    """Yield a step for each that is given."""
    if oom_score_adj is not None:
        yield SetOomScoreAdj(oom_score_adj)
    if nice is not None:
        yield SetNice(nice)
    if cpus is not None:
        yield SetAffinity(parse_cpus(cpus))
    if timer_slack_ns is not None:
        yield SetTimerSlack(timer_slack_ns)
    if core_scheduling:
        yield NewCoreCookie()

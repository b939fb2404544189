"""What a cgroup may be limited to: one vocabulary, that of cgroup v2."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pyns.sizes import parse_size

_CONTROLLER = {
    "memory_max": "memory",
    "memory_swap_max": "memory",
    "pids_max": "pids",
    "cpu_max": "cpu",
    "cpu_weight": "cpu",
    "cpuset_cpus": "cpuset",
}


class Write(NamedTuple):
    """One value for one file of one controller."""

    controller: str
    file: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a cgroup; None leaves the kernel's default.

    Args:
        memory_max: bytes or "100M"; "max" for no limit. Whatever goes beyond is reclaimed, then
            the OOM killer comes.
        memory_swap_max: bytes of swap beside that; 0 for none. On v1 it needs memory_max.
        pids_max: number of processes and threads, or "max".
        cpu_max: CPU time per time, in cores: 0.5 is half of one, 2 is two whole ones.
        cpu_weight: share under contention, 1 to 10000; the default is 100.
        cpuset_cpus: the CPUs to run on: "0-3,6", or their numbers.

    Raises:
        ValueError: a value is out of range or not of its kind.
        TypeError: there is no such limit.

    Needs: nothing; the cgroup needs the controller.
    Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.

    Example:
        >>> Limits(memory_max="100M").memory_max
        104857600
    """

    memory_max: int | str | None = None
    memory_swap_max: int | str | None = None
    pids_max: int | str | None = None
    cpu_max: float | None = None
    cpu_weight: int | None = None
    cpuset_cpus: str | Iterable[int] | None = None

    def __new__(cls, **limits: Any) -> Self:
        """Refuse an unknown limit with the names of those that there are."""
        unknown = sorted(limits.keys() - _CONTROLLER.keys())
        if unknown:
            known = ", ".join(_CONTROLLER)
            raise TypeError(f"unknown limit {', '.join(unknown)}; there are {known}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(name, value))

    def given(self) -> dict[str, Any]:
        """Return the limits that are not None, by name."""
        pairs = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {name: value for name, value in pairs if value is not None}

    def only(self, controllers: Collection[str]) -> Limits:
        """Return those that these controllers have."""
        return Limits(**{n: v for n, v in self.given().items() if _CONTROLLER[n] in controllers})

    def controllers(self) -> set[str]:
        """Return the controllers that these limits need."""
        return {_CONTROLLER[name] for name in self.given()}


def _size(name: str, value: int | str) -> int | str:
    return value if value == "max" else parse_size(name, value)


def _count(name: str, value: int | str) -> int | str:
    if value == "max":
        return value
    return _integer(name, value, 1, 2**22)  # PID_MAX_LIMIT


def _weight(name: str, value: int) -> int:
    return _integer(name, value, 1, 10000)


def _integer(name: str, value: int | str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not an int")
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is out of range: {low} to {high}")
    return value


def _cores(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} is not a number of cores, as 0.5")
    # the kernel takes quotas from 1 ms on; our period is 100 ms
    if not 0.01 <= value <= 10**6:
        raise ValueError(f"{name}={value!r} is out of range: 0.01 to 1000000 cores")
    return value


def _cpus(name: str, value: str | Iterable[int]) -> str:
    if isinstance(value, bytes):
        raise TypeError(f'{name}={value!r} is not a str, as "0-3,6", or numbers')
    if not isinstance(value, str):
        value = ",".join(str(_integer(name, cpu, 0, 2**16)) for cpu in value)
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = [first, last] if dash else [first]
        if not all(n.isascii() and n.isdigit() for n in numbers) or int(numbers[0]) > int(
            numbers[-1]
        ):
            raise ValueError(f'{name}={value!r} is not a list of CPUs, as "0-3,6"')
    return value


_CHECKS: dict[str, Any] = {
    "memory_max": _size,
    "memory_swap_max": _size,
    "pids_max": _count,
    "cpu_max": _cores,
    "cpu_weight": _weight,
    "cpuset_cpus": _cpus,
}

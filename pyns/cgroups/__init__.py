"""cgroups: which are there, making them, limiting, counting, freezing, killing, removing them."""

from pyns.cgroups.cgroup import Cgroup
from pyns.cgroups.events import Event, Trigger
from pyns.cgroups.hierarchy import Hierarchy, current, hierarchies
from pyns.cgroups.limits import Limits
from pyns.cgroups.stats import HugetlbStats, IoStats, Pressure, Stall, Stats
from pyns.cgroups.sweeping import sweep
from pyns.cgroups.values import IoMax
from pyns.cgroups.watch import Watch

__all__ = [
    "Cgroup",
    "Event",
    "Hierarchy",
    "HugetlbStats",
    "IoMax",
    "IoStats",
    "Limits",
    "Pressure",
    "Stall",
    "Stats",
    "Trigger",
    "Watch",
    "current",
    "hierarchies",
    "sweep",
]

"""cgroups: which are there, making them, limiting, counting, freezing, killing, removing them."""

from pyns.cgroups.cgroup import Cgroup
from pyns.cgroups.hierarchy import Hierarchy, current, hierarchies
from pyns.cgroups.limits import Limits
from pyns.cgroups.stats import Stats
from pyns.cgroups.sweeping import sweep
from pyns.cgroups.values import IoMax

__all__ = ["Cgroup", "Hierarchy", "IoMax", "Limits", "Stats", "current", "hierarchies", "sweep"]

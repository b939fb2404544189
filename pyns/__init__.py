"""Start programs in Linux namespaces and cgroups, exactly and fast."""

import os as _os
import sys as _sys
from importlib import import_module as _import_module

from pyns import kernel as _kernel

# before anything that only Linux has is imported
_kernel.check(_sys.platform, _os.uname().release if hasattr(_os, "uname") else "")

TYPE_CHECKING = False  # to a type checker True; typing's would cost more than all else here
if TYPE_CHECKING:
    from pyns import cgroups, masks, namespaces, seccomp
    from pyns.calling import call, check_call, check_output, run
    from pyns.cgroups import IoMax, Limits
    from pyns.completed import Completed
    from pyns.container import Container
    from pyns.devices import Dev
    from pyns.diagnosis import doctor
    from pyns.entries import Dir, File, Symlink
    from pyns.errors import CgroupError, NamespaceError, SpawnError
    from pyns.exceeded import CpuTimeExpired, OutputExceeded, TimeoutExpired
    from pyns.idmap import IdMap
    from pyns.judging import Judged, judge
    from pyns.kernelfs import CgroupFs, Devpts, Mqueue, Proc, Sysfs
    from pyns.landlock import Landlock
    from pyns.links import Device, Veth
    from pyns.mounts import Bind, Tmpfs
    from pyns.namespaces import Fd, Namespace
    from pyns.overlay import Overlay
    from pyns.plan import Plan
    from pyns.process import Process
    from pyns.reason import Reason
    from pyns.scratch import Scratch
    from pyns.starting import clone_into
    from pyns.usage import Usage
    from pyns.usermode import UserNetwork

__all__ = [
    "Bind",
    "CgroupError",
    "CgroupFs",
    "Completed",
    "Container",
    "CpuTimeExpired",
    "Dev",
    "Device",
    "Devpts",
    "Dir",
    "Fd",
    "File",
    "IdMap",
    "IoMax",
    "Judged",
    "Landlock",
    "Limits",
    "Mqueue",
    "Namespace",
    "NamespaceError",
    "OutputExceeded",
    "Overlay",
    "Plan",
    "Proc",
    "Process",
    "Reason",
    "Scratch",
    "SpawnError",
    "Symlink",
    "Sysfs",
    "TimeoutExpired",
    "Tmpfs",
    "Usage",
    "UserNetwork",
    "Veth",
    "call",
    "cgroups",
    "check_call",
    "check_output",
    "clone_into",
    "doctor",
    "judge",
    "masks",
    "namespaces",
    "run",
    "seccomp",
]

# Where each is; imported when it is first asked for: most programs need few of them.
_PLACES = {
    "pyns.calling": (
        "call",
        "check_call",
        "check_output",
        "run",
    ),
    "pyns.cgroups": (
        "IoMax",
        "Limits",
    ),
    "pyns.completed": ("Completed",),
    "pyns.container": ("Container",),
    "pyns.devices": ("Dev",),
    "pyns.diagnosis": ("doctor",),
    "pyns.entries": (
        "Dir",
        "File",
        "Symlink",
    ),
    "pyns.errors": (
        "CgroupError",
        "NamespaceError",
        "SpawnError",
    ),
    "pyns.exceeded": (
        "CpuTimeExpired",
        "OutputExceeded",
        "TimeoutExpired",
    ),
    "pyns.idmap": ("IdMap",),
    "pyns.judging": (
        "Judged",
        "judge",
    ),
    "pyns.kernelfs": (
        "CgroupFs",
        "Devpts",
        "Mqueue",
        "Proc",
        "Sysfs",
    ),
    "pyns.landlock": ("Landlock",),
    "pyns.links": (
        "Device",
        "Veth",
    ),
    "pyns.mounts": (
        "Bind",
        "Tmpfs",
    ),
    "pyns.namespaces": (
        "Fd",
        "Namespace",
    ),
    "pyns.overlay": ("Overlay",),
    "pyns.plan": ("Plan",),
    "pyns.process": ("Process",),
    "pyns.reason": ("Reason",),
    "pyns.scratch": ("Scratch",),
    "pyns.starting": ("clone_into",),
    "pyns.usage": ("Usage",),
    "pyns.usermode": ("UserNetwork",),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}


if not TYPE_CHECKING:  # for which any name would be one

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name not in _PLACE_OF:
            return _import_module(f"pyns.{name}")
        value = globals()[name] = getattr(_import_module(_PLACE_OF[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Start programs in Linux namespaces and cgroups, exactly and fast."""

import os as _os
import sys as _sys

from pyns import kernel as _kernel

# before anything that only Linux has is imported
_kernel.check(_sys.platform, _os.uname().release if hasattr(_os, "uname") else "")

from pyns import cgroups, masks, namespaces, seccomp  # noqa: E402
from pyns.calling import call, check_call, check_output  # noqa: E402
from pyns.cgroups import IoMax, Limits  # noqa: E402
from pyns.container import Container  # noqa: E402
from pyns.devices import Dev  # noqa: E402
from pyns.doctor import doctor  # noqa: E402
from pyns.entries import Dir, File, Symlink  # noqa: E402
from pyns.errors import CgroupError, NamespaceError, SpawnError  # noqa: E402
from pyns.idmap import IdMap  # noqa: E402
from pyns.kernelfs import CgroupFs, Devpts, Mqueue, Proc, Sysfs  # noqa: E402
from pyns.landlock import Landlock  # noqa: E402
from pyns.links import Device, Veth  # noqa: E402
from pyns.mounts import Bind, Tmpfs  # noqa: E402
from pyns.namespaces import Fd, Namespace  # noqa: E402
from pyns.overlay import Overlay  # noqa: E402
from pyns.plan import Plan  # noqa: E402
from pyns.process import Completed, Process, Usage, clone_into, run  # noqa: E402
from pyns.usermode import UserNetwork  # noqa: E402

__all__ = [
    "Bind",
    "CgroupError",
    "CgroupFs",
    "Completed",
    "Container",
    "Dev",
    "Device",
    "Devpts",
    "Dir",
    "Fd",
    "File",
    "IdMap",
    "IoMax",
    "Landlock",
    "Limits",
    "Mqueue",
    "Namespace",
    "NamespaceError",
    "Overlay",
    "Plan",
    "Proc",
    "Process",
    "SpawnError",
    "Symlink",
    "Sysfs",
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
    "masks",
    "namespaces",
    "run",
    "seccomp",
]

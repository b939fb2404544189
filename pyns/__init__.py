"""Start programs in Linux namespaces and cgroups, exactly and fast."""

import os as _os
import sys as _sys

from pyns import kernel as _kernel

# before anything that only Linux has is imported
_kernel.check(_sys.platform, _os.uname().release if hasattr(_os, "uname") else "")

from pyns import cgroups, namespaces, seccomp  # noqa: E402
from pyns.cgroups import IoMax, Limits  # noqa: E402
from pyns.container import Container  # noqa: E402
from pyns.errors import CgroupError, SpawnError  # noqa: E402
from pyns.idmap import IdMap  # noqa: E402
from pyns.mounts import Bind, Proc, Tmpfs  # noqa: E402
from pyns.namespaces import Namespace  # noqa: E402
from pyns.plan import Plan  # noqa: E402
from pyns.process import Completed, Process, Usage, clone_into, run  # noqa: E402

__all__ = [
    "Bind",
    "CgroupError",
    "Completed",
    "Container",
    "IdMap",
    "IoMax",
    "Limits",
    "Namespace",
    "Plan",
    "Proc",
    "Process",
    "SpawnError",
    "Tmpfs",
    "Usage",
    "cgroups",
    "clone_into",
    "namespaces",
    "run",
    "seccomp",
]

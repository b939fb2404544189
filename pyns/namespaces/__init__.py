"""Namespaces: which there are, which a process is in, and getting into others."""

from pyns.namespaces.entering import setns, unshare
from pyns.namespaces.kinds import Namespace, of
from pyns.namespaces.targets import Fd

__all__ = ["Fd", "Namespace", "of", "setns", "unshare"]

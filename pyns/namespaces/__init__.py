"""Namespaces: which there are, which a process is in, getting into others, keeping one alive."""

from pyns.namespaces.entering import setns, unshare
from pyns.namespaces.keeping import keep, release
from pyns.namespaces.kinds import Namespace, of
from pyns.namespaces.targets import Fd

__all__ = ["Fd", "Namespace", "keep", "of", "release", "setns", "unshare"]

"""Namespaces: which there are, and which a process is in."""

from pyns.namespaces.kinds import Namespace, of
from pyns.namespaces.targets import Fd

__all__ = ["Fd", "Namespace", "of"]

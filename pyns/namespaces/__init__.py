"""Namespaces: which there are, and which a process is in."""

from pyns.namespaces.kinds import Namespace, of

__all__ = ["Namespace", "of"]

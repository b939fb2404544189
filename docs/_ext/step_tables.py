"""Directives about the steps: `steps`, each with its sentence, and `hints`, what refusals mean."""

from __future__ import annotations

import errno
import importlib
import inspect
import itertools
import pkgutil
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import pyns
from pyns.namespaces import Namespace
from pyns.steps import Step

CODE = re.compile(r"`([^`]+)`")
ESCAPED = re.compile(r"[*|\\]|_(?=\W)")
HERE = re.compile(r"here is \d+$")  # of Landlock: what this machine has

# what a field may be, so that each hint comes up; by the name of the field, else by its type
BY_NAME: dict[str, tuple[Any, ...]] = {
    "fstype": (b"proc", b"sysfs", b"mqueue", b"overlay", b"FSTYPE"),
    "path": ("/proc/self/uid_map", b"/PATH"),
    "resource": ("nofile", "nproc"),
    "namespaces": (Namespace.USER, Namespace.PID),
    "soft": (0,),
    "hard": (0,),
    "restricted": (("read",),),
}
BY_TYPE: dict[str, tuple[Any, ...]] = {
    "bool": (True, False),
    "bytes": (b"/PATH",),
    "str": ("NAME",),
    "int": (0,),
}


def kinds() -> Iterator[type[Step]]:
    """Yield the classes of steps in the order of their definition."""
    for found in pkgutil.walk_packages(pyns.__path__, "pyns."):
        if not found.name.startswith("pyns._"):
            with suppress(ImportError):  # of an extra
                importlib.import_module(found.name)
    seen: list[type[Step]] = [Step]
    for cls in seen:
        seen += [each for each in cls.__subclasses__() if each not in seen]
    yield from sorted(
        (cls for cls in seen if vars(cls).get("kind")),
        key=lambda cls: (cls.__module__ != "pyns.steps", cls.__module__),
    )


def samples(cls: type[Step]) -> Iterator[Step]:
    """Yield steps of a class with whatever its hints may depend on."""
    types = {
        k: v for each in reversed(cls.__mro__) for k, v in inspect.get_annotations(each).items()
    }
    choices = [
        BY_NAME.get(name, BY_TYPE.get(types[name].partition(" ")[0], ((),))) for name in cls.names
    ]
    yield from itertools.starmap(cls, itertools.product(*choices))


def said(step: Step, number: int) -> str:
    """Return the hint; none for a sample that makes no sense."""
    try:
        return step.hint(number) or ""
    except (AttributeError, TypeError):
        return ""


def hints() -> Iterator[tuple[list[str], set[str], str]]:
    """Yield what steps say about refusals: the kinds that say it, to which errnos, and what."""
    found: dict[tuple[str, str], tuple[list[str], set[str]]] = {}
    for cls in kinds():
        for step, (number, name) in itertools.product(samples(cls), errno.errorcode.items()):
            hint = HERE.sub("the kernel has an older one", said(step, number))
            if hint:
                names = found.setdefault((cls.kind, hint), ([cls.kind], set()))[1]
                names.add(name.replace("ENOTSUP", "EOPNOTSUPP"))
    merged: dict[str, tuple[list[str], set[str]]] = {}
    for (_, hint), (of, names) in found.items():
        known = merged.setdefault(hint, ([], set()))
        known[0].extend(of)
        known[1].update(names)
    for hint, (of, names) in merged.items():
        yield of, names, hint


class Table(SphinxDirective):
    """A table of rows that are reStructuredText."""

    header: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each row."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for first, *others in (self.header, *self.rows()):
            lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
        return self.parse_text_to_nodes("\n".join(lines))


class Steps(Table):
    """Which steps there are."""

    header = ("kind", "what it does", "system calls")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield a row for each kind."""
        for cls in kinds():
            sentence = CODE.sub(r"``\1``", (cls.__doc__ or "").partition("\n")[0])
            calls = " ".join(f"``{call}``" for call in getattr(cls, "calls", "").split())
            yield f"``{cls.kind}``", sentence, calls


class Hints(Table):
    """What is known about refusals."""

    header = ("step", "the kernel says", "cause and cure")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield a row for each hint."""
        for of, names, hint in hints():
            words = (f"``{kind}``" for kind in of)
            yield ", ".join(words), ", ".join(sorted(names)), ESCAPED.sub(r"\\\g<0>", hint)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("steps", Steps)
    app.add_directive("hints", Hints)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""pyns's docstrings as Sphinx reads them: their sections, their code, and where names lead to."""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from collections.abc import Iterator
from textwrap import dedent
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import pyns
from pyns import aio, cgroups, namespaces

PUBLIC = (pyns, cgroups, namespaces, aio)
# where a name is defined → where users import it from; the shortest way is told
PLACES = {
    f"{value.__module__}.{value.__qualname__}": f"{module.__name__}.{name}"
    for module in reversed(PUBLIC)
    for name, value in ((name, getattr(module, name)) for name in module.__all__)
    if hasattr(value, "__qualname__")
}
# words of signatures, which reference/types.rst explains
WORDS = {
    "Arguments",
    "Environment",
    "HasFileno",
    "PopenOptions",
    "Rlimit",
    "Size",
    "SpawnOptions",
    "Stream",
    "StrPath",
    "Target",
}
# what stands in signatures of methods that pyns calls itself
INTERNAL = {"Directory", "Entry", "Operands", "Rlimits", "Run"}

SECTIONS = re.compile(
    r"^(Args|Attributes|Returns|Raises|Needs|Source|Example):(?: |\n)", re.MULTILINE
)
ENTRY = re.compile(r"^([\w.]+(?:, [\w.]+)*): ", re.MULTILINE)
PAGE = re.compile(r"\bdocs/(\w+)\.md\b")
FLAGS = re.compile(r"<(Namespace\.\w+)((?:\|\w+)*): \d+>")  # repr of an enum.Flag
CODE = re.compile(r"(?<![`:])`([^`\n]+)`(?!`)")


def prepare(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Make reStructuredText of a docstring."""
    text, *sections = SECTIONS.split("\n".join(lines))
    parts = [text]
    for heading, content in zip(sections[::2], sections[1::2], strict=True):
        parts.append("\n".join(fields(heading, dedent(content).strip())))
    text = PAGE.sub(r":doc:`/\1`", CODE.sub(as_role, "\n\n".join(parts)))
    lines[:] = text.split("\n")


def readable(
    app: Sphinx, what: str, name: str, value: object, options: object, call: str, returns: str
) -> tuple[str, str] | None:
    """Write defaults that are flags as one would, which Sphinx then can break into lines."""
    return (FLAGS.sub(r"\1\2", call), returns) if call else None


def fields(heading: str, content: str) -> Iterator[str]:
    """Yield a section as fields of reStructuredText; an example follows them."""
    if heading == "Example":
        yield f".. rubric:: Example\n\n{content}\n"
        return
    role = {"Args": "param", "Raises": "raises"}.get(heading)
    entries = ENTRY.split(content)
    if role is not None and len(entries) > 1:
        for names, text in zip(entries[1::2], entries[2::2], strict=True):
            for each in names.split(", ") if role == "param" else [names]:
                yield f":{role} {each}: {text.strip()}"
    elif heading == "Attributes":
        yield ":Attributes:"
        for names, text in zip(entries[1::2], entries[2::2], strict=True):
            yield f"    ``{names}``\n        {indented(dedent(text.strip()), 8)}\n"
    else:
        yield f":{heading}: {indented(content, 4)}"


def indented(text: str, width: int) -> str:
    """Indent all lines but the first."""
    return "\n".join(" " * width + line.strip() for line in text.split("\n")).strip()


def as_role(found: re.Match[str]) -> str:
    """Link a public name; the rest is code."""
    code = found[1]
    path = code if code.startswith("pyns.") else f"pyns.{code}"
    return f":py:obj:`{code} <{path}>`" if is_entry(path) else f"``{code}``"


def is_entry(path: str) -> bool:
    """Whether there is such a name, with an entry in the reference."""
    value: Any = pyns
    for part in path.split(".")[1:]:
        value = getattr(value, part, None)
    return inspect.isfunction(value) or inspect.isclass(value) or isinstance(value, property)


def resolve(app: Sphinx, env: Any, node: Any, contnode: nodes.Element) -> nodes.Element | None:
    """Find a name by where it is defined, or as a word; accept Python's own without a link."""
    target = node.get("reftarget", "")
    place = PLACES.get(target) or PLACES.get(f"{node.get('py:module')}.{target}")
    if target.rpartition(".")[2] in WORDS:
        place = f"pyns.types.{target.rpartition('.')[2]}"
    if place is None and f"pyns.{target}" in PLACES.values():
        place = f"pyns.{target}"
    if place is not None:
        domain = env.domains.python_domain
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", place, node, contnode)
    first, last = target.partition(".")[0], target.rpartition(".")[2]
    is_pythons = first in sys.stdlib_module_names or hasattr(builtins, first)
    return contnode if is_pythons or last in INTERNAL | {"EllipsisType"} else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", prepare)
    app.connect("autodoc-process-signature", readable)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

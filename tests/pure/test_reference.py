"""Every public name has its entry in docs/reference, once; what is there is there to be used."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pyns
from pyns import aio, cgroups, masks, namespaces, seccomp

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
DIRECTIVE = re.compile(
    r"^\.\. (currentmodule|auto\w+|py:data):: (.*(?:\n {13}\w+)*)$", re.MULTILINE
)


def entries() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in REFERENCE.iterdir():
        module = "pyns"
        for directive, names in DIRECTIVE.findall(path.read_text()):
            if directive == "currentmodule":
                module = names
            for name in names.split() if directive not in ("currentmodule", "automodule") else ():
                found[name if name.startswith("pyns.") else f"{module}.{name}"] += 1
    return found


def public_names(module: ModuleType) -> set[str]:
    """Return what a module offers: what it says, else what it defines without an underscore."""
    if hasattr(module, "__all__"):
        names = {name for name in module.__all__ if not inspect.ismodule(getattr(module, name))}
    else:
        names = {
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", module.__name__) == module.__name__
            and (inspect.isfunction(value) or inspect.isclass(value) or name.isupper())
            and not name.startswith("_")
        }
    return {f"{module.__name__}.{name}" for name in names}


# functions and steps that pyns calls itself
INTERNAL = {
    "pyns.masks.mask_steps",
    "pyns.masks.prepare_steps",
    "pyns.seccomp.InstallFilter",
    "pyns.seccomp.check_filter",
}


def test_every_public_name_has_an_entry() -> None:
    """One is missing: a line `.. autofunction::` or `.. autoclass::` in the page of its topic."""
    public = {
        name
        for module in (pyns, cgroups, namespaces, aio, masks, seccomp)
        for name in public_names(module)
    }
    # what pyns offers under two names has its entry under the shorter one
    public -= {
        f"pyns.{module}.{name}" for module in ("cgroups", "namespaces") for name in pyns.__all__
    }
    public -= {name for name in public if name.startswith("pyns.masks.MOUNT_ATTR_")}
    assert public - INTERNAL - entries().keys() == set()


def test_no_name_has_two_entries() -> None:
    assert {name: count for name, count in entries().items() if count > 1} == {}


def test_every_entry_is_of_something() -> None:
    for entry in entries():
        module, _, name = entry.rpartition(".")
        assert hasattr(importlib.import_module(module), name), entry

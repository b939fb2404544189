"""Every public name is documented, and its examples are true."""

from __future__ import annotations

import doctest
import errno
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from types import ModuleType
from typing import Any

import pytest

import pyns
from pyns import CgroupError, NamespaceError, SpawnError, Usage, aio, cgroups, namespaces
from pyns.cgroups import (
    Event,
    Hierarchy,
    HugetlbStats,
    IoStats,
    Pressure,
    Stall,
    Stats,
)
from pyns.cgroups.systemd import delegated_scope
from pyns.steps import LoopbackUp
from pyns.terminal import relay

SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Needs", "Source", "Example")
HEADING = re.compile(rf"^({'|'.join(SECTIONS)}):(?: |$)", re.MULTILINE)


def names_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name in module.__all__:
        yield f"{module.__name__}.{name}", getattr(module, name)


def members_of(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class of pyns defines."""
    for attribute, raw in vars(cls).items():
        method = raw.__func__ if isinstance(raw, (classmethod, staticmethod)) else raw
        if not attribute.startswith("_") and (
            inspect.isfunction(method) or isinstance(method, property)
        ):
            yield f"{name}.{attribute}", method


PUBLIC = dict([*names_of(pyns), *names_of(cgroups), *names_of(aio), *names_of(namespaces)])
PUBLIC["pyns.cgroups.systemd.delegated_scope"] = delegated_scope
PUBLIC["pyns.terminal.relay"] = relay
METHODS = {
    key: method
    for name, value in PUBLIC.items()
    if inspect.isclass(value)
    for key, method in members_of(name, value)
}
DOCUMENTED = PUBLIC | METHODS

WHOLE = {"Raises", "Needs", "Source", "Example"}
# which sections a docstring has beside Args and Returns, which follow from the signature
DEMANDED = {
    "pyns.clone_into": WHOLE,
    "pyns.terminal.relay": WHOLE,
    "pyns.run": WHOLE,
    "pyns.namespaces.keep": WHOLE,
    "pyns.aio.create_subprocess_exec": WHOLE,
    "pyns.aio.create_subprocess_shell": WHOLE,
    "pyns.aio.Process.communicate": WHOLE,
    "pyns.aio.Process.stop": WHOLE,
    "pyns.aio.Process.wait": WHOLE,
    "pyns.aio.run": WHOLE,
    "pyns.Process.kill": WHOLE,
    "pyns.Process.stop": WHOLE,
    "pyns.call": WHOLE,
    "pyns.check_call": WHOLE,
    "pyns.check_output": WHOLE,
    "pyns.doctor": {"Needs", "Source", "Example"},
    "pyns.namespaces.of": WHOLE,
    "pyns.namespaces.release": WHOLE,
    "pyns.namespaces.setns": WHOLE,
    "pyns.namespaces.unshare": WHOLE,
    "pyns.cgroups.hierarchies": WHOLE,
    "pyns.Bind": WHOLE,
    "pyns.Container": WHOLE,
    "pyns.IoMax": WHOLE,
    "pyns.Landlock": WHOLE,
    "pyns.Limits": WHOLE,
    "pyns.CgroupFs": WHOLE,
    "pyns.Dev": WHOLE,
    "pyns.Device": WHOLE,
    "pyns.Devpts": WHOLE,
    "pyns.Dir": WHOLE,
    "pyns.Fd": WHOLE,
    "pyns.File": WHOLE,
    "pyns.Mqueue": WHOLE,
    "pyns.Overlay": WHOLE,
    "pyns.Proc": WHOLE,
    "pyns.Symlink": WHOLE,
    "pyns.Sysfs": WHOLE,
    "pyns.Process": WHOLE,
    "pyns.Tmpfs": WHOLE,
    "pyns.UserNetwork": WHOLE,
    "pyns.Veth": WHOLE,
    "pyns.cgroups.Cgroup.create": WHOLE,
    "pyns.cgroups.Cgroup.apply": WHOLE,
    "pyns.cgroups.Cgroup.stats": WHOLE,
    "pyns.cgroups.Cgroup.watch": WHOLE,
    "pyns.cgroups.Trigger": WHOLE,
    "pyns.cgroups.Watch.wait": WHOLE,
    "pyns.cgroups.Cgroup.kill": WHOLE,
    "pyns.cgroups.Cgroup.remove": WHOLE,
    "pyns.cgroups.systemd.delegated_scope": WHOLE,
    # pure: no privilege, no man page
    "pyns.Container.plan": {"Raises", "Needs", "Example"},
    "pyns.Namespace.parse": {"Raises", "Example"},
    "pyns.Namespace.words": {"Example"},
    "pyns.Plan.explain": {"Needs", "Source", "Example"},
    "pyns.Plan.to_json": {"Example"},
}
SHORT = {"pyns.Namespace.words", "pyns.Plan.to_json"}  # the sentence is what they return


def doc(value: Any) -> str:
    # not inspect.getdoc, which takes a base class's
    return inspect.cleandoc(value.__doc__ or "")


def section(value: Any, name: str) -> str | None:
    """Return the text of a section, None if there is none."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):", doc(value), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(name)


def documented_names(value: Any, name: str) -> list[str]:
    """Return the names in "Args" or "Attributes"; "gid, uid: text" are two."""
    text = section(value, name) or ""
    entries = re.findall(r"^ {4}(\w+(?:, \w+)*): ", text, re.MULTILINE)
    return [each for entry in entries for each in entry.split(", ")]


def parameters(value: Any) -> tuple[list[str], set[str]]:
    """Return the names of the parameters, and which of them may stay unsaid."""
    # Limits.__new__ only refuses what is unknown
    called = value.__init__ if inspect.isclass(value) else value
    given = inspect.signature(called).parameters.values()
    named = [p for p in given if p.name not in ("self", "cls")]
    catch_all = {p.name for p in named if p.kind == p.VAR_KEYWORD}
    return [p.name for p in named], catch_all


@pytest.mark.parametrize("name", DOCUMENTED)
def test_public_name_says_in_one_sentence_what_it_is(name: str) -> None:
    first, *rest = doc(DOCUMENTED[name]).split("\n")
    assert re.fullmatch(r"\S.*\.", first), "the first line ends in a period"
    assert not re.search(r"\. [A-Z]", first), "the first line is one sentence"
    assert rest[:1] in ([], [""]), "a blank line comes after it"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_sections_come_in_their_order_and_once(name: str) -> None:
    found = HEADING.findall(doc(DOCUMENTED[name]))
    assert found == sorted(set(found), key=SECTIONS.index)


@pytest.mark.parametrize("name", DEMANDED)
def test_docstring_has_the_sections_that_are_demanded(name: str) -> None:
    value = DOCUMENTED[name]
    demanded = set(DEMANDED[name])
    if parameters(value)[0] and name not in SHORT:
        demanded.add("Args")
    returns = inspect.signature(value).return_annotation
    if inspect.isfunction(value) and returns not in (None, "None") and name not in SHORT:
        demanded.add("Returns")
    assert set(HEADING.findall(doc(value))) - {"Attributes"} == demanded


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if section(DOCUMENTED[name], "Args")])
def test_args_are_the_parameters(name: str) -> None:
    value = DOCUMENTED[name]
    names, may_stay_unsaid = parameters(value)
    said = documented_names(value, "Args")
    assert said == [each for each in names if each in said or each not in may_stay_unsaid]


@pytest.mark.parametrize(
    "cls",
    [Usage, Stats, IoStats, HugetlbStats, Pressure, Stall, Event, Hierarchy],
    ids=lambda cls: cls.__name__,
)
def test_attributes_of_a_result_are_its_fields(cls: Any) -> None:
    assert documented_names(cls, "Attributes") == [field.name for field in fields(cls)]


@pytest.mark.parametrize(
    "error",
    [
        SpawnError(errno.EPERM, LoopbackUp(), 0, 1),
        CgroupError(errno.EPERM, "x"),
        NamespaceError(errno.EPERM, "x"),
    ],
    ids=["SpawnError", "CgroupError", "NamespaceError"],
)
def test_attributes_of_an_error_are_there(error: OSError) -> None:
    said = documented_names(type(error), "Attributes")
    assert {"errno", "hint"} < set(said)
    assert [name for name in said if not hasattr(error, name)] == []


def test_all_is_sorted_and_complete() -> None:
    for module in (pyns, cgroups, namespaces):
        public = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and not inspect.ismodule(value)
            and getattr(value, "__module__", "").startswith("pyns")
        }
        modules = {name for name in module.__all__ if inspect.ismodule(getattr(module, name))}
        assert module.__all__ == sorted(public | modules)


# the build of the shim is not there once it is built
MODULES = ["pyns"] + [
    found.name
    for found in pkgutil.walk_packages(pyns.__path__, "pyns.")
    if not found.name.startswith("pyns._")
]


@pytest.mark.parametrize("name", MODULES)
def test_module_answers_one_question(name: str) -> None:
    first = doc(importlib.import_module(name)).split("\n")[0]
    assert re.fullmatch(r"[a-zA-Z].*[.:?]", first)


EXAMPLES = {
    test.name: test
    for name in MODULES
    for test in doctest.DocTestFinder().find(importlib.import_module(name))
    if test.examples
}
# those that make cgroups, or need controllers to plan for
NEEDS_CGROUPS = {
    name
    for name, test in EXAMPLES.items()
    if any(
        "Cgroup.create(" in example.source or "limits=" in example.source
        for example in test.examples
    )
}


def run_examples(name: str) -> str:
    said: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(EXAMPLES[name], out=said.append, clear_globs=False)
    return "".join(said)


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - NEEDS_CGROUPS))
def test_example_is_true(name: str) -> None:
    assert run_examples(name) == ""


@pytest.mark.parametrize("name", sorted(NEEDS_CGROUPS))
@pytest.mark.usefixtures("limits")
def test_example_that_needs_cgroups_is_true(name: str) -> None:
    assert run_examples(name) == ""

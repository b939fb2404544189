"""Imports only point downwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import pyns

PACKAGE = Path(pyns.__file__).parent

# top first; a module imports from the layers below its own, never from its own
LAYERS = (
    {"pyns.__main__"},
    {"pyns.cli"},
    {"pyns.cli.demo"},
    {
        "pyns.cli.cgroup",
        "pyns.cli.completion",
        "pyns.cli.doctor",
        "pyns.cli.enter",
        "pyns.cli.plan",
        "pyns.cli.ps",
        "pyns.cli.run",
    },
    {"pyns.cli.program", "pyns.cli.running"},
    {"pyns.cli.options"},
    {"pyns.cli.failing", "pyns.cli.table"},
    {"pyns"},
    {"pyns.judging"},
    {"pyns.aio", "pyns.calling", "pyns.diagnosis"},
    {"pyns.completed", "pyns.starting"},
    {"pyns.process"},
    {"pyns.limited", "pyns.options"},
    {"pyns.terminal"},
    {"pyns.exchange", "pyns.turns"},
    {"pyns.deadline"},
    {"pyns.exceeded"},
    {"pyns.spawn", "pyns.usage"},
    {"pyns.idmapped", "pyns.template"},
    {"pyns.helping", "pyns.scratch"},
    {"pyns.hints", "pyns.marshal"},
    {"pyns.plan"},
    {"pyns.description", "pyns.oci"},
    {"pyns.container"},
    {"pyns.executable", "pyns.joining", "pyns.peers", "pyns.sandbox"},
    {"pyns.command", "pyns.master", "pyns.init", "pyns.landlock", "pyns.rootfs"},
    {
        "pyns.descriptors",
        "pyns.devices",
        "pyns.inside",
        "pyns.links",
        "pyns.masks",
        "pyns.usermode",
    },
    {"pyns.entries", "pyns.kernelfs", "pyns.networking", "pyns.overlay"},
    {
        "pyns.mounts",
        "pyns.cgroups",
        "pyns.capabilities",
        "pyns.labels",
        "pyns.rlimits",
        "pyns.scheduling",
        "pyns.seccomp",
    },
    {"pyns.idmap", "pyns.mount_steps", "pyns.netlink", "pyns.terminal_steps", "pyns.timing"},
    {"pyns.cgroups.systemd"},
    {"pyns.steps", "pyns.cgroups.cgroup", "pyns.cgroups.sweeping"},
    {"pyns.cgroups.limiting"},
    {
        "pyns.namespaces",
        "pyns.cgroups.bpf",
        "pyns.cgroups.killing",
        "pyns.cgroups.meter",
        "pyns.cgroups.mounting",
        "pyns.cgroups.owning",
        "pyns.cgroups.v1",
        "pyns.cgroups.v2",
        "pyns.cgroups.watch",
    },
    {"pyns.cgroups.entry", "pyns.cgroups.freezing", "pyns.cgroups.placing"},
    {"pyns.cgroups.moving", "pyns.namespaces.entering", "pyns.namespaces.keeping"},
    {"pyns.cgroups.delegation", "pyns.namespaces.targets"},
    {
        "pyns.cgroups.events",
        "pyns.cgroups.files",
        "pyns.cgroups.hierarchy",
        "pyns.namespaces.kinds",
        "pyns.linux",
        "pyns.signals",
        "pyns.cgroups.limits",
        "pyns.cgroups.notifying",
        "pyns.cgroups.stats_v1",
        "pyns.cgroups.stats_v2",
    },
    {"pyns.cgroups.values"},
    {"pyns.cgroups.devices", "pyns.cgroups.stats"},
    {
        "pyns.companions",
        "pyns.errors",
        "pyns.handing",
        "pyns.kernel",
        "pyns.log",
        "pyns.sizes",
        "pyns.syscalls",
        "pyns.value",
        "pyns._shim",
        "pyns._shim_build",
    },
    {"pyns.reason"},
)
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}

# those that point upwards, neither of which happens when the module is imported
UPWARDS = {
    ("pyns.container", "pyns.plan"),  # a description that can show its plan
    ("pyns.container", "pyns.description"),  # and read and write itself
    ("pyns.container", "pyns.oci"),
    ("pyns.cgroups.hierarchy", "pyns.cgroups.mounting"),  # a hierarchy that can mount itself
    ("pyns.terminal", "pyns.process"),  # for the type of what it relays
    ("pyns.errors", "pyns.steps"),  # for the type of SpawnError.step
}


class Import(NamedTuple):
    source: str
    target: str
    deferred: bool  # in a function, or for the type checker only
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def module_name(path: Path) -> str:
    parts = ("pyns", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> Iterator[Import]:
    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, deferred, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                target = full if full in LEVEL else str(node.module)
                yield Import(module, target, deferred, node.lineno)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            deferred = True
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                yield from visit(statement, True)
            for statement in node.orelse:
                yield from visit(statement, deferred)
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, deferred)

    yield from visit(ast.parse(FILES[module].read_text()), False)


IMPORTS = [found for module in FILES for found in imports_of(module)]
INTERNAL = [found for found in IMPORTS if found.target.split(".")[0] == "pyns"]


def test_every_module_has_its_layer_and_only_one() -> None:
    assert sorted(FILES.keys() | {"pyns._shim"}) == sorted(m for layer in LAYERS for m in layer)


@pytest.mark.parametrize("module", FILES)
def test_imports_only_point_downwards(module: str) -> None:
    upwards = [
        str(found)
        for found in INTERNAL
        if found.source == module
        and LEVEL[found.target] <= LEVEL[module]
        and (module, found.target) not in UPWARDS
    ]
    assert upwards == []


@pytest.mark.parametrize(("source", "target"), sorted(UPWARDS))
def test_declared_exceptions_exist_and_are_deferred(source: str, target: str) -> None:
    found = [i for i in INTERNAL if (i.source, i.target) == (source, target)]
    assert found
    assert [str(i) for i in found if not i.deferred] == []


def lazy(module: str) -> bool:
    """Whether it imports what is asked for, when it is asked for."""
    return module == "pyns" or module.startswith("pyns.cli")


def test_no_other_import_of_pyns_happens_inside_a_function() -> None:
    typing_only = {("pyns.container", "pyns.command")}
    rarely_used = {("pyns.container", "pyns.sandbox")}
    deferred = {(i.source, i.target) for i in INTERNAL if i.deferred and not lazy(i.source)}
    assert deferred == UPWARDS | typing_only | rarely_used


def test_a_name_is_where_the_type_checker_is_told() -> None:
    told = {
        alias.name: node.module if node.module != "pyns" else f"pyns.{alias.name}"
        for branch in ast.parse(FILES["pyns"].read_text()).body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = {name: getattr(pyns, name) for name in pyns.__all__}
    assert told.keys() == found.keys()
    for name, module in told.items():
        value = import_module(str(module))
        assert found[name] is (value if module == f"pyns.{name}" else getattr(value, name))


def test_what_is_no_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pyns' has no attribute 'nothing'"):
        _ = pyns.nothing  # type: ignore[attr-defined]
    assert set(pyns.__all__) <= set(dir(pyns))


def test_importing_pyns_imports_nothing_that_is_slow() -> None:
    code = "import sys; before = set(sys.modules); import pyns; print(*set(sys.modules) - before)"
    said = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True, timeout=10
    ).stdout
    assert {"pyns", "pyns.kernel"} <= set(said.split())
    assert not {"subprocess", "dataclasses", "re", "inspect", "pyns.steps"} & set(said.split())


def test_cgroups_know_nothing_of_spawning() -> None:
    allowed = {"pyns.errors", "pyns.linux", "pyns.log", "pyns.sizes"}
    outside = [
        str(found)
        for found in INTERNAL
        if found.source.startswith("pyns.cgroups")
        and not found.target.startswith("pyns.cgroups")
        and found.target not in allowed
    ]
    assert outside == []


def test_only_marshal_linux_signals_and_namespaces_touch_the_shim() -> None:
    sources = {found.source for found in INTERNAL if found.target == "pyns._shim"}
    assert sources == {
        "pyns.linux",
        "pyns.marshal",
        "pyns.namespaces.entering",
        "pyns.namespaces.keeping",
        "pyns.signals",
    }


def test_only_the_build_of_the_shim_and_an_extra_need_more_than_the_standard_library() -> None:
    foreign = {
        (found.source, found.target.split(".")[0], found.deferred)
        for found in IMPORTS
        if found.target.split(".")[0] not in sys.stdlib_module_names | {"pyns"}
    }
    # an extra is imported when it is used, not with pyns
    # the command's libraries are the command's alone; that for terminals is an extra
    foreign -= {(i.source, "click", i.deferred) for i in IMPORTS if ".cli" in i.source}
    foreign -= {(i.source, "rich", True) for i in IMPORTS if ".cli" in i.source}
    assert foreign == {
        ("pyns._shim_build", "cffi", False),
        ("pyns.cgroups.systemd", "jeepney", True),
        ("pyns.links", "pyroute2", True),
        ("pyns.netlink", "pyroute2", True),
    }


def test_kernel_is_checked_before_anything_else_of_pyns_is_imported() -> None:
    body = ast.parse(FILES["pyns"].read_text()).body
    [check] = [n for n, node in enumerate(body) if ast.unparse(node).startswith("_kernel.check(")]
    modules = {i.target for i in imports_of("pyns") if i.line < body[check].lineno}
    assert modules == {"os", "sys", "importlib", "pyns.kernel"}


def test_kernel_imports_what_every_platform_has() -> None:
    assert {found.target for found in imports_of("pyns.kernel")} == {"__future__"}

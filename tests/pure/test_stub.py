"""The stub of the binding says what the binding has; stubtest sees only that ffi and lib exist."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import pyns
from pyns._shim import ffi, lib

STUB = Path(pyns.__file__).with_name("_shim.pyi")
[SHIM] = [n for n in ast.parse(STUB.read_text()).body if isinstance(n, ast.ClassDef)]
METHODS = {
    node.name: node
    for node in SHIM.body
    if isinstance(node, ast.FunctionDef) and node.name != "__getattr__"
}
FUNCTIONS = {name: ffi.typeof(getattr(lib, name)) for name in dir(lib) if name.islower()}


def of_python(ctype: Any) -> set[str]:
    """Return the annotations that a C type may have."""
    if ctype.kind == "pointer":
        # struct report, or text for which NULL may be given
        return {"Any", "bytes"} if ctype.item.cname == "char" else {"Any"}
    return {"void": {"None"}, "primitive": {"int"}}[ctype.kind]


def test_every_function_is_in_the_stub_and_no_other() -> None:
    assert sorted(METHODS) == sorted(FUNCTIONS)


def test_everything_else_is_an_integer() -> None:
    assert {type(getattr(lib, name)) for name in dir(lib) if name not in FUNCTIONS} == {int}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_and_result_are_those_of_c(name: str) -> None:
    arguments, ctype = METHODS[name].args, FUNCTIONS[name]
    in_stub = [ast.unparse(a.annotation) for a in arguments.posonlyargs[1:] if a.annotation]
    assert not arguments.args or name in {"get_signal_mask", "after_fork"}
    assert len(in_stub) == len(ctype.args)
    for annotation, argument in zip(in_stub, ctype.args, strict=True):
        assert annotation in of_python(argument)
    assert ast.unparse(METHODS[name].returns or ast.Constant(None)) in of_python(ctype.result)

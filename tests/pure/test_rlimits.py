"""Which resource limits there are, and in which forms they may be given."""

from __future__ import annotations

import dataclasses
import re
import resource
from typing import Any

import pytest

from pyns import Container
from pyns.rlimits import INFINITY, NUMBERS, SetRlimit, parse_rlimits, rlimit_steps


def test_numbers_are_those_of_the_resource_module() -> None:
    known = {
        name.removeprefix("RLIMIT_").lower(): value
        for name, value in vars(resource).items()
        if name.startswith("RLIMIT_")
    }
    del known["ofile"]  # another name of nofile
    assert known.items() <= NUMBERS.items()


@pytest.mark.parametrize(
    ("value", "both"),
    [
        (0, (0, 0)),
        (64, (64, 64)),
        ("unlimited", (INFINITY, INFINITY)),
        ((1, 2), (1, 2)),
        ([1, 2], (1, 2)),
        ((0, "unlimited"), (0, INFINITY)),
        (INFINITY, (INFINITY, INFINITY)),
    ],
    ids=str,
)
def test_value_is_for_both_or_a_pair(value: Any, both: tuple[int, int]) -> None:
    assert parse_rlimits({"core": value}) == (("core", both),)


def test_order_is_that_of_the_numbers_and_not_of_the_mapping() -> None:
    parsed = parse_rlimits({"nofile": 1, "cpu": 2})
    assert parsed == (("cpu", (2, 2)), ("nofile", (1, 1)))
    assert list(rlimit_steps(parsed)) == [SetRlimit("cpu", 2, 2), SetRlimit("nofile", 1, 1)]


@pytest.mark.parametrize(
    ("rlimits", "said"),
    [
        ({"nofiles": 1}, "rlimits: 'nofiles' is none of cpu, fsize, data, "),
        ({"NOFILE": 1}, "rlimits: 'NOFILE' is none of cpu, fsize, data, "),
        ({"core": -1}, 'rlimits: core=-1 is out of range; none at all is "unlimited"'),
        ({"core": 2**64}, f'core={2**64} is out of range; none at all is "unlimited"'),
        ({"core": (2, 1)}, "rlimits: core=(2, 1): soft is above hard"),
        ({"core": ("unlimited", 1)}, "rlimits: core=('unlimited', 1): soft is above hard"),
        ({"core": (1,)}, "rlimits: core=(1,) is not one value, or (soft, hard)"),
        ({"core": ()}, "rlimits: core=() is not one value, or (soft, hard)"),
    ],
    ids=str,
)
def test_value_that_the_kernel_would_not_take_is_refused(rlimits: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Container(rlimits=rlimits)


@pytest.mark.parametrize(
    ("rlimits", "said"),
    [
        ({"core": "1M"}, "rlimits: core='1M' is neither an int nor \"unlimited\""),
        ({"core": None}, 'rlimits: core=None is neither an int nor "unlimited"'),
        ({"core": True}, 'rlimits: core=True is neither an int nor "unlimited"'),
        ({"core": 1.5}, 'rlimits: core=1.5 is neither an int nor "unlimited"'),
        (7, 'rlimits=7 is not a mapping: give {"nofile": 1024, ...}'),
    ],
    ids=str,
)
def test_value_of_another_type_is_refused(rlimits: Any, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        Container(rlimits=rlimits)


def test_container_with_limits_is_a_value() -> None:
    given = {"nofile": 64}
    box = Container(rlimits=given)
    given["nofile"] = 65
    assert box == dataclasses.replace(box) == Container(rlimits={"nofile": (64, 64)})
    assert len({box, dataclasses.replace(box)}) == 1

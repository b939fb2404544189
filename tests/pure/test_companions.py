"""What there is outside for a container ends with it."""

from __future__ import annotations

import errno
from functools import partial

import pytest

from pyns.companions import Companions


def test_companions_end_in_the_reverse_order_and_once() -> None:
    companions, ended = Companions(), list[int]()
    for number in range(3):
        companions.add(partial(ended.append, number))
    companions.end()
    companions.end()
    assert ended == [2, 1, 0]


def test_a_companion_that_comes_too_late_ends_at_once() -> None:
    companions, ended = Companions(), list[int]()
    companions.end()
    companions.add(lambda: ended.append(1))
    assert ended == [1]


def test_a_companion_ends_though_another_one_fails_to() -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "no")

    companions, ended = Companions(), list[int]()
    companions.add(lambda: ended.append(1))
    companions.add(fail)
    with pytest.raises(OSError, match="no"):
        companions.end()
    assert ended == [1]

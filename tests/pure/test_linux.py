"""Numbers that not every Python has are those that the others have."""

from __future__ import annotations

import os

from pyns import linux


def test_numbers_are_those_of_os() -> None:
    ours = {name: number for name, number in vars(linux).items() if name.isupper()}
    theirs = {name: getattr(os, name) for name in ours if hasattr(os, name)}
    assert {"O_PATH", "ST_NOEXEC", "ST_NOSUID"} <= theirs.keys()  # PyPy has none of these
    assert theirs == {name: ours[name] for name in theirs}

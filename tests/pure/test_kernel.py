"""Where pyns refuses to be imported."""

from __future__ import annotations

import os
import sys

import pytest

from pyns import kernel


@pytest.mark.parametrize(
    "release",
    [
        "5.14",
        "5.14.0-rc1",
        "5.14.0-362.8.1.el9_3.x86_64",
        "5.100.1",
        "6.0.0",
        "6.1.0-13-amd64",
        "10.2",
    ],
)
def test_new_kernels_pass(release: str) -> None:
    kernel.check("linux", release)


@pytest.mark.parametrize("release", ["", "6", "custom", "v4.19"])
def test_a_release_that_is_no_number_gets_the_benefit_of_the_doubt(release: str) -> None:
    kernel.check("linux", release)


@pytest.mark.parametrize("release", ["5.13.19", "5.4.0-216-generic", "5.1", "4.19.0-26-amd64"])
def test_old_kernels_are_named_with_what_is_needed(release: str) -> None:
    with pytest.raises(ImportError) as raised:
        kernel.check("linux", release)
    assert str(raised.value) == (
        "pyns needs Linux 5.14 or later (mount_setattr, cgroup.kill, "
        f"clone3 with CLONE_INTO_CGROUP); this is {release}"
    )


@pytest.mark.parametrize(
    ("platform", "release"),
    [("darwin", "23.1.0"), ("win32", ""), ("freebsd14", "14.0-RELEASE"), ("cygwin", "3.4.9")],
)
def test_other_systems_are_refused_whatever_their_release(platform: str, release: str) -> None:
    with pytest.raises(ImportError) as raised:
        kernel.check(platform, release)
    assert str(raised.value) == (
        f"pyns needs Linux 5.14 or later (namespaces, cgroups, clone3); this is {platform}"
    )


def test_this_machine_passes() -> None:
    kernel.check(sys.platform, os.uname().release)

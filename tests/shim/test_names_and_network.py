"""What the child sets in its UTS and network namespaces."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from pyns.namespaces import Namespace
from pyns.steps import Clone, LoopbackUp, SetDomainname, SetHostname, SetUid

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
NAMES = Clone(Namespace.UTS)
NETWORK = Clone(Namespace.NET)
LONGEST = 64  # __NEW_UTS_LEN

pytestmark = pytest.mark.usefixtures("root_only")


@pytest.mark.parametrize("name", [b"demo", b"n" * LONGEST, b""], ids=["short", "longest", "empty"])
def test_the_hostname_is_set_inside_and_not_outside(name: bytes, output: Output) -> None:
    before = os.uname().nodename
    inside = output(NAMES, SetHostname(name), script="cat /proc/sys/kernel/hostname")
    assert inside == name.decode()
    assert os.uname().nodename == before


def test_the_domainname_is_set_inside(output: Output) -> None:
    script = "cat /proc/sys/kernel/domainname /proc/sys/kernel/hostname"
    inside = output(NAMES, SetDomainname(b"example"), script=script)
    assert inside.splitlines() == ["example", os.uname().nodename]


@pytest.mark.parametrize("step", [SetHostname, SetDomainname])
def test_a_name_that_is_too_long_fails_with_einval(
    step: type[SetHostname | SetDomainname], failure: Failure
) -> None:
    assert failure(NAMES, step(b"n" * (LONGEST + 1))) == (1, errno.EINVAL)


@pytest.mark.parametrize("step", [SetHostname(b"demo"), SetDomainname(b"demo"), LoopbackUp()])
def test_without_privilege_it_fails_with_eperm(
    step: SetHostname | SetDomainname | LoopbackUp, failure: Failure
) -> None:
    clone = Clone(Namespace.UTS | Namespace.NET)
    assert failure(clone, SetUid(65534), step) == (2, errno.EPERM)


def test_loopback_has_its_address_once_it_is_up(output: Output) -> None:
    script = "cat /proc/self/net/fib_trie"  # the addresses of interfaces that are up
    assert output(NETWORK, script=script) == ""
    assert "127.0.0.1" in output(NETWORK, LoopbackUp(), script=script)


def test_loopback_that_is_up_already_stays_up(output: Output) -> None:
    twice = output(NETWORK, LoopbackUp(), LoopbackUp(), script="cat /proc/self/net/fib_trie")
    assert "127.0.0.1" in twice


def test_loopback_up_leaves_no_fd_to_the_program(output: Output) -> None:
    script = "ls /proc/self/fd | wc -l"
    assert output(NETWORK, LoopbackUp(), script=script) == output(NETWORK, script=script)

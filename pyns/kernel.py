"""Whether this kernel can run pyns at all."""

from __future__ import annotations

_MINIMUM = (5, 14)


def check(platform: str, release: str) -> None:
    """Raise ImportError, which says what is needed, when pyns can't work here.

    Args:
        platform: sys.platform.
        release: os.uname().release, such as "6.1.0-13-amd64".

    Example:
        >>> check("linux", "6.1.0-13-amd64")
    """
    needed = "pyns needs Linux {}.{} or later".format(*_MINIMUM)
    if platform != "linux":
        raise ImportError(f"{needed} (namespaces, cgroups, clone3); this is {platform}")
    if not is_at_least(_MINIMUM, release):
        raise ImportError(
            f"{needed} (mount_setattr, cgroup.kill, clone3 with CLONE_INTO_CGROUP); "
            f"this is {release}"
        )


def is_at_least(version: tuple[int, int], release: str) -> bool:
    """Whether a kernel is of a version or later; one that does not say which it is, is.

    Args:
        version: major and minor number.
        release: os.uname().release.

    Example:
        >>> is_at_least((6, 2), "6.1.0-13-amd64")
        False
    """
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return not (major.isdecimal() and minor) or (int(major), int(minor)) >= version

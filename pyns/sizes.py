"""How many bytes "1.5GiB" is."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = "KMGTPE"
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*(?:([{_UNITS}])(?:iB)?|B)?", re.ASCII)

# The largest value a kernel counter of pages takes, in bytes of whole 4096-byte pages.
_LARGEST = 2**63 - 4096


def parse_size(what: str, size: int | str) -> int:
    """Return a size in bytes.

    Args:
        what: the name of the argument, for the error.
        size: bytes, or a number with a unit K, M, G, T, P, E (or KiB, MiB, ...): powers of 1024,
            as everywhere in cgroups and mount options.

    Returns:
        Bytes.

    Raises:
        ValueError: negative, too large, or not a size.

    Example:
        >>> parse_size("memory_max", "1.5GiB")
        1610612736
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size.strip())
        if match is None:
            raise ValueError(
                f'{what}={size!r} is not a size: give bytes, or "100M", "1.5GiB" (powers of 1024)'
            )
        number, unit = match.groups()
        factor = 1 << 10 * (_UNITS.index(unit) + 1) if unit else 1
        whole, _, fraction = number.partition(".")
        size = int(whole) * factor + int(fraction or "0") * factor // int(10 ** len(fraction))
    elif isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f'{what}={size!r}: a size is an int (bytes) or a str like "100M"')
    if not 0 <= size <= _LARGEST:
        raise ValueError(f"{what}={size!r} is out of range: 0 to {_LARGEST} bytes")
    return size

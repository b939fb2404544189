"""Sizes are read in powers of 1024, or refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyns.sizes import parse_size

LARGEST = 2**63 - 4096


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 0),
        (4096, 4096),
        (LARGEST, LARGEST),
        ("0", 0),
        ("4096", 4096),
        ("512B", 512),
        ("1K", 1024),
        ("1KiB", 1024),
        ("100M", 104857600),
        ("100MiB", 104857600),
        ("1.5GiB", 1610612736),
        ("1.5 G", 1610612736),
        ("  2G ", 2 * 1024**3),
        ("3T", 3 * 1024**4),
        ("1P", 1024**5),
        ("1E", 1024**6),
        ("0.5K", 512),
        ("1.9", 1),
        ("9007199254740993", 2**53 + 1),
        (f"{LARGEST}", LARGEST),
    ],
)
def test_size_is_in_bytes(size: int | str, expected: int) -> None:
    parsed = parse_size("memory_max", size)
    assert (parsed, type(parsed)) == (expected, int)


@pytest.mark.parametrize(
    "size",
    [
        "",
        " ",
        "M",
        "-1",
        "+1",
        "1KB",
        "1kb",
        "100m",
        "1Ki",
        "1iB",
        "1.M",
        ".5M",
        "1,5G",
        "0x10",
        "1e3",
        "1_000",
        "100 MM",
        "max",
        "\N{ARABIC-INDIC DIGIT ONE}M",
        "1\n2",
    ],
)
def test_text_that_is_no_size_is_refused_with_examples(size: str) -> None:
    said = f'memory_max={size!r} is not a size: give bytes, or "100M", "1.5GiB" (powers of 1024)'
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_size("memory_max", size)


@pytest.mark.parametrize(
    "size",
    [-1, LARGEST + 1, 2**64, "8E", "8192P", "9.5E", "9" * 30, "9" * 400 + ".5"],
    ids=["negative", "largest+1", "2**64", "8E", "8192P", "9.5E", "30 digits", "float infinity"],
)
def test_size_that_no_counter_holds_is_refused_with_the_range(size: int | str) -> None:
    with pytest.raises(ValueError, match=f"size=.* is out of range: 0 to {LARGEST} bytes"):
        parse_size("size", size)


@pytest.mark.parametrize("size", [1.5, True, False, None, b"100M", [1]], ids=repr)
def test_other_types_are_refused(size: Any) -> None:
    said = f'size={size!r}: a size is an int (bytes) or a str like "100M"'
    with pytest.raises(TypeError, match=re.escape(said)):
        parse_size("size", size)

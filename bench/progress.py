"""How far a run is: a line on the terminal, over and over; in a log, one for each scene."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Progress:
    """Writes past pytest's capture."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._terminal: Any = sys.__stderr__
        self._shown = 0.0

    @contextmanager
    def of(self, scene: str, rounds: int) -> Iterator[Callable[[int], None]]:
        """Yield what is to be called with the number of each round."""
        begin = time.monotonic()

        def tell(number: int) -> None:
            now = time.monotonic()
            if number > 0 and now - self._shown > 0.5 and self._terminal.isatty():
                left = (now - begin) * (rounds - number) / number
                self._write(f"\r\033[K  {scene}: round {number} of {rounds}, {left:.0f} s left")
                self._shown = now

        yield tell
        start = "\r\033[K" if self._shown else "\n"
        self._shown = 0.0
        self._write(f"{start}  {scene}: {rounds} rounds, {time.monotonic() - begin:.1f} s ")

    def _write(self, text: str) -> None:
        with self._capture.global_and_fixture_disabled():
            self._terminal.write(text)
            self._terminal.flush()

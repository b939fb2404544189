"""What is done, told to logging under the name "pyns" at debug level: nothing if nobody listens."""

from __future__ import annotations

import sys
from typing import Any

_DEBUG = 10  # logging.DEBUG
_logger: Any = None


def is_heard() -> bool:
    """Whether somebody listens.

    Who has not imported logging listens to nothing, and need not pay for the import. To find the
    logger anew would be 3 us each time.
    """
    global _logger
    if _logger is None:
        # while another thread imports it, it has not got it yet
        find = getattr(sys.modules.get("logging"), "getLogger", None)
        if find is None:
            return False
        _logger = find("pyns")
    return bool(_logger.isEnabledFor(_DEBUG)) and not sys.is_finalizing()


def debug(message: str, *values: object) -> None:
    """Tell something; the values are put into the message only if somebody listens.

    Args:
        message: with a place of printf for each value.
        values: what goes there.
    """
    if is_heard():
        _logger.debug(message, *values, stacklevel=2)

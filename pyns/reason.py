"""What ended a program."""

from __future__ import annotations

import enum
import signal


class Reason(enum.StrEnum):
    """What ended a program, or kept it from running.

    Attributes:
        EXITED: it has returned a status, `returncode`. Also 137, which is no signal.
        SIGNALED: a signal ended it, `-returncode`.
        OOM_KILLED: SIGKILL ended it, which pyns did not send, and the OOM killer took processes of
            its group (`usage.oom_kills`). If it took another one only, and the program went on to
            an end of its own, that end is the reason.
        TIMEOUT: it was ended because of `timeout`.
        CPU_TIME: it was ended because of `cpu_time`, or has used more by its end.
        OUTPUT: it was ended because of `output_max`, or had written more by its end.
        NOT_STARTED: there was no program: the exception says why.
    """

    EXITED = "exited"
    SIGNALED = "signaled"
    OOM_KILLED = "oom_killed"
    TIMEOUT = "timeout"
    CPU_TIME = "cpu_time"
    OUTPUT = "output"
    NOT_STARTED = "not_started"


def reason_of_status(returncode: int, *, oom_kills: int | None, is_ours: bool) -> Reason:
    """Return the reason for an end that no limit of ours has brought.

    Args:
        returncode: as subprocess has it.
        oom_kills: processes of its group that the OOM killer took; None if nobody counts.
        is_ours: whether SIGKILL was sent by pyns.
    """
    if returncode >= 0:
        return Reason.EXITED
    if returncode == -signal.SIGKILL and oom_kills and not is_ours:
        return Reason.OOM_KILLED
    return Reason.SIGNALED

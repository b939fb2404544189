"""One submission: files in, a program that nobody trusts, files out, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyns.calling import run
from pyns.command import Arguments
from pyns.completed import Completed
from pyns.container import Container
from pyns.entries import File
from pyns.mounts import Bind, Mount, StrPath
from pyns.scratch import Scratch, encode_name

_PLACE = "/tmp"  # noqa: S108  the sandbox's own


class Judged(Completed):
    """A Completed with the files that the program has left.

    Attributes:
        files: name → content, of those that were asked for and could be read.
        file_errors: name → why not, of the others: FileNotFoundError, or OSError with EFBIG, ELOOP
            (a link), EISDIR, ...
    """

    files: Mapping[str, bytes]
    file_errors: Mapping[str, OSError]


def judge(
    args: Arguments,
    *,
    files: Mapping[str, bytes | StrPath] | None = None,
    outputs: Mapping[str, int] | None = None,
    input: bytes = b"",  # noqa: A002  subprocess.run's name
    timeout: float,
    cpu_time: float | None = None,
    output_max: int = 1 << 20,
    tmp_size: int | str = "64M",
    mounts: Sequence[Mount] = (),
    **fields: Any,
) -> Judged:
    r"""Run a program in a sandbox of its own, in an empty /tmp, and say what became of it.

    An end by a limit, and a program that can't be started, are told by `reason`. Nothing is left.

    Args:
        args: as for `clone_into`. It runs in /tmp.
        files: what is in /tmp for it: name → content, or a path of the caller's, which the user
            that the program is has to be allowed to read. They can be executed, not written.
        outputs: what is read of /tmp when it has ended: name → bytes that it may have at most.
        input: what it reads from stdin.
        timeout: seconds.
        cpu_time: seconds of CPU time of all its processes.
        output_max: bytes of stdout, and of stderr.
        tmp_size: of /tmp, bytes or "64M"; what it writes there counts for its memory.
        mounts: as for `Container.sandbox`.
        fields: as for `Container.sandbox`: `root`, `limits`, `cgroup`, `host_id`, ...

    Returns:
        Its status, reason, usage, stdout, stderr and files.

    Raises:
        ValueError: what was asked makes no sense. Nothing was started then.

    Needs: what `Container.sandbox` needs; write access to cgroups for limits.
    Source: docs/judge.md.

    Example:
        >>> done = judge(["sh", "sum"], files={"sum": b"read a b; echo $((a + b))"}, input=b"1 2\n",
        ...              timeout=10, limits=None)
        >>> done.stdout, done.reason
        (b'3\n', <Reason.EXITED: 'exited'>)
    """
    files, outputs = dict(files or {}), dict(outputs or {})
    for name in (*files, *outputs):
        encode_name(name)
    if both := files.keys() & outputs.keys():
        raise ValueError(f"files and outputs both have {sorted(both)}: no file of ours is written")
    with Scratch(_PLACE, tmp_size) as scratch:
        box = Container.sandbox(mounts=mounts, **fields)
        own = tuple([mount for mount in box.all_mounts if mount.place != _PLACE.encode()])
        given = [_given(f"{_PLACE}/{name}", file) for name, file in files.items()]
        done = run(
            replace(box, mounts=(*own, scratch.mount, *given)),
            args,
            input=input,
            capture_output=True,
            timeout=timeout,
            cpu_time=cpu_time,
            output_max=output_max,
            verdict=True,
            cwd=_PLACE,
        )
        judged = Judged(done.args, done.returncode, done.stdout, done.stderr)
        judged.__dict__.update(vars(done))
        judged.files, judged.file_errors = _left(scratch, outputs)
    return judged


def _given(target: str, file: bytes | StrPath) -> Mount:
    if isinstance(file, bytes):
        return File(target, file, mode=0o755)
    return Bind(file, target, read_only=True, nosuid=True, nodev=True)


def _left(
    scratch: Scratch, outputs: Mapping[str, int]
) -> tuple[dict[str, bytes], dict[str, OSError]]:
    files, errors = {}, {}
    for name, size in outputs.items():
        try:
            files[name] = scratch.read(name, size=size)
        except OSError as error:
            errors[name] = error
    return files, errors

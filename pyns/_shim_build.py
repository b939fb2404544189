"""Builds pyns._shim with cffi: csrc/plan.h is what Python sees, csrc/*.c what is compiled."""

import platform
import sysconfig
from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")  # relative to setup.py, where setuptools runs
SOURCES = ("clone.c", "lending.c", "child.c", "mount.c", "terminal.c", "thread.c")

free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
limited_api = platform.python_implementation() == "CPython" and not free_threaded

ffibuilder = FFI()
ffibuilder.cdef((Path(__file__).parent.parent / CSRC / "plan.h").read_text())
ffibuilder.set_source(
    "pyns._shim",
    '#include "shim.h"',
    sources=[str(CSRC / name) for name in SOURCES],
    include_dirs=[str(CSRC)],
    depends=[str(CSRC / name) for name in ("plan.h", "shim.h", "raw.h")],
    define_macros=[("Py_LIMITED_API", "0x030b0000")] if limited_api else [],
    extra_compile_args=[
        *("-O2", "-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden"),
        f"-ffile-prefix-map={Path.cwd()}=.",  # the same bytes wherever it is built
    ],
    # now: the child must not run the dynamic linker's lazy binding
    extra_link_args=["-Wl,-z,relro,-z,now"],
)

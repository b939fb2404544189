"""What pyproject.toml can't say: the shim, and the tag of its wheel."""

import platform
import sysconfig

import cffi  # noqa: F401  without it setuptools would silently build a wheel without the shim
from setuptools import setup

free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
limited_api = platform.python_implementation() == "CPython" and not free_threaded

setup(
    cffi_modules=["pyns/_shim_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited_api else {},
)

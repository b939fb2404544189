"""What pyproject.toml can't say: the shim and its init, and the tag of their wheel."""

import platform
import sysconfig
from pathlib import Path

import cffi  # noqa: F401  without it setuptools would silently build a wheel without the shim
from setuptools import setup
from setuptools.command.build_ext import build_ext

free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
limited_api = platform.python_implementation() == "CPython" and not free_threaded

INIT = "pyns/pyns-init"
# Without libc the program needs nothing of the machine that builds it but a compiler. What the
# environment's CFLAGS may ask for, and what only a libc could give, is switched off.
COMPILE = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-ffreestanding", "-fno-pie", "-fno-lto"]
COMPILE += ["-fno-stack-protector", "-fno-sanitize=all", "-U_FORTIFY_SOURCE"]
LINK = ["-nostdlib", "-static", "-no-pie", "-fno-lto", "-fno-sanitize=all", "-s"]
LINK += ["-Wl,--build-id=none,-z,noexecstack"]


class BuildWithInit(build_ext):
    """Builds pyns-init beside the shim, with the same compiler: for the same machine."""

    def run(self) -> None:
        super().run()
        if self.inplace:  # an editable install
            self.build_init(Path(self.get_finalized_command("build_py").get_package_dir("pyns")))
        else:
            self.build_init(Path(self.build_lib, "pyns"))

    def build_init(self, directory: Path) -> None:
        objects = self.compiler.compile(
            ["csrc/init.c", "csrc/child.c"],
            output_dir=str(Path(self.build_temp, "init")),
            include_dirs=["csrc"],
            depends=["csrc/plan.h", "csrc/shim.h", "csrc/raw.h"],
            extra_postargs=COMPILE,
        )
        self.compiler.link_executable(
            objects, "pyns-init", output_dir=str(directory), extra_postargs=LINK
        )

    def get_outputs(self) -> list[str]:
        return [*super().get_outputs(), str(Path(self.build_lib, INIT))]

    def get_output_mapping(self) -> dict[str, str]:
        mapping = super().get_output_mapping()
        return mapping | {str(Path(self.build_lib, INIT)): INIT} if self.inplace else mapping


setup(
    cffi_modules=["pyns/_shim_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildWithInit},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited_api else {},
)

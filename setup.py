"""What pyproject.toml can't say: the shim and its init, the tag of their wheel, and its parts."""

import json
import platform
import re
import sys
import sysconfig
from pathlib import Path

import cffi  # without it setuptools would silently build a wheel without the shim
from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

if sys.version_info < (3, 11):  # noqa: UP036  # pip looks at requires-python when this has run
    sys.exit(f"pyns needs Python 3.11 or later: this is {platform.python_version()}")

INIT = "pyns/pyns-init"
# Without libc the program needs nothing of the machine that builds it but a compiler. What the
# environment's CFLAGS may ask for, and what only a libc could give, is switched off.
COMPILE = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-ffreestanding", "-fno-pie", "-fno-lto"]
COMPILE += ["-fno-stack-protector", "-fno-sanitize=all", "-U_FORTIFY_SOURCE"]
LINK = ["-nostdlib", "-static", "-no-pie", "-fno-lto", "-fno-sanitize=all", "-s"]
LINK += ["-Wl,--build-id=none,-z,noexecstack"]


# a link of the README to what is beside it, and whether an image is there
BESIDE = re.compile(r"(!?)(\[[^][]*\]\(|^\[[^][]+\]: )(?!\w+:|#)([^)\s]+)", re.MULTILINE)


def described() -> str:
    """Return the README as the index has it, where nothing is beside it.

    Its links lead to this version in `project.urls.Source`, a repository as GitHub shows it; there
    is none as long as that is not given.
    """
    import tomllib  # not in those that are too old

    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    readme = Path("README.md").read_text()
    source = project.get("urls", {}).get("Source")
    if source is None:
        return readme

    def absolute(link: re.Match[str]) -> str:
        image, before, path = link.groups()
        return f"{image}{before}{source}/{'raw' if image else 'blob'}/v{project['version']}/{path}"

    return BESIDE.sub(absolute, readme)


def stable_abi() -> str | None:
    """Return the oldest Python whose stable ABI the shim keeps to; None where there is none."""
    if platform.python_implementation() != "CPython":
        return None
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "cp315" if sys.version_info >= (3, 15) else None
    return "cp311"


class BuildWithInit(build_ext):
    """Builds pyns-init beside the shim, with the same compiler: for the same machine."""

    def run(self) -> None:
        super().run()
        if self.inplace:  # an editable install
            self.build_init(Path(self.get_finalized_command("build_py").get_package_dir("pyns")))
        else:
            self.build_init(Path(self.build_lib, "pyns"))

    def build_extensions(self) -> None:
        # some Pythons pass on where their own libraries lie; the shim needs none but libc
        linker = self.compiler.linker_so
        self.compiler.linker_so = [word for word in linker if not word.startswith("-Wl,-rpath")]
        super().build_extensions()

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


class WheelWithBom(bdist_wheel):
    """Adds a bill of materials (PEP 770, CycloneDX): what is compiled in and not written here."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        super().egg2dist(egginfo_path, distinfo_path)
        bom = Path(distinfo_path, "sboms", "pyns.cdx.json")
        bom.parent.mkdir()
        bom.write_text(json.dumps(self.bill(), indent=2) + "\n")

    def bill(self) -> dict[str, object]:
        def component(name: str, version: str, license_id: str) -> dict[str, object]:
            return {
                "type": "library",
                "bom-ref": name,
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": license_id}}],
                "purl": f"pkg:pypi/{name}@{version}",
            }

        metadata = self.distribution.metadata
        ours, name = str(metadata.license_expression), str(metadata.name)
        bindings = component("cffi", cffi.__version__, "MIT-0")
        return {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"component": component(name, str(metadata.version), ours)},
            "components": [bindings | {"description": "its C headers, in pyns._shim"}],
            "dependencies": [{"ref": name, "dependsOn": ["cffi"]}],
        }


setup(
    long_description=described(),
    long_description_content_type="text/markdown",
    cffi_modules=["pyns/_shim_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildWithInit, "bdist_wheel": WheelWithBom},
    options={"bdist_wheel": {"py_limited_api": stable_abi() or False}},
)

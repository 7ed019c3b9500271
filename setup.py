"""Builds the three extensions; everything else about the package is in pyproject.toml.

MINIGO_DEBUG=1 builds with bounds checks, assertions and the compiler's array-bounds sanitizer.
"""

import os
import shutil
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

DEBUG = os.environ.get("MINIGO_DEBUG") == "1"

# cdivision in both builds, so that // and % mean one thing.
DIRECTIVES = {
    "language_level": 3,
    "cdivision": True,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "embedsignature": True,
}

if DEBUG:
    COMPILE = ["-O1", "-g", "-fsanitize=bounds", "-fno-sanitize-recover=bounds"]
    LINK = ["-fsanitize=bounds"]
    MACROS = []
else:
    COMPILE = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0"]
    LINK = []
    MACROS = [("CYTHON_WITHOUT_ASSERTIONS", "1"), ("NDEBUG", "1")]
# One wheel for Python 3.11 and all that come later (pyproject.toml names it so).
MACROS.append(("Py_LIMITED_API", "0x030B0000"))


class BuildWithCheckpoints(build_py):
    """Puts the shipped networks of checkpoints/ into the wheel, as minigo/checkpoints/."""

    def run(self):
        super().run()
        target = Path(self.build_lib, "minigo", "checkpoints")
        for path in sorted(Path("checkpoints").glob("*.safetensors")):
            if not self.editable_mode:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)


def extension(name: str) -> Extension:
    return Extension(
        f"minigo.{name}",
        [f"src/minigo/{name}.pyx"],
        define_macros=MACROS,
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        py_limited_api=True,
    )


setup(
    ext_modules=cythonize(
        [extension("_board"), extension("_tree")],
        compiler_directives=DIRECTIVES,
        build_dir="build/debug" if DEBUG else "build/release",
    ),
    cmdclass={"build_py": BuildWithCheckpoints},
)

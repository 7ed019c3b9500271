"""The package's shape: who imports whom, how long it all is, and what works without torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "minigo"

# A module imports only from layers with a smaller number (DESIGN.md, Modules).
LAYERS = [
    {"__init__", "coords", "elo", "machine"},
    {"config"},
    {"_board"},
    {"_tree", "record"},
    {"sgf", "network"},
    {"archive", "checkpoint", "replay"},
    {"evaluator", "train"},
    {"search"},
    {"selfplay", "imitation", "arena", "engine", "analyze"},
    {"bench", "gtp", "rate"},
    {"loop", "lessons"},
    {"cli"},
    {"__main__"},
]
LAYER_OF = {module: layer for layer, modules in enumerate(LAYERS) for module in modules}
SUFFIXES = (".py", ".pyx", ".pxd", ".pyi")
SOURCES = sorted(path for path in PACKAGE.iterdir() if path.suffix in SUFFIXES)


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, in whatever function and way."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".pyx", ".pxd"):
        lines = re.findall(r"^\s*((?:from|cimport|import)\b.*)", text, re.MULTILINE)
        text = "\n".join(line.split("(")[0] + " *" * ("(" in line) for line in lines)
        text = re.sub(r"\bcimport\b", "import", text)
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("minigo." * (node.level > 0) + (node.module or "")).rstrip(".")
            names = [base] if base != "minigo" else [f"minigo.{alias.name}" for alias in node.names]
        else:
            continue
        modules |= {name.split(".")[1] for name in names if name.startswith("minigo.")}
    return modules - {"__version__"}


def test_every_module_has_its_layer():
    assert {path.stem for path in SOURCES} == set(LAYER_OF)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_module_imports_only_from_lower_layers(path):
    for module in imported_modules(path) - ({path.stem} if path.suffix == ".pyx" else set()):
        assert LAYER_OF.get(module, 99) < LAYER_OF[path.stem], f"{path.name} imports {module}"


def test_imports_are_found_however_they_are_written(tmp_path):
    python = tmp_path / "a.py"
    python.write_text(
        "from . import coords\nimport minigo.config\nfrom minigo import record as r, __version__\n"
        "def f():\n    from ._board import Board\n    from minigo._tree import Forest\n"
    )
    assert imported_modules(python) == {"coords", "config", "record", "_board", "_tree"}
    cython = tmp_path / "a.pyx"
    cython.write_text(
        "cimport minigo.coords\nfrom ._board cimport (\n    Board, play,\n)\n"
        "from .config import Rules\nfrom libc.math cimport sqrt\n"
        "cdef int f():\n    from .record import GameRecord\n"
    )
    assert imported_modules(cython) == {"coords", "_board", "config", "record"}


def test_the_package_stays_small():
    sizes = {path.name: num_code_lines(path) for path in SOURCES}
    assert sum(sizes.values()) < 7000, sizes


def num_code_lines(path: Path) -> int:
    """Count the lines that are neither blank, nor comment, nor docstring."""
    text = re.sub(r'"""[\s\S]*?"""', "", path.read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def run_without(blocked: str, code: str) -> str:
    """Run Python in which the modules named cannot be imported; return what it prints."""
    block = f"import sys\nfor name in {blocked.split()!r}: sys.modules[name] = None\n"
    result = subprocess.run(
        [sys.executable, "-c", block + code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_lower_layers_work_without_torch():
    modules = sorted(f"minigo.{m}" for layer in LAYERS[:4] for m in layer if m != "__init__")
    code = "import minigo\n" + "".join(f"import {module}\n" for module in modules)
    code += "board = minigo._board.Board(5); board.play(12)\n"
    code += "from minigo.config import SearchConfig\n"
    code += "print(len(minigo._tree.Forest([board], SearchConfig())), minigo.__version__ > '')"
    assert run_without("torch openvino sgfmill tqdm", code) == "1 True\n"


def test_importing_minigo_loads_no_torch():
    code = "import minigo; print(sorted(m for m in sys.modules if m in ('torch', 'openvino')))"
    assert run_without("", code) == "[]\n"


def test_files_are_read_and_written_without_torch():
    code = "import minigo.sgf, minigo.replay, minigo.cli; print('torch' in sys.modules)"
    assert run_without("openvino", code) == "False\n"

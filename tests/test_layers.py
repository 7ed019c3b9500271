"""The package's shape: who imports whom, how long it all is, and what works without torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "minigo"

# The package's wings and their modules, each below those that import it (README, three tables).
WINGS = {
    "": "__init__ machine crew coords config _board _tree record sgf architecture ranks games "
    "openvino_backend checkpoint distributed network symmetry accelerate torch_backend evaluator "
    "export server search window train learner prediction selfplay workers imitation loop cluster "
    "nodes",
    "play.": "play program shipped endgame match engine gtp",
    "lab.": "lab elo ladder progress accuracy analyze lessons page bench",
}
MAY_IMPORT = {"": ("",), "play.": ("", "play."), "lab.": ("", "play.", "lab.")}
COMMAND_LINE = ("cli", "__main__")  # above all
ORDER = [wing + name for wing, names in WINGS.items() for name in names.split()]
# What a reader has to understand: from an empty board to a stronger checkpoint.
CORE = "coords _board _tree architecture network symmetry checkpoint evaluator search record "
CORE = (CORE + "window train learner selfplay loop imitation").split()
CORE_LINES, PACKAGE_LINES = 3_597, 10_585  # at most, everything counted
SUFFIXES = (".py", ".pyx", ".pxd")
SOURCES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in SUFFIXES)


def name_of(path: Path) -> str:
    """Return a file's module as ORDER has it: "loop", "play.gtp", "lab.lab" for the wing itself."""
    wing = "" if path.parent == PACKAGE else f"{path.parent.name}."
    return wing + (path.parent.name if wing and path.stem == "__init__" else path.stem)


def wing_of(module: str) -> str:
    return module[: module.find(".") + 1]


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, in whatever function and way."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".pyx", ".pxd", ".pxi"):
        lines = re.findall(r"^\s*((?:from|cimport|import)\b.*)", text, re.MULTILINE)
        text = "\n".join(line.split("(")[0] + " *" * ("(" in line) for line in lines)
        text = re.sub(r"\bcimport\b", "import", text)
    here = ["minigo", *wing_of(name_of(path)).split(".")[:-1]] if PACKAGE in path.parents else []
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (here or ["minigo"])[: len(here or [0]) + 1 - node.level] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            is_module = base not in ("minigo", "minigo.play", "minigo.lab")
            names = [base] if is_module else [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        modules |= {name.removeprefix("minigo.") for name in names if name.startswith("minigo.")}
    return modules - {"__version__"}


def test_every_module_has_its_place():
    assert {name_of(path) for path in SOURCES} == {*ORDER, *COMMAND_LINE}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_imports_only_from_above_and_a_wing_never_from_a_higher_one(path):
    module = name_of(path)
    if module in COMMAND_LINE:
        return
    for other in imported_modules(path) - ({module} if path.suffix == ".pyx" else set()):
        assert wing_of(other) in MAY_IMPORT[wing_of(module)], f"{module} imports {other}"
        assert ORDER.index(other) < ORDER.index(module), f"{module} imports {other}"


def test_imports_are_found_however_they_are_written(tmp_path):
    python = tmp_path / "a.py"
    python.write_text(
        "from . import coords\nimport minigo.config\nfrom minigo import record as r, __version__\n"
        "def f():\n    from ._board import Board\n    from minigo._tree import Forest\n"
        "    from .play import match\n    import minigo.lab.bench\n"
    )
    found = {"coords", "config", "record", "_board", "_tree", "play.match", "lab.bench"}
    assert imported_modules(python) == found
    cython = tmp_path / "a.pyx"
    cython.write_text(
        "cimport minigo.coords\nfrom ._board cimport (\n    Board, play,\n)\n"
        "from .config import Rules\nfrom libc.math cimport sqrt\n"
        "cdef int f():\n    from .record import GameRecord\n"
    )
    assert imported_modules(cython) == {"coords", "_board", "config", "record"}


def num_lines(path: Path) -> int:
    """Count as `wc -l` does: comments and docstrings, too."""
    return path.read_bytes().count(b"\n")


def test_the_package_stays_small():
    suffixes = (*SUFFIXES, ".pxi", ".html", ".js", ".css")
    paths = [path for path in PACKAGE.rglob("*") if path.suffix in suffixes]
    sizes = {name_of(path) + path.suffix: num_lines(path) for path in paths}
    longest = sorted(sizes.items(), key=lambda item: -item[1])[:10]
    assert sum(sizes.values()) <= PACKAGE_LINES, f"the longest: {longest}"
    core = [path for path in SOURCES if name_of(path) in CORE]
    assert sum(map(num_lines, core)) <= CORE_LINES, {path.name: num_lines(path) for path in core}


def run_without(blocked: str, code: str) -> str:
    """Run Python in which the modules named cannot be imported; return what it prints."""
    block = f"import sys\nfor name in {blocked.split()!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-c", block + code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_lower_layers_work_without_torch():
    modules = [f"minigo.{name}" for name in ORDER[1 : ORDER.index("record") + 1]]
    code = "import minigo\n" + "".join(f"import {module}\n" for module in modules)
    code += "board = minigo._board.Board(5); board.play(12)\n"
    code += "from minigo.config import SearchConfig\n"
    code += (
        "print(len(minigo._tree.Forest([board], SearchConfig()).boards), minigo.__version__ > '')"
    )
    assert run_without("torch openvino sgfmill tqdm", code) == "1 True\n"


def test_importing_minigo_loads_no_torch_nor_does_reading_and_writing_files():
    code = "import minigo; print(sorted(m for m in sys.modules if m in ('torch', 'openvino')))"
    assert run_without("", code) == "[]\n"
    code = "import minigo.games, minigo.cli; print('torch' in sys.modules)"
    assert run_without("openvino", code) == "False\n"


HIDE_TORCH = "import sys\nfor name in ('torch', 'tqdm'): sys.modules[name] = None\n"
# What Windows has nothing of.
HIDE_POSIX = """
import os, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"): sys.modules[name] = None
names = "sched_getaffinity sched_setaffinity nice killpg getppid O_DIRECTORY fork getuid geteuid"
for name in names.split(): delattr(os, name)
import signal
del signal.SIGKILL, signal.SIGHUP
import warnings
warnings.simplefilter("ignore")  # of filelock
"""


@pytest.mark.parametrize("hide", [HIDE_TORCH, HIDE_POSIX], ids=["torch", "posix"])
def test_a_game_is_played_without_what_not_every_machine_has(hide, tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "a.sgf").write_text("(;GM[1]SZ[5];B[cc];W[bb])")
    code = hide + "import sys\nfrom minigo.cli import main\nstatus = main(sys.argv[1:])\n"
    code += "sys.exit(status or 'openvino_telemetry' in sys.modules)"  # reports over the network
    how = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120}
    name, command = "9x9-human-b4c32", [sys.executable, "-c", code]
    lines = ["boardsize 5", *["genmove b", "genmove w"] * 20, "loadsgf a.sgf", "showboard", "quit"]
    words, text = ["gtp", name, "--visits", "2"], "\n".join(lines) + "\n"
    done = subprocess.run([*command, *words], input=text, **how)
    answers = done.stdout.split("\n\n")
    assert done.returncode == 0 and len(answers) == len(lines) + 1, done.stderr
    assert all(answer.startswith("=") for answer in answers[:-1]) and "= pass" in answers
    words = ["analyze", "a.sgf", "--visits", "4", "--checkpoint", name, "--human", name, "--json"]
    done = subprocess.run([*command, *words], **how)
    assert done.returncode == 0 and '"vertex": "C3"' in done.stdout, done.stderr


def test_every_module_is_imported_where_posix_is_not():
    pytest.importorskip("torch")
    others = ("play.play", "lab.lab", "cluster", "nodes")  # Ray is for POSIX
    names = [name for name in (*ORDER[1:], "cli") if name not in others]
    code = HIDE_POSIX + "".join(f"import minigo.{name}\n" for name in names)
    assert run_without("", code + "print(minigo.crew.locked.__name__)") == "locked\n"

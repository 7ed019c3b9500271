"""Sabaki's own client, `@sabaki/gtp` with Node, plays, analyses, takes back and restarts minigo."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "@sabaki/gtp@3.0.0"


@pytest.fixture(scope="module")
def client() -> Path:
    """Return the folder of the library, installed by npm into build/ the first time."""
    folder = ROOT / "build" / "sabaki" / "node_modules" / "@sabaki" / "gtp"
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("needs node and npm")
    if not folder.is_dir():
        command = ["npm", "install", "--silent", "--prefix", ROOT / "build" / "sabaki", PACKAGE]
        try:
            subprocess.run(command, capture_output=True, timeout=60, check=True)
        except subprocess.SubprocessError:
            pytest.skip(f"npm doesn't get {PACKAGE}")
    return folder


def test_sabaki(client):
    pytest.importorskip("torch")
    command = ["node", Path(__file__).with_name("sabaki.js"), client]
    command += [sys.executable, "-m", "minigo", "gtp", "9x9", "--visits", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line.split(":")[0] for line in done.stdout.strip().split("\n")]
    expected = ["burst", "game", "analysis", "quit", "undo", "position", "handicap", "crash"]
    assert steps == expected, done.stdout

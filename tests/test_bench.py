"""`minigo bench` in miniature: the documented keys are there, and its output can be read."""

import contextlib
import io
import json
import math
import os
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
from minigo.cli import main  # noqa: E402
from minigo.config import Recipe, SearchConfig, SelfplayConfig  # noqa: E402
from minigo.lab import bench  # noqa: E402

SECTIONS = ("board", "tree", "net", "selfplay", "train", "run", "gtp")
RESULTS = (Path(__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
TINY = Recipe(
    size=9,
    network="b1c8",
    search=SearchConfig(root="gumbel", simulations=4),
    selfplay=SelfplayConfig(games_at_once=4, max_moves_per_point=0.1),  # games end here, too
)


@pytest.fixture(scope="module")
def output() -> tuple[list[str], dict]:
    """Return (lines printed, figures) of next to nothing measured, on one core."""
    printed = io.StringIO()
    small = {"REPEATS": 1, "SHORT_REPEATS": 1, "REPEAT_S": 0.0, "TREES": 2, "SIMULATIONS": 4}
    small |= {"NETWORKS": ("b1c8",), "BATCHES": {"cpu": {9: (1,), 19: (1,)}}, "MATRIX": {"cpu": 16}}
    small |= {"SHIPPED": ("9x9",), "RECIPE": TINY, "SELFPLAY_NETWORKS": ("b1c8",)}
    small |= {"SELFPLAY_S": 0.02, "TRAIN_STEPS": {"b1c8": 1}, "GAMES": 2, "RUN_MINUTES": 0.002}
    small |= {"GTP_VISITS": 16}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        for name, value in small.items():
            assert hasattr(bench, name)
            patch.setattr(bench, name, value)
        patch.setattr(bench, "list_cores", lambda: [0])
        assert main(["bench", "--json"]) == 0
    *lines, last = printed.getvalue().rstrip("\n").split("\n")
    return lines, json.loads(last)


def test_figures_have_documented_keys(output):
    _, figures = output
    texts = {key for key, value in figures.items() if isinstance(value, str)}
    assert texts == {"machine", "versions", "evaluator"}
    for key in figures.keys() - texts:
        stem = re.sub(r"(_b\d+c\d+)?(_\d+x\d+)?(_b\d+)?$", "", key)
        assert re.search(rf"\b{stem}(_b\d|_\d+x|_\.|`)", RESULTS), key
        assert math.isfinite(figures[key]) and figures[key] >= 0, (key, figures[key])
    assert {"board_playouts_per_s_9x9", "net_evals_per_s_b1c8_19x19_b1"} < figures.keys()
    assert {"selfplay_over_net", "train_samples_per_s_b1c8_9x9"} < figures.keys()
    assert {"window_samples_per_s_19x19", "render_positions_per_s_9x9"} < figures.keys()
    assert {"train_flops_over_matmul_b1c8", "learner_share"} < figures.keys()


def test_each_figure_is_printed_with_its_key_under_its_section(output):
    lines, figures = output
    assert set(SECTIONS) < set(lines)
    assert max(map(len, lines[3:])) <= 100  # after the machine and the versions
    section, counts, printed = "", Counter(), {}
    for line in lines[4:]:
        key, *value = line.split() or [""]
        section = section if value or not key else key
        if value:
            assert line.startswith("  ")
            counts[section] += 1
            printed[key] = float(value[0].replace(",", ""))
    assert set(counts) == set(SECTIONS) and min(counts.values()) > 1
    assert printed == {key: value for key, value in figures.items() if not isinstance(value, str)}


def test_the_help_says_what_each_section_measures(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = capsys.readouterr().out
    assert bench.DESCRIPTION.rstrip() in text and max(map(len, text.split("\n"))) <= 100
    assert all(re.search(rf"(?m)^{section} .*\w", text) for section in SECTIONS)


def test_an_unknown_section_is_named_before_anything_is_measured(capsys):
    with pytest.raises(ValueError, match="'speed' is not one of board, tree, net"):
        bench.run(["board", "speed"])
    assert capsys.readouterr().out == ""


def test_a_card_is_watched_while_players_share_it(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    load = 'while true; do echo "90, 512.5, 2044"; echo "92, [N/A], 2044"; sleep 0.01; done'
    program.write_text(f'#!/bin/sh\ncase "$*" in *-lms*) {load};; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    card = SimpleNamespace(uuid="0")
    monkeypatch.setattr(bench.torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(bench, "RUN_MINUTES", 0.002)
    figures = bench.Bench(torch.device("cpu"), False)._play_with_server(TINY, 2)
    assert 0.9 <= figures["gpu_busy_share"] <= 0.92 and figures["gpu_memory_mib"] == 2044
    rate = figures["selfplay_simulations_per_s_b1c8_9x9"]
    assert figures["evals_per_joule"] == pytest.approx(rate / 512.5)

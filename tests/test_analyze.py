"""The move 37 lab: priors, surprises and blunders, and what Sabaki reads."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sgfmill import sgf

pytest.importorskip("torch")
from minigo.lab import analyze as lab
from minigo.lab.analyze import analyze, format_table, look_at
from minigo.record import GameRecord
from minigo.sgf import load_games

ALPHAGO = Path(__file__).parents[2] / "shared" / "data" / "alphago-lee-sedol"
USAGE = (Path(__file__).parents[1] / "docs" / "usage.md").read_text(encoding="utf-8")
GAME = "(;FF[4]GM[1]SZ[9]KM[7]PB[Ann]PW[Bo]EV[Cup]RE[B+R];B[ee];W[cc];B[gc];W[gg];B[cg];W[])"


@pytest.fixture
def game(tmp_path):
    path = tmp_path / "game.sgf"
    path.write_text(GAME)
    return path


def test_priors_are_the_human_networks_own(game):
    boards = [next(load_games([game])).board(ply) for ply in (0, 3)]
    looks = look_at(boards, "9x9", "9x9-human", 4)
    swapped = look_at(boards, "9x9-human", "9x9", 4)
    for look, other in zip(looks, swapped, strict=True):
        people = look.policies["human_prior"]
        assert people == pytest.approx(other.policies["prior"], abs=1e-4)
        assert people.sum() == pytest.approx(1)
        assert not people[~look.board.legal_moves()].any()
        assert look.ownership.shape == (9, 9) and np.abs(look.ownership).max() <= 1


def test_a_report_and_its_sgf(game, tmp_path):
    report = analyze(game, simulations=8, sgf=tmp_path / "out.sgf")
    assert (report["checkpoint"], report["human"]) == ("9x9", "human")
    first = report["moves"][0]
    assert all(f"`{key}`" in USAGE for key in first)
    assert (first["color"], first["vertex"]) == ("B", "E5")
    assert first["human_rank"] == 1 and 0.1 < first["human_prior"] < 1
    assert first["surprise"] == pytest.approx(-np.log2(first["human_prior"]))
    written = sgf.Sgf_game.from_bytes((tmp_path / "out.sgf").read_bytes())
    root, *nodes = written.get_main_sequence()
    assert [root.get(name) for name in ("PB", "PW", "EV", "RE")] == ["Ann", "Bo", "Cup", "B+R"]
    for node, move in zip(nodes, report["moves"], strict=True):
        value = move["value_after"] if move["color"] == "B" else -move["value_after"]
        assert float(node.get_raw("SBKV")) == pytest.approx(50 + 50 * value, abs=0.006)
        assert f"{move['color']} {move['vertex']}: people" in node.get("C")
    assert 0 <= float(root.get_raw("SBKV")) <= 100


def test_the_game_itself_is_never_written_over(game, tmp_path):
    for name in ("linked.sgf", "hard.sgf"):
        path = tmp_path / name
        path.symlink_to(game) if name == "linked.sgf" else path.hardlink_to(game)
        for source, output in ((game, path), (path, game), (path, path)):
            with pytest.raises(ValueError, match=f"^{output} is the game itself"):
                analyze(source, simulations=1, sgf=output)
    assert game.read_text() == GAME


def test_a_game_as_people_edit_it_keeps_all_that_was_in_it(tmp_path):
    path, output = tmp_path / "a.sgf", tmp_path / "b.sgf"
    text = "(;SZ[5]KM[7]C[go];B[cc]C[mine]LB[aa:x](;AW[aa]AE[cc];W[bb]TR[bb];W[dd](;B[];W[];B[ee]))"
    path.write_text(text + "(;W[dd]C[what if]))")
    moves = analyze(path, "9x9", "9x9-human", simulations=2, sgf=output)["moves"]
    played = " ".join(f"{move['color']} {move['vertex']}" for move in moves)
    assert played == "B C3 W B4 W D2 B pass W pass B E1"
    values = [(m["value_before"], m["value_after"]) for m in moves]
    assert [b[0] == -a[1] for a, b in zip(values, values[1:], strict=False)] == [0, 0, 1, 1, 1]
    root, *nodes = sgf.Sgf_game.from_bytes(output.read_bytes()).get_main_sequence()
    assert root.get("C") == "go" and nodes[0].get("C").startswith("mine\n\nB C3: people ")
    assert nodes[0].get("LB") == [((4, 0), "x")] and nodes[2].has_property("TR")
    assert sorted(nodes[1].properties()) == ["AE", "AW", "SBKV"]
    assert sgf.Sgf_game.from_bytes(output.read_bytes()).get_root()[0][1].get("C") == "what if"


def make_move(number, human_prior, best, before, after):
    rest = dict.fromkeys(("human_rank", "prior", "rank", "visits", "best_human_prior"), 0)
    rest |= dict.fromkeys(("best_prior", "best_visits", "score_before"), 0)
    move = {"number": number, "color": "B", "vertex": "C3", "human_prior": human_prior}
    values = {"value_before": before, "value_after": after, "surprise": -np.log2(human_prior)}
    return rest | move | values | {"best": best}


def test_surprises_and_blunders_are_told_apart():
    moves = [
        make_move(1, 0.04, "C3", 0, 0),  # hardly anybody, but the search: a surprise
        make_move(2, 0.0001, "C3", 0, 0),  # move 37
        make_move(3, 0.04, "D4", 0.5, -0.5),  # nobody's move
        make_move(4, 0.5, "C3", 0, 0),  # everybody's
        make_move(5, 0.5, "D4", 0.5, 0.2),  # people's, and bad
        make_move(6, 0.06, "D4", 0.5, -0.5),  # worse
        make_move(7, 0.5, "D4", 0.5, 0.4),  # not so bad
    ]
    judged = lab._judge(moves)
    assert judged == {"surprises": [2, 1], "blunders": [6, 5]}
    report = {"checkpoint": "a", "human": "b", "simulations": 1, "moves": moves} | judged
    added = lab.annotate(report, list(pairwise(range(8)))).items()
    marked = [{number for number, node in added if mark in node} for mark in ("TE", "BM")]
    assert marked == [{1, 2}, {5, 6}]
    table = format_table(report, only_judged=True).split("\n")
    assert [line[:5] for line in table[2:5]] == ["! peo", "!   2", "!   1"]
    assert [line[:5] for line in table[5:]] == ["? peo", "?   6", "?   5"]
    assert len(format_table(report).split("\n")) == 2 + len(moves)


def test_one_move_needs_only_its_two_positions(game, monkeypatch):
    whole = analyze(game, simulations=4)
    seen, look = [], lab.look_at
    watch = lambda boards, **how: seen.append(boards) or look(boards, **how)  # noqa: E731
    monkeypatch.setattr(lab, "look_at", watch)
    one = analyze(game, simulations=4, move=3)
    assert len(seen[0]) == 2 and one["moves"][0]["vertex"] == whole["moves"][2]["vertex"]
    values = [move["value_before"] for move in (one["moves"][0], whole["moves"][2])]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    bare = analyze(game, simulations=0, move=1)["moves"][0]
    assert bare["best"] != "pass" and bare["best_prior"] >= bare["prior"] > 0


@pytest.mark.skipif(not ALPHAGO.is_dir(), reason="needs the games of AlphaGo and Lee Sedol")
def test_move_37_was_one_that_people_hardly_play():
    record: GameRecord = next(load_games([ALPHAGO / "game2.sgf"], strict=True))
    assert record.size == 19
    move = analyze(ALPHAGO / "game2.sgf", move=37, simulations=2)["moves"][0]
    assert (move["color"], move["vertex"]) == ("B", "P10")
    assert move["human_prior"] < 0.05 and move["human_rank"] > 5

"""What people, a network and a search with it think of the moves of a game: the move 37 lab.

Leaves out variations. Every position of the game is a tree of one search: they are one batch.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._board import Board
from ..config import SearchConfig
from ..coords import format_color, format_vertex, parse_color, sign_of
from ..evaluator import legal_policy, load_evaluator
from ..machine import write_whole
from ..play.shipped import choose_network
from ..search import Search, SearchResult
from ..sgf import format_game, load_game

TREES_AT_ONCE = 16  # few enough to tell how far it is
HARDLY = 0.05  # the human network's prior below which people would hardly play a move
BLUNDER = 0.2  # a fall of the value from which on a move is one: 10 % of the chance to win
VERDICTS = {  # mark and meaning
    "surprises": ("!", f"people would hardly play it (under {HARDLY:.0%}), and the search would"),
    "blunders": ("?", f"people may play it, and it costs {BLUNDER:g} or more of the value"),
}
MOVE_MARKS = {"surprises": "TE", "blunders": "BM"}  # SGF's good and bad moves
HEADER = "people: {human}; network, and search of {simulations} simulations: {checkpoint}\n"
HEADER += "  move       people rank  bits network  search | prefers people network  search"
HEADER += " | value before -> after"
ROW = "{number:4} {color} {vertex:4}{human_prior:9.3%}{human_rank:4}{surprise:6.1f}{prior:8.2%}"
ROW += "{visits:8.0%} |    {best:4}{best_human_prior:7.2%}{best_prior:8.2%}{best_visits:8.0%} | "
ROW += "{value_before:+.2f} -> {value_after:+.2f}"
COMMENT = """\
{color} {vertex}: people {human_prior:.2%} (rank {human_rank}, {surprise:.1f} bits of surprise), \
network {prior:.2%}, search {visits:.0%} of the visits.
The search prefers {best}: people {best_human_prior:.2%}, network {best_prior:.2%}, \
{best_visits:.0%} of the visits.
Value {value_before:+.2f} before, {value_after:+.2f} after."""


class Look(NamedTuple):
    """What is thought of a position, by the player to move."""

    board: Board
    result: SearchResult
    policies: dict[str, np.ndarray]  # (A,) shares: people's, the network's, the search's visits
    ownership: np.ndarray  # (N, N) the searching network's, +1 = his point at the end


def look_at(
    boards: Sequence[Board], checkpoint: str, human: str, simulations: int, **options
) -> Iterator[Look]:
    """Search positions of one size, and ask `human` for its policy; options: `make_evaluator`'s."""
    options |= {"max_batch": TREES_AT_ONCE}
    network, people = (load_evaluator(c, boards[0].size, **options) for c in (checkpoint, human))
    for start in range(0, len(boards), TREES_AT_ONCE):
        chunk = boards[start : start + TREES_AT_ONCE]
        search = Search(network, SearchConfig(), chunk, np.random.default_rng(1))
        search.run(max(1, simulations))  # 0: the bare policy, which takes an evaluated root
        found, asked = network.evaluate_boards(chunk), people.evaluate_boards(chunk)
        for tree, board in enumerate(chunk):
            policies = {"human_prior": legal_policy(asked.logits[tree], board.legal_moves())}
            result = search.result(tree)
            policies["prior"], visits = result.moves["prior"], result.moves["visits"]
            policies["visits"] = visits / max(1, visits.sum())
            yield Look(board, result, policies, found.ownership[tree])


def analyze(
    path: str | Path,
    checkpoint: str | None = None,
    human: str | None = None,
    move: int | None = None,
    simulations: int = 64,
    sgf: str | Path | None = None,
    **options,
) -> dict:
    """Return what is thought of each move of the first game of an SGF file, or of move `move`.

    docs/usage.md has the keys. sgf: a file for the game with all that in comments, and win rates;
    options: device, threads. Raises ValueError for a file without a game or without that move.
    """
    tree, positions = load_game(path)
    ends = [i for i, (_, color, _) in enumerate(positions) if color]  # of moves
    first, last = (1, len(ends)) if move is None else (move, move)
    if not 1 <= first <= last <= len(ends):
        raise ValueError(f"move {first} is not among the {len(ends)} moves of {path}")
    if sgf and Path(sgf).exists() and Path(sgf).samefile(path):
        raise ValueError(f"{sgf} is the game itself, which isn't written over")
    size, shown = positions[0][2].size, positions[ends[first - 1] - 1 : ends[last - 1] + 1]
    asked = {"checkpoint": checkpoint or choose_network(size, human=False)}
    asked |= {"human": human or choose_network(size, human=True), "simulations": simulations}
    looks = look_at([board for *_, board in shown], **asked, **options)
    report = {"game": str(path), **asked, **judge(shown, first, looks)}
    if sgf:
        nodes = [(positions[i - 1][0], positions[i][0]) for i in ends]
        write_whole(Path(sgf), format_game(tree, annotate(report, nodes)))
    return report


def judge(positions: Sequence[tuple], first: int, looks: Iterable[Look]) -> dict:
    """Say what looks at positions tell of the moves, from number `first`, that led to them."""
    pairs = compress(pairwise(looks), [color for _, color, _ in positions[1:]])
    moves = list(map(_describe, count(first), pairs))
    return {"moves": moves} | _judge(moves)


def _describe(number: int, looks: tuple[Look, Look]) -> dict:
    """Return what is thought of the `number`th move, values as who played it sees them."""
    (board, result, policies, _), move = looks[0], looks[1].board.last_move
    human, prior = policies["human_prior"], policies["prior"]
    return {
        "number": number,
        "color": format_color(board.to_play),
        "vertex": format_vertex(move, board.size),
        **{key: float(policy[move]) for key, policy in policies.items()},
        "human_rank": 1 + int((human > human[move]).sum()),
        "rank": 1 + int((prior > prior[move]).sum()),
        "surprise": -math.log2(max(human[move], 1e-12)),
        "best": format_vertex(result.move, board.size),
        **{f"best_{key}": float(policy[result.move]) for key, policy in policies.items()},
        "value_before": float(result.root["win"]),
        "value_after": -float(looks[1].result.root["win"]),
        "score_before": float(result.root["score"]),
    }


def _judge(moves: list[dict]) -> dict[str, list[int]]:
    found = {verdict: {} for verdict in VERDICTS}  # numbers of moves, and what to sort them by
    for m in moves:
        change = m["value_after"] - m["value_before"]
        if m["human_prior"] < HARDLY and m["vertex"] == m["best"]:
            found["surprises"][m["number"]] = -m["surprise"]
        elif m["human_prior"] >= HARDLY and change <= -BLUNDER:
            found["blunders"][m["number"]] = change
    return {verdict: sorted(judged, key=judged.get) for verdict, judged in found.items()}


def format_table(report: dict, only_judged: bool = False) -> str:
    """Write what `analyze` returns as a table; "!" marks surprises and "?" blunders."""
    lines = [HEADER.format(**report)]
    marks = {n: mark for verdict, (mark, _) in VERDICTS.items() for n in report[verdict]}
    rows = {m["number"]: marks.get(m["number"], " ") + ROW.format(**m) for m in report["moves"]}
    for verdict, (mark, meaning) in VERDICTS.items() if only_judged else ():
        if numbers := report[verdict]:
            lines += [f"{mark} {meaning}", *(rows[number] for number in numbers)]
    return "\n".join(lines if only_judged else [*lines, *rows.values()])


def annotate(report: dict, nodes: list[tuple[int, int]]) -> dict[int, dict[str, str]]:
    """Return what to add to nodes, those before and of each move: comments, Black's win rates."""
    added = {}
    for m in report["moves"]:
        number, half = m["number"], 50 * sign_of(parse_color(m["color"]))
        verdicts = [verdict for verdict in VERDICTS if number in report[verdict]]
        before, after = nodes[number - 1]
        added.setdefault(before, {})["SBKV"] = f"{50 + half * m['value_before']:.2f}"
        added[after] = {MOVE_MARKS[verdict]: "1" for verdict in verdicts}
        added[after]["C"] = COMMENT.format(**m) + "".join(f"\nA {v[:-1]}." for v in verdicts)
        added[after]["SBKV"] = f"{50 + half * m['value_after']:.2f}"
    return added

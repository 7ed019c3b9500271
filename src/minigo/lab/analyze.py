"""What people, a network and a search with it think of the moves of a game: the move 37 lab.

Leaves out variations. Every position of the game is a tree of one search: they are one batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from .._board import Board
from ..config import SearchConfig
from ..coords import format_color, format_vertex, parse_color, sign_of
from ..evaluator import legal_policy, load_evaluator
from ..play.shipped import choose_network
from ..record import GameRecord
from ..search import Search, SearchResult
from ..sgf import format_sgf, load_games, read_names

TREES_AT_ONCE = 64
HARDLY = 0.05  # the human network's prior below which people would hardly play a move
BLUNDER = 0.2  # a fall of the value from which on a move is one: 10 % of the chance to win
VERDICTS = {  # mark and meaning
    "surprises": ("!", f"people would hardly play it (under {HARDLY:.0%}), and the search would"),
    "blunders": ("?", f"people may play it, and it costs {BLUNDER:g} or more of the value"),
}
ROW = (
    "{number:4} {color} {vertex:4}{human_prior:9.3%}{human_rank:4}{surprise:6.1f}{prior:8.2%}"
    "{visits:8.0%} |    {best:4}{best_human_prior:7.2%}{best_prior:8.2%}{best_visits:8.0%} | "
    "{value_before:+.2f} -> {value_after:+.2f}"
)
COMMENT = (
    "{color} {vertex}: people {human_prior:.2%} (rank {human_rank}, {surprise:.1f} bits of "
    "surprise), network {prior:.2%}, search {visits:.0%} of the visits.\nThe search prefers "
    "{best}: people {best_human_prior:.2%}, network {best_prior:.2%}, {best_visits:.0%} of the "
    "visits.\nValue {value_before:+.2f} before, {value_after:+.2f} after."
)


@dataclass(frozen=True, eq=False)
class Look:
    """What is thought of a position, by the player to move."""

    board: Board
    result: SearchResult
    human: np.ndarray  # (A,) the human network's policy over the legal moves
    ownership: np.ndarray  # (N, N) the searching network's, +1 = his point at the end

    def policies(self) -> dict[str, np.ndarray]:
        """Return (A,) shares of the moves: people's, the searching network's, the search's."""
        moves = self.result.moves
        visits = moves["visits"] / max(1, moves["visits"].sum())
        return {"human_prior": self.human, "prior": moves["prior"], "visits": visits}


def look_at(
    boards: Sequence[Board], checkpoint: str, human: str, simulations: int, **options
) -> list[Look]:
    """Search positions of one size with `checkpoint`, and ask `human` for its policy there.

    options: of `make_evaluator`.
    """
    options |= {"max_batch": TREES_AT_ONCE}
    evaluators = [load_evaluator(c, boards[0].size, **options) for c in (checkpoint, human)]
    looks = []
    for start in range(0, len(boards), TREES_AT_ONCE):
        chunk = boards[start : start + TREES_AT_ONCE]
        search = Search(evaluators[0], SearchConfig(), chunk, np.random.default_rng(1))
        search.run(simulations)
        ownership, logits = (e.evaluate_boards(chunk) for e in evaluators)
        for tree, board in enumerate(chunk):
            policy = legal_policy(logits.logits[tree], board.legal_moves())
            looks.append(Look(board, search.result(tree), policy, ownership.ownership[tree]))
    return looks


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

    "moves": a dictionary for each; docs/usage.md has its keys. "surprises": numbers of the moves
    that people would hardly play (HARDLY) and the search prefers, the least expected first;
    "blunders": of those that people may play and that cost BLUNDER or more, the worst first.
    sgf: a file for the game with all that in comments, and win rates; options: device, threads.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, not a game")
    record = next(load_games([path], strict=True), None)
    if record is None:
        raise ValueError(f"{path}: no game in it")
    num_moves = len(record.moves)
    if move is not None and not 1 <= move <= num_moves:
        raise ValueError(f"move {move} is not among the {num_moves} moves of {path}")
    if simulations < 1:
        raise ValueError(f"{simulations} simulations are too few to analyse with")
    checkpoint = checkpoint or choose_network(record.size, human=False)
    human = human or choose_network(record.size, human=True)
    numbers = range(1, num_moves + 1) if move is None else [move]
    boards = [record.board(number - 1) for number in [*numbers, numbers[-1] + 1]]
    looks = look_at(boards, checkpoint, human, simulations, **options)
    played = zip(numbers, pairwise(looks), strict=True)
    moves = [_describe(number, int(record.moves[number - 1]), *pair) for number, pair in played]
    report = {"game": str(path), "checkpoint": checkpoint, "human": human}
    report |= {"simulations": simulations, "moves": moves} | _judge(moves)
    if sgf:
        Path(sgf).write_text(_format_sgf(record, path, report), encoding="utf-8")
    return report


def _describe(number: int, move: int, before: Look, after: Look) -> dict:
    """Return what is thought of the `number`th move, values as who played it sees them."""
    size, result, policies = before.board.size, before.result, before.policies()
    return {
        "number": number,
        "color": format_color(before.board.to_play),
        "vertex": format_vertex(move, size),
        **{key: float(policy[move]) for key, policy in policies.items()},
        "human_rank": 1 + int((before.human > before.human[move]).sum()),
        "rank": 1 + int((policies["prior"] > policies["prior"][move]).sum()),
        "surprise": -math.log2(max(before.human[move], 1e-12)),
        "best": format_vertex(result.move, size),
        **{f"best_{key}": float(policy[result.move]) for key, policy in policies.items()},
        "value_before": float(result.root["win"]),
        "value_after": -float(after.result.root["win"]),
        "score_before": float(result.root["score"]),
    }


def _judge(moves: list[dict]) -> dict[str, list[int]]:
    def loss(move: dict) -> float:
        return move["value_before"] - move["value_after"]

    surprises = [m for m in moves if m["human_prior"] < HARDLY and m["vertex"] == m["best"]]
    blunders = [m for m in moves if m["human_prior"] >= HARDLY and loss(m) >= BLUNDER]
    surprises.sort(key=lambda move: -move["surprise"])
    blunders.sort(key=loss, reverse=True)
    found = {"surprises": surprises, "blunders": blunders}
    return {verdict: [m["number"] for m in judged] for verdict, judged in found.items()}


def format_table(report: dict, only_judged: bool = False) -> str:
    """Write what `analyze` returns as a table; "!" marks surprises and "?" blunders."""
    who = f"people: {report['human']}; network, and search of {report['simulations']} simulations"
    columns = "move       people rank  bits network  search | prefers people network  search"
    lines = [f"{who}: {report['checkpoint']}", f"  {columns} | value before -> after"]
    marks = {n: mark for verdict, (mark, _) in VERDICTS.items() for n in report[verdict]}
    rows = {m["number"]: marks.get(m["number"], " ") + ROW.format(**m) for m in report["moves"]}
    if not only_judged:
        return "\n".join(lines + [*rows.values()])
    for verdict, (mark, meaning) in VERDICTS.items():
        if numbers := report[verdict]:
            lines += [f"{mark} {meaning}", *(rows[number] for number in numbers)]
    return "\n".join(lines)


def _format_sgf(record: GameRecord, path: str | Path, report: dict) -> str:
    comments, win_rates = {}, {}
    for m in report["moves"]:
        number, half = m["number"], 50 * sign_of(parse_color(m["color"]))
        comments[number] = COMMENT.format(**m)
        comments[number] += "\nA surprise." if number in report["surprises"] else ""
        comments[number] += "\nA blunder." if number in report["blunders"] else ""
        win_rates[number - 1] = 50 + half * m["value_before"]
        win_rates[number] = 50 + half * m["value_after"]
    black, white, result, event = read_names(path)
    return format_sgf(record, black, white, comments, result, event, win_rates)

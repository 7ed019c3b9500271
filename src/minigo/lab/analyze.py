"""What people, a network and a search with it think of the moves of a game: the move 37 lab.

Leaves out variations. Every position of the game is a tree of one search, so that they are
evaluated as a batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._board import Board
from ..config import SearchConfig
from ..coords import format_color, format_vertex, opponent
from ..evaluator import legal_policy, load_evaluator
from ..play.shipped import choose_network
from ..record import GameRecord
from ..search import Search, SearchResult
from ..sgf import format_sgf, load_games, read_names

TREES_AT_ONCE = 64
HARDLY = 0.05  # the human network's prior below which people would hardly play a move
BLUNDER = 0.2  # a fall of the value from which on a move is one: 10 % of the chance to win


@dataclass(frozen=True, eq=False)
class Look:
    """What is thought of a position, by the player to move."""

    board: Board
    result: SearchResult
    human: np.ndarray  # (A,) the human network's policy over the legal moves
    ownership: np.ndarray  # (N, N) the searching network's, +1 = his point at the end


def look_at(
    boards: Sequence[Board],
    checkpoint: str,
    human: str,
    simulations: int,
    device: str = "auto",
    threads: int = 1,
) -> list[Look]:
    """Search positions of one size with `checkpoint`, and ask `human` for its policy there."""
    options = {"device": device, "max_batch": TREES_AT_ONCE, "threads": threads}
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
    *,
    sgf: str | Path | None = None,
    device: str = "auto",
    threads: int = 1,
) -> dict:
    """Return what is thought of each move of the first game of an SGF file, or of move `move`.

    "moves": a dictionary for each, with number (from 1), color, vertex; human_prior, human_rank
    (1 = people's first choice) and surprise in bits, -log2 of that prior; prior and rank with the
    searching network; visits, the move's share of the search; best, the search's choice, with
    best_human_prior, best_prior and best_visits; value_before and value_after, in [-1, 1] for the
    mover, and score_before in points: what the search says of the position before and after.
    "surprises": numbers of the moves that people would hardly play (HARDLY) and the search prefers,
    the least expected first; "blunders": of those that people may play and that cost BLUNDER or
    more, the worst first. sgf: a file for the game with all that in comments, and win rates.
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
    plies = range(num_moves) if move is None else range(move - 1, move)
    boards = [record.board(ply) for ply in range(plies.start, plies.stop + 1)]
    looks = look_at(boards, checkpoint, human, simulations, device, threads)
    moves = [
        _describe(record, ply, *looks[ply - plies.start : ply - plies.start + 2]) for ply in plies
    ]
    report = {"game": str(path), "checkpoint": checkpoint, "human": human}
    report |= {"simulations": simulations, "moves": moves} | _judge(moves)
    if sgf:
        Path(sgf).write_text(_format_sgf(record, path, report), encoding="utf-8")
    return report


def _describe(record: GameRecord, ply: int, before: Look, after: Look) -> dict:
    move, size = int(record.moves[ply]), record.size
    color = record.to_play if ply % 2 == 0 else opponent(record.to_play)
    result, best = before.result, before.result.move
    shares = result.moves["visits"] / max(1, result.moves["visits"].sum())
    return {
        "number": ply + 1,
        "color": format_color(color),
        "vertex": format_vertex(move, size),
        "human_prior": float(before.human[move]),
        "human_rank": 1 + int((before.human > before.human[move]).sum()),
        "surprise": -math.log2(max(before.human[move], 1e-12)),
        "prior": float(result.moves["prior"][move]),
        "rank": 1 + int((result.moves["prior"] > result.moves["prior"][move]).sum()),
        "visits": float(shares[move]),
        "best": format_vertex(best, size),
        "best_human_prior": float(before.human[best]),
        "best_prior": float(result.moves["prior"][best]),
        "best_visits": float(shares[best]),
        "value_before": float(result.root["win"]),
        "value_after": -float(after.result.root["win"]),
        "score_before": float(result.root["score"]),
    }


def _judge(moves: list[dict]) -> dict[str, list[int]]:
    surprises = [m for m in moves if m["human_prior"] < HARDLY and m["vertex"] == m["best"]]
    blunders = [m for m in moves if m["human_prior"] >= HARDLY and _loss(m) >= BLUNDER]
    surprises.sort(key=lambda m: -m["surprise"])
    blunders.sort(key=lambda m: -_loss(m))
    return {
        "surprises": [m["number"] for m in surprises],
        "blunders": [m["number"] for m in blunders],
    }


def _loss(move: dict) -> float:
    return move["value_before"] - move["value_after"]


def format_table(report: dict, only_judged: bool = False) -> str:
    """Write what `analyze` returns as a table; "!" marks surprises and "?" blunders."""
    lines = [
        f"people: {report['human']}; network, and search of {report['simulations']} simulations: "
        f"{report['checkpoint']}",
        "  move       people rank  bits network  search | prefers people network  search | value"
        " before -> after",
    ]
    moves = {m["number"]: m for m in report["moves"]}
    if not only_judged:
        return "\n".join(lines + [_format_move(m, report) for m in moves.values()])
    for key, title in (
        ("surprises", f"! people would hardly play it (under {HARDLY:.0%}), and the search would"),
        ("blunders", f"? people may play it, and it costs {BLUNDER:g} or more of the value"),
    ):
        numbers = report[key]
        lines += [title, *(_format_move(moves[n], report) for n in numbers)] if numbers else []
    return "\n".join(lines)


def _format_move(m: dict, report: dict) -> str:
    number = m["number"]
    mark = "!" if number in report["surprises"] else "?" if number in report["blunders"] else " "
    return (
        f"{mark}{number:4} {m['color']} {m['vertex']:4}{m['human_prior']:9.3%}{m['human_rank']:4}"
        f"{m['surprise']:6.1f}{m['prior']:8.2%}{m['visits']:8.0%} |    {m['best']:4}"
        f"{m['best_human_prior']:7.2%}{m['best_prior']:8.2%}{m['best_visits']:8.0%} | "
        f"{m['value_before']:+.2f} -> {m['value_after']:+.2f}"
    )


def _format_sgf(record: GameRecord, path: str | Path, report: dict) -> str:
    comments, win_rates = {}, {}
    for m in report["moves"]:
        number, sign = m["number"], 1 if m["color"] == "B" else -1
        comments[number] = (
            f"{m['color']} {m['vertex']}: people {m['human_prior']:.2%} (rank {m['human_rank']}, "
            f"{m['surprise']:.1f} bits of surprise), network {m['prior']:.2%}, search "
            f"{m['visits']:.0%} of the visits.\nThe search prefers {m['best']}: people "
            f"{m['best_human_prior']:.2%}, network {m['best_prior']:.2%}, {m['best_visits']:.0%} "
            f"of the visits.\nValue {m['value_before']:+.2f} before, {m['value_after']:+.2f} after."
        )
        for key, text in (("surprises", "A surprise."), ("blunders", "A blunder.")):
            comments[number] += f"\n{text}" if number in report[key] else ""
        win_rates |= {number - 1: 50 + 50 * sign * m["value_before"]}
        win_rates |= {number: 50 + 50 * sign * m["value_after"]}
    black, white, result, event = read_names(path)
    return format_sgf(record, black, white, comments, result, event, win_rates)

"""What a network, and a search with it, think of the moves of a game; leaves out variations.

Every position of the game is a tree of one search, so that they are evaluated as a batch.
"""

from pathlib import Path

import numpy as np

from .checkpoint import load_checkpoint, load_network
from .config import SearchConfig
from .coords import format_color, format_vertex, opponent
from .evaluator import make_evaluator
from .record import GameRecord
from .search import Search
from .sgf import load_games

TREES_AT_ONCE = 64


def analyze(
    path: str | Path,
    checkpoint: str,
    move: int | None = None,
    simulations: int = 64,
    *,
    device: str = "auto",
    threads: int = 1,
) -> list[dict]:
    """Return one dictionary for each move of the first game of an SGF file, or for move `move`.

    number (from 1), color, vertex; prior and rank (1 = the network's first choice); visits, the
    move's share of the search; best, the search's choice, with best_prior and best_visits;
    value_before and value_after, in [-1, 1] for the mover, and score_before in points: what the
    search says of the position before and after the move.
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
    net = load_network(load_checkpoint(checkpoint))
    evaluator = make_evaluator(
        net, record.size, device=device, max_batch=TREES_AT_ONCE, threads=threads
    )
    plies = range(num_moves) if move is None else range(move - 1, move)
    results = {}
    positions = range(plies.start, plies.stop + 1)  # the last one for value_after
    for start in range(0, len(positions), TREES_AT_ONCE):
        chunk = positions[start : start + TREES_AT_ONCE]
        boards = [record.board(ply) for ply in chunk]
        search = Search(evaluator, SearchConfig(), boards, np.random.default_rng(1))
        search.run(simulations)
        results |= {ply: search.result(tree) for tree, ply in enumerate(chunk)}
    return [_describe(record, ply, results[ply], results[ply + 1]) for ply in plies]


def _describe(record: GameRecord, ply: int, before, after) -> dict:
    move, size = int(record.moves[ply]), record.size
    color = record.to_play if ply % 2 == 0 else opponent(record.to_play)
    shares = before.visits / max(1, before.visits.sum())
    return {
        "number": ply + 1,
        "color": format_color(color),
        "vertex": format_vertex(move, size),
        "prior": float(before.priors[move]),
        "rank": 1 + int((before.priors > before.priors[move]).sum()),
        "visits": float(shares[move]),
        "best": format_vertex(before.move, size),
        "best_prior": float(before.priors[before.move]),
        "best_visits": float(shares[before.move]),
        "value_before": before.value,
        "value_after": -after.value,
        "score_before": before.score,
    }


def format_table(moves: list[dict]) -> str:
    """Write what `analyze` returns as a table, a line for each move."""
    lines = ["move          prior  rank  visits   best   prior  visits   value before -> after"]
    for m in moves:
        played = f"{m['number']:4} {m['color']} {m['vertex']:4}"
        network = f"{m['prior']:8.1%} {m['rank']:5} {m['visits']:7.0%}"
        search = f"{m['best']:>6} {m['best_prior']:7.1%} {m['best_visits']:7.0%}"
        lines.append(
            f"{played}{network} {search}   {m['value_before']:+.2f} -> {m['value_after']:+.2f}"
        )
    return "\n".join(lines)

"""How well a network predicts the moves and results of games: accuracy, surprisal, value error."""

from collections.abc import Iterable

import numpy as np
import torch
from tqdm import tqdm

from .architecture import Network
from .coords import symmetry_table
from .evaluator import Evaluator, make_evaluator
from .record import GameRecord
from .window import Batch, render


def exact_evaluator(network: Network, size: int, device: str) -> Evaluator:
    """Return an evaluator for measurements: all threads, never int8."""
    threads = torch.get_num_threads()
    return make_evaluator(network, size, device, max_batch=256, threads=threads, exact=True)


def choose_places(records: Iterable[GameRecord], most: int) -> list[tuple[GameRecord, int]]:
    """Return every ply of the games, or a random choice of them that is the same each time."""
    places = [(record, ply) for record in records for ply in range(len(record.moves))]
    if len(places) <= most:
        return places
    chosen = np.random.default_rng(0).choice(len(places), most, replace=False)
    return [places[i] for i in np.sort(chosen)]


def judge(
    evaluator: Evaluator, places: list[tuple[GameRecord, int]], num_symmetries: int = 1
) -> np.ndarray:
    """Return (places, 3): rank of the move played (0: first), its surprisal, value error^2.

    places: plies of games of the evaluator's board size. Probabilities and values are means over
    the symmetries; the error is NaN where the result is unknown.
    """
    rows, table = [], symmetry_table(evaluator.size)
    for start in tqdm(range(0, len(places), 256), "evaluating", leave=False, disable=None):
        parts = [render(record, [ply]) for record, ply in places[start : start + 256]]
        batch = Batch(*map(np.concatenate, zip(*parts, strict=True)))
        policy, value = 0.0, 0.0
        for to in table[:num_symmetries]:
            output = evaluator.evaluate(batch.positions[:, np.argsort(to)])
            turned = torch.from_numpy(output.logits).double().softmax(1).numpy()
            policy = policy + turned[:, to] / num_symmetries
            value = value + output.value / num_symmetries
        played = np.take_along_axis(policy, batch.policy.argmax(1)[:, None], axis=1)
        rank = (policy > played).sum(1)
        rows.append(np.stack([rank, -np.log(played[:, 0]), (value - batch.value) ** 2], axis=1))
    return np.concatenate(rows)


def summarise(rows: dict[int, np.ndarray]) -> dict:
    """Return the figures of what `judge` found, of all board sizes and, of several, of each."""
    rank, surprisal, error = np.concatenate(list(rows.values())).T
    known = error[~np.isnan(error)]
    figures = {
        "top1": float((rank == 0).mean()),
        "top5": float((rank < 5).mean()),
        "cross_entropy": float(surprisal.mean()),
        "value_mse": float(known.mean()) if len(known) else None,
        "positions": len(rank),
    }
    if len(rows) > 1:
        figures["by_size"] = {f"{n}x{n}": summarise({n: part}) for n, part in rows.items()}
    return figures

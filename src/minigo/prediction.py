"""How well a network predicts the moves and results of games: accuracy, surprisal, value error."""

import numpy as np
import torch
from tqdm import tqdm

from .coords import symmetry_table
from .evaluator import Evaluator, make_evaluator
from .network import PolicyValueNet
from .replay import Replay


def exact_evaluator(net: PolicyValueNet, size: int, device: str) -> Evaluator:
    """Return an evaluator for measurements: all threads, never int8."""
    threads = torch.get_num_threads()
    return make_evaluator(net, size, device, max_batch=256, threads=threads, exact=True)


def choose_positions(num_positions: int, most: int) -> np.ndarray:
    """Return every position, or a random choice that is the same each time."""
    if num_positions <= most:
        return np.arange(num_positions)
    return np.sort(np.random.default_rng(0).choice(num_positions, most, replace=False))


def judge(
    evaluator: Evaluator, replay: Replay, positions: np.ndarray, num_symmetries: int = 1
) -> np.ndarray:
    """Return (positions, 3): rank of the move played (0: first), its surprisal, value error^2.

    positions: of the evaluator's board size, as `Replay.batch` takes them. Probabilities and values
    are means over the symmetries; the error is NaN where the result is unknown.
    """
    size, rows = evaluator.size, []
    table = symmetry_table(size)
    chunks = np.split(positions, range(256, len(positions), 256))
    for chunk in tqdm(chunks, "evaluating", leave=False, disable=None):
        policy, value = 0.0, 0.0
        for symmetry in range(num_symmetries):
            batch = replay.batch(size, chunk, np.full(len(chunk), symmetry))
            output = evaluator.evaluate(batch.planes)
            turned = torch.from_numpy(output.logits).double().softmax(1).numpy()
            policy = policy + turned[:, table[symmetry]] / num_symmetries
            value = value + output.value / num_symmetries
        moves = batch.policy[:, table[symmetry]].argmax(1)
        played = np.take_along_axis(policy, moves[:, None], axis=1)
        rank = (policy > played).sum(1)
        error = np.where(batch.value_weight > 0, (value - batch.value) ** 2, np.nan)
        rows.append(np.stack([rank, -np.log(played[:, 0]), error], axis=1))
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

"""Which of the networks that ship plays which board, and what a network knows of it."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .._board import Board, random_playouts
from ..architecture import Network
from ..checkpoint import list_shipped, load_checkpoint, load_network
from ..coords import sign_of, symmetry_table
from ..evaluator import Evaluation, Evaluator

PLAYERS = {9: "9x9", 13: "13x13", 19: "human"}  # each plays the sizes nearest to its own
PLAYOUTS = 1000  # random games that tell who owns what, where the network never learned it


def choose_network(size: int, human: bool) -> str:
    """Return the shipped network that plays a size, or the one that knows people's moves."""
    return "human" if human else PLAYERS[min(PLAYERS, key=lambda n: abs(n - size))]


def load_for(size: int, name: str) -> tuple[Network, dict]:
    """Load a network and its checkpoint's `info`; warn on stderr where the size is new to it."""
    checkpoint = load_checkpoint(name)
    network, here = load_network(checkpoint), f"{size}x{size}"
    sizes = trained_sizes(checkpoint.info)
    if sizes and not min(sizes) <= size <= max(sizes):
        learned = " and ".join(f"{n}x{n}" for n in sizes)
        text = f"{name} was trained on {learned} alone: on {here} it guesses"
        text += f", unlike {PLAYERS[size]}" if size in PLAYERS else ""
        print(f"minigo: warning: {text}", file=sys.stderr, flush=True)
    return network, checkpoint.info


def trained_sizes(info: dict) -> list[int]:
    """Return the board sizes that a checkpoint's `info` says it learned on; none if it doesn't."""
    sizes, recipe = info.get("size"), info.get("recipe")
    if recipe:
        return sorted(dict(recipe.get("shares") or ())) or [recipe["size"]]
    return [sizes] if isinstance(sizes, int) else sizes or []


class Turned:
    """An evaluator that sees each batch in a random symmetry, so that no two games are the same.

    As in AlphaGo Zero and KataGo; it makes no search weaker (selfplay/LOG.md).
    """

    def __init__(self, evaluator: Evaluator, size: int, rng: np.random.Generator) -> None:
        self.evaluator, self.rng, self.table = evaluator, rng, symmetry_table(size)
        self.back = np.argsort(self.table, axis=1)

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        """Turn positions, and the policies of the answer back."""
        symmetry = self.rng.integers(len(self.table))
        answer = self.evaluator.begin(positions.take(self.back[symmetry], 1))

        def turn_back() -> Evaluation:
            found = answer()
            return Evaluation(found.logits.take(self.table[symmetry], 1), found.value, found.score)

        return turn_back


def predict_owner(board: Board, evaluator: Evaluator, info: dict) -> np.ndarray:
    """Return (N * N,) whose the points will be, +1 = Black's: the network's mean over symmetries.

    Random games tell where it has learned no ownership of that size; people's games seldom say it.
    """
    size, table = board.size, symmetry_table(board.size)
    if info.get("made_by") == "imitation" or size not in (trained_sizes(info) or [size]):
        return random_playouts(board, PLAYOUTS, 1)[1].ravel()
    turned = board.encode()[np.argsort(table)]
    owned = evaluator.evaluate(turned).ownership.reshape(len(table), -1)
    return sign_of(board.to_play) * np.take_along_axis(owned, table[:, :-1], axis=1).mean(axis=0)


def describe(name: str | Path | None = None) -> dict:
    """Say what a checkpoint is and how it was made; None: each of the shipped ones."""
    if name is None:
        return {shipped: describe(shipped) for shipped in list_shipped()}
    checkpoint = load_checkpoint(name)
    weights = load_network(checkpoint).weights
    learned = [w for key, w in weights.items() if key.endswith(("weight", "bias"))]
    return {
        "file": str(checkpoint.path),
        "file_bytes": checkpoint.path.stat().st_size,
        "network": checkpoint.network,
        "parameters": sum(weight.size for weight in learned),
        "resumable": checkpoint.state is not None,
        **checkpoint.info,
    }

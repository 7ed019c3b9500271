"""Is the judge a good one? Its order of the networks that ship, next to that of the ladder.

    python race/check_judge.py

Prints both for each network, and Spearman's rank correlation with a 95 % interval: the bootstrap
over networks. The ladder is the table of docs/results.md.
"""

import re
from pathlib import Path

import numpy as np
from judge import Judged, judge, load_positions

from minigo.checkpoint import load_checkpoint, load_network
from minigo.network import as_module

LADDER = Path(__file__).parents[1] / "docs" / "results.md"
ROW = re.compile(r"^\| `(9x9[\w-]*)` \| [\d.]+ \|.*?\| ([+-]\d+) \(.*?\| .*?\| ([+-]\d+)")


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's; equal numbers share no rank, so let there be few."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def main() -> None:
    rows, positions = [], load_positions("zero", [])
    lines = LADDER.read_text(encoding="utf-8").splitlines()
    for name, bare, searching in (m.groups() for line in lines if (m := ROW.match(line))):
        found = judge(Judged(as_module(load_network(load_checkpoint(name)))), positions)
        rows.append((*found.values(), float(bare), float(searching)))
        print(f"{name:24}", *(f"{x:8.3f}" for x in found.values()), f"{bare:>6}{searching:>7}")
    table, rng = np.array(rows), np.random.default_rng(1)
    for i, figure in enumerate(("metric", "policy_nats", "value_error")):
        for j, elo in ((3, "bare"), (4, "64 visits")):
            pairs = table[:, [i, j]] * (-1, 1)
            samples = rng.integers(len(pairs), size=(2000, len(pairs)))
            found = [rank_correlation(*pairs[sample].T) for sample in samples]
            low, high = np.quantile(found, (0.025, 0.975))
            whole = rank_correlation(*pairs.T)
            print(f"{figure} and Elo, {elo}: {whole:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()

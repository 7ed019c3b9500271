"""What a run has reached: ratings on the way, their curve, matches at its end."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ..checkpoint import cycle_path
from ..config import Recipe
from ..play.match import MatchConfig, find_gnugo, match, parse_player
from .elo import format_elo
from .ladder import ELOS, GNUGO_LEVELS, rate, read_results

MATCH_VISITS = 16  # per move, of a run's last network against its first version
RATE_GAMES = 100  # of each rating
GNUGO_VISITS = 64  # against GNU Go, and in ratings


def follow(recipe: Recipe, networks: Path) -> Callable[[dict], None]:
    """Return what shows each row of a run's log, and rates its network where the recipe says so.

    The ratings stand in `ratings.jsonl` beside the log.
    """

    def after_cycle(row: dict) -> None:
        tqdm.write(format_row(row), file=sys.stderr)
        if recipe.rate_every and row["cycle"] % recipe.rate_every == 0:
            ratings = read_ratings(networks)
            cycles = [rating["cycle"] for rating in ratings[-2:]] + [row["cycle"]]
            found = {"cycle": row["cycle"], "elapsed_s": row["elapsed_s"]}
            found |= rate_cycle(recipe, networks, cycles)
            with open(networks / "ratings.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            tqdm.write(format_curve([*ratings, found]), file=sys.stderr)

    return after_cycle


def rate_cycle(recipe: Recipe, networks: Path, cycles: list[int]) -> dict:
    """Place the last of `cycles` on the run's ladder; return its Elo, and whose is 0.

    The ladder, in the folder `ladder`, has GNU Go where that is installed, else the run's first
    version, and the networks of the other cycles.
    """
    players = [parse_player(text) for text in map(find_gnugo, GNUGO_LEVELS) if text]
    for cycle in cycles if players else [0, *cycles]:
        if (path := cycle_path(networks, cycle)).exists():
            player = parse_player(str(path), GNUGO_VISITS)
            players.append(dataclasses.replace(player, name=path.stem))
    folder = networks / "ladder"
    max_games = len(read_results(folder)) + RATE_GAMES
    ladder = rate(players, folder, _config(recipe), sprt_elo=0, max_games=max_games)
    found = next(p for p in ladder["players"] if p["name"] == players[-1].name)
    return {"anchor": ladder["anchor"]} | {key: found[key] for key in ELOS}


def _config(recipe: Recipe) -> MatchConfig:
    return MatchConfig(size=recipe.size, rules=recipe.rules, device=recipe.device)


def read_ratings(networks: Path) -> list[dict]:
    """Return the ratings of a run: "cycle", "elapsed_s" and what `rate_cycle` said."""
    path = networks / "ratings.jsonl"
    return [json.loads(line) for line in path.open(encoding="utf-8")] if path.exists() else []


def format_curve(ratings: list[dict]) -> str:
    """Draw ratings, one line and bar each."""
    if not ratings:
        return "no rating yet"
    low, high = (pick(point["elo"] for point in ratings) for pick in (min, max))
    lines = [f"cycle  minutes  Elo (95 %), 0 = {ratings[-1]['anchor']}"]
    for point in ratings:
        bar = "#" * (1 + round(40 * (point["elo"] - low) / max(high - low, 1)))
        elo, minutes = format_elo(*(point[key] for key in ELOS)), point["elapsed_s"] / 60
        lines.append(f"{point['cycle']:>5}{minutes:>9.0f}  {elo:<22} {bar}")
    return "\n".join(lines)


def describe_run(folder: str | Path) -> tuple[dict, str]:
    """Return what a run's log says: its last row and ratings, and both as text."""
    path = Path(folder, "log.jsonl")
    try:
        log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        ratings = read_ratings(path.parent)
        text = f"{format_row(log[-1])}\n{format_curve(ratings)}" if log else "no cycle is done yet"
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: no log of a run") from None
    return {**(log[-1] if log else {}), "ratings": ratings}, text


def format_row(row: dict) -> str:
    """Write a row of the log for people."""
    losses = " ".join(f"{head} {loss:.3f}" for head, loss in row.get("losses", {}).items())
    minutes = row["elapsed_s"] / 60
    return f"cycle {row['cycle']}: {row['games']} games, {minutes:.1f} min, losses {losses}"


def measure(recipe: Recipe, networks: Path, network: Path) -> list[dict]:
    """Play a run's network against its first version, and GNU Go level 1 where that is installed.

    Returns a row for each match: "opponent", "simulations" (the visits) and what `match` returns.
    """
    opponents = [("its first version", str(cycle_path(networks, 0)), MATCH_VISITS, 100)]
    if gnugo := find_gnugo(level=1):
        opponents.append(("GNU Go level 1", gnugo, GNUGO_VISITS, 20))
    rows = []
    for name, opponent, visits, num_games in opponents:
        players = (parse_player(text, visits) for text in (str(network), opponent))
        result = match(*players, num_games, _config(recipe))
        rows.append({"opponent": name, "simulations": visits} | result)
    return rows


def format_rows(rows: list[dict]) -> str:
    """Write match results as a table."""
    lines = ["opponent            simulations  games  won  lost  drawn  Elo (95 %)"]
    for row in rows:
        lines.append(
            f"{row['opponent']:<20}{row['simulations']:>11}{row['games']:>7}{row['wins']:>5}"
            f"{row['losses']:>6}{row['draws']:>7}  {format_elo(*(row[key] for key in ELOS))}"
        )
    return "\n".join(lines)

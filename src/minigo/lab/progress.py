"""What a run has reached: ratings beside it, their curve, matches at its end."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm

from ..checkpoint import cycle_path
from ..config import Recipe
from ..crew import LOW_PRIORITY, Crew
from ..machine import write_whole
from ..play.match import MatchConfig, Player, find_gnugo, match, parse_player
from .ladder import ELO, ELOS, GNUGO_LEVELS, Ladder, play_job

MATCH_VISITS = 16  # per move, of a run's last network against its first version
RATE_GAMES = 100  # of each rating
GNUGO_VISITS = 64  # against GNU Go, and in ratings
GNUGO_GAMES = {1: 20, 10: 20}  # at a run's end, by level: of 10 nine seconds a game


@contextmanager
def follow(recipe: Recipe, networks: Path) -> Iterator[Callable[[dict], None]]:
    """Yield what shows each row of a run's log, and has its network rated where the recipe says so.

    A process beside the run plays a rating and makes room for it; cycles that come due meanwhile
    are left out, and the last rating is waited for. What goes wrong there is a line on stderr.
    """
    with ExitStack() as process:
        crews = []  # of that process, while it plays

        def collect(timeout_s: float | None) -> None:
            try:
                if not any(crew.wait(timeout_s) for crew in crews):
                    return
                text = format_curve(read_ratings(networks))
            except ValueError as error:
                text = f"minigo: no rating: {error}"
            tqdm.write(text, file=sys.stderr)
            crews.clear()
            process.close()

        def after_cycle(row: dict) -> None:
            tqdm.write(format_row(row), file=sys.stderr)
            collect(0.0)
            if recipe.rate_every and row["cycle"] % recipe.rate_every == 0 and not crews:
                crew = Crew(rate_cycle, 1, LOW_PRIORITY, 1)  # a GPU's server has the first core
                crews.append(process.enter_context(crew))
                crew.give(recipe, networks, row)

        yield after_cycle
        if crews:
            tqdm.write("the last rating is still being played", file=sys.stderr)
        collect(None)


def rate_cycle(recipe: Recipe, networks: Path, row: dict) -> None:
    """Place a cycle's network on the run's ladder, and write its rating to `ratings.jsonl`.

    The ladder, in the folder `ladder`, has GNU Go where that is installed, else the run's first
    version, and the networks rated last. Its games leave a GPU to the run.
    """
    players = [parse_player(text) for text in map(find_gnugo, GNUGO_LEVELS) if text]
    last = [rating["cycle"] for rating in read_ratings(networks)[-2:]]
    for cycle in dict.fromkeys([0] * (not players) + last + [row["cycle"]]):
        if (path := cycle_path(networks, cycle)).exists():
            players.append(Player(path.stem, str(path), visits=GNUGO_VISITS))
    config = MatchConfig(recipe.size, recipe.rules, device="cpu")
    ladder = Ladder(players, networks / "ladder", config)
    max_games = len(ladder.rows) + RATE_GAMES
    while len(ladder.rows) < max_games:
        play_job(*ladder.next_job(max_games))
        ladder.read()
    report, name = ladder.save(), cycle_path(networks, row["cycle"]).stem
    found = next(player for player in report["players"] if player["name"] == name)
    rating = {"cycle": row["cycle"], "elapsed_s": row["elapsed_s"], "anchor": report["anchor"]}
    ratings = [*read_ratings(networks), rating | {key: found[key] for key in ELOS}]
    write_whole(networks / "ratings.jsonl", "".join(json.dumps(each) + "\n" for each in ratings))


def read_ratings(networks: Path) -> list[dict]:
    """Return the ratings of a run, as `rate_cycle` wrote them."""
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
        minutes, elo = point["elapsed_s"] / 60, ELO.format(**point)
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
    counts = f"{row['games']} games, {row['elapsed_s'] / 60:.1f} min"
    counts += f", learning {row.get('learner_share', 0):.0%}"
    for rank, games in enumerate(row.get("rank_games", ())):
        counts += f"; rank {rank}: {games} games"
    for node in row.get("nodes", ()):
        counts += "; {address}: {players} players, {games_per_s:.1f} games/s, ".format(**node)
        counts += "{cycles_behind} networks behind".format(**node)
    return f"cycle {row['cycle']}: {counts}, losses {losses}"


def measure(recipe: Recipe, networks: Path, network: Path) -> list[dict]:
    """Play a run's network against its first version, and GNU Go where that is installed.

    Returns a row for each match: "opponent", "simulations" (the visits) and what `match` returns.
    """
    opponents = [("its first version", str(cycle_path(networks, 0)), MATCH_VISITS, 100)]
    for level, num_games in GNUGO_GAMES.items():
        if gnugo := find_gnugo(level):
            opponents.append((f"GNU Go level {level}", gnugo, GNUGO_VISITS, num_games))
    rows, config = [], MatchConfig(recipe.size, recipe.rules, device=recipe.device)
    for name, opponent, visits, num_games in opponents:
        players = (parse_player(text, visits) for text in (str(network), opponent))
        result = match(*players, num_games, config)
        rows.append({"opponent": name, "simulations": visits} | result)
    return rows


def format_rows(rows: list[dict]) -> str:
    """Write match results as a table."""
    counts = "{opponent:<20}{simulations:>11}{games:>7}{wins:>5}{losses:>6}{draws:>7}  "
    lines = [(counts + ELO).format(**row) for row in rows]
    heads = "opponent                 visits  games  won  lost  drawn  Elo (95 %)"
    return "\n".join([heads, *lines])

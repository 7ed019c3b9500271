"""An Elo ladder of many players, with intervals, from games that it chooses, plays and keeps.

In the folder of a ladder are `results.jsonl` with a line for each finished game, `games/` with the
SGF files, and `ladder.json` and `ladder.md`, which are made from the results. A killed ladder goes
on where it was: no finished game is lost or counted twice.
"""

import json
import math
import os
import sys
import time
import zlib
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from tqdm import tqdm

from ..checkpoint import find_checkpoint, list_shipped, load_checkpoint
from ..crew import Crew
from ..machine import list_cores, write_whole
from ..play.match import Game, MatchConfig, Player, find_gnugo, parse_player, play_games, play_there
from ..play.shipped import trained_sizes
from .elo import choose_pair, find_interval, fit_ratings, sprt

VISITS = (0, 16, 64, 256, 1024)  # visits of each network, where a player's name doesn't say
GNUGO_LEVELS = (1, 5, 10)
ELOS = ("elo", "elo_low", "elo_high")  # of a player in a report, with the ends of its interval
ELO = "{elo:+.0f} ({elo_low:+.0f} to {elo_high:+.0f})"
ANCHOR = "gnugo-10"  # whose rating is 0; without it, the first player's is
NEEDED = ("a", "b", "points", "size", "komi", "identities")  # of a line of results
SPRT_BOUND = math.log(0.95 / 0.05)  # of the log-likelihood ratio; both kinds of error 5 % (Wald)
JOB_VISITS = 10_000  # a job has as many games as such a sum over both players allows,
JOB_GAMES = (4, 32)  # at least and at most; few while the players have few, and each tells much
PROGRAM_VISITS = 500  # that take as long as a move of GNU Go's level 10 (b6c64 in int8)
GAME_VISITS = 8  # and as all the rest of a move
GLANCE_S = 1.0  # between looks at the results, while jobs are under way


def list_players(texts: Sequence[str], visits: Sequence[int], size: int) -> list[Player]:
    """Return the players that are meant, each once and under a name of its own.

    A network without "@VISITS" is one player for each of `visits`, "gnugo" one for each of
    GNUGO_LEVELS. No text: GNU Go where it is installed, and the networks that ship for this size.
    """
    if not texts:
        texts = ["gnugo"] * (find_gnugo() is not None) + shipped_for(size)
    players = []
    for text in texts:
        if text == "gnugo":
            if find_gnugo() is None:
                raise ValueError("gnugo: GNU Go is not installed")
            players += [parse_player(find_gnugo(level)) for level in GNUGO_LEVELS]
        elif text.startswith("gtp:") or "@" in Path(text).name:
            players.append(parse_player(text))
        else:
            players += [parse_player(f"{text}@{count}") for count in visits]
    unique = {player.name: player for player in players}
    if clash := [player.name for player in players if unique[player.name] != player]:
        raise ValueError(f"two different players are called {clash[0]}")
    if len(unique) < 2:
        raise ValueError(f"a ladder of {len(unique)} players")
    return list(unique.values())


def shipped_for(size: int) -> list[str]:
    """Return the networks that ship for a board size, or know it, each under its first name."""
    shipped = list_shipped()
    names = [name for name in shipped if name.split("-")[0] == f"{size}x{size}"]
    names = names or [n for n in shipped if size in trained_sizes(load_checkpoint(n).info)]
    files = {find_checkpoint(name).read_bytes(): name for name in reversed(names)}
    return sorted(files.values())


def _identify(player: Player) -> str:
    """Say what a player is, so that nobody else's games are taken for his."""
    if player.command:
        return " ".join(player.command.split()[1:])
    return f"{zlib.crc32(find_checkpoint(player.checkpoint).read_bytes()):08x}"


def play_job(a: Player, b: Player, numbers: range, config: MatchConfig, *games: Game) -> None:
    """Play games of two players, and write SGF and a line for each that is finished.

    config: its seed is the job's number, from 1, and its SGF folder is named after that. games:
    those that others have played.
    """
    job, folder, identities = config.sgf.name, config.sgf.parents[1], [_identify(a), _identify(b)]
    for game in games or play_games(a, b, numbers, config):
        row = {"a": a.name, "b": b.name, "points": game.points()}  # A's points
        row |= {"black": game.names[game.black], "moves": len(game.moves), "ending": game.ending}
        row |= {"size": config.size, "komi": config.rules.komi, "identities": identities}
        row["sgf"] = f"games/{job}/{game.write(config.sgf)}"
        with open(folder / "results.jsonl", "ab", buffering=0) as file:
            file.write(json.dumps(row).encode() + b"\n")  # whole: lines of processes don't mix
            os.fsync(file.fileno())


def read_results(folder: Path) -> list[dict]:
    """Return the finished games; a line torn by a power cut is named on stderr and left out."""
    path, rows = folder / "results.jsonl", []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            row = json.loads(line)
            rows.append(row | {name: row[name] for name in NEEDED})
        except (ValueError, LookupError, TypeError):
            tqdm.write(f"{path}:{number}: a torn line is left out", file=sys.stderr)
    return rows


class Ladder:
    """What the results in a folder say of the players, and which games would tell more."""

    def __init__(self, players: Sequence[Player], folder: Path, config: MatchConfig) -> None:
        self.players, self.folder, self.config = list(players), folder, config
        self.identities = {player.name: _identify(player) for player in players}
        self.planned: list[tuple] = []  # jobs under way: as if played when choosing more
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "results.jsonl", "ab+") as file:
            file.seek(max(0, file.tell() - 1))
            if file.read() not in (b"", b"\n"):  # torn: the next game begins on its own line
                file.write(b"\n")
        self.read()

    def read(self) -> None:
        """Take in what the folder holds now. Raises ValueError for games of others."""
        self.rows = read_results(self.folder)
        for row in self.rows:
            if (row["size"], row["komi"]) != (self.config.size, self.config.rules.komi):
                self._refuse(f"size {row['size']} and komi {row['komi']:g}")
            for name, identity in zip((row["a"], row["b"]), row["identities"], strict=True):
                if self.identities.setdefault(name, identity) != identity:
                    self._refuse(f"another {name}")
        self.names = list(self.identities)  # first those who play, then whom only results know
        self.points = np.zeros((len(self.names), len(self.names)))
        for row in self.rows:
            a, b = self.names.index(row["a"]), self.names.index(row["b"])
            self.points[[a, b], [b, a]] += row["points"], 1 - row["points"]
        self.anchor = self.names.index(ANCHOR) if ANCHOR in self.names else 0
        self.ratings, self.covariance = fit_ratings(self.points, self.anchor)

    def _refuse(self, found: str) -> None:
        raise ValueError(f"{self.folder} holds games of {found}: choose another folder")

    def num_games(self) -> int:
        """Count the games finished and under way."""
        return len(self.rows) + sum(len(numbers) for _, _, numbers, _ in self.planned)

    def next_job(self, max_games: float) -> tuple[Player, Player, range, MatchConfig]:
        """Choose the games to play next, for `play_job`, and make room for their SGF."""
        games = self.points + self.points.T
        for *pair, numbers, _ in self.planned:
            a, b = (self.players.index(player) for player in pair)
            games[[a, b], [b, a]] += len(numbers)
        works = np.full(len(self.names), np.inf)  # nobody plays whom only old results know
        for i, player in enumerate(self.players):
            works[i] = PROGRAM_VISITS if player.command else max(1, player.visits)
        costs = (works[:, None] + works[None]) / 2 + GAME_VISITS
        most = np.clip(games.sum() / len(games) // 4 * 2, *JOB_GAMES)
        # By what the first few would tell: more of them would make every job cost about the same.
        i, j = choose_pair(self.ratings, games, self.anchor, costs, JOB_GAMES[0])
        count = np.clip(JOB_VISITS / costs[i, j] // 2 * 2, JOB_GAMES[0], most)
        numbers = range(int(min(count, max_games - self.num_games())))
        seed = 1 + max((int(p.name) for p in self.folder.glob("games/[0-9]*")), default=0)
        sgf = self.folder / "games" / f"{seed:05d}"
        sgf.mkdir(parents=True)
        return self.players[i], self.players[j], numbers, replace(self.config, seed=seed, sgf=sgf)

    def is_decided(self, elo: float, bar: tqdm) -> bool:
        """Tell whether a sequential test knows of all neighbours who is the stronger.

        Among those who still play: the folder may know others. The bar shows of how many it does.
        """
        neighbours = pairwise(np.argsort(-self.ratings[: len(self.players)]))
        ratios = [sprt(self.points, self.anchor, i, j, elo) for i, j in neighbours]
        num_decided, most = sum(ratio >= SPRT_BOUND for ratio in ratios), len(self.players) - 1
        bar.set_postfix_str(f"{num_decided}/{most} decided", refresh=False)
        return num_decided == most

    def save(self) -> dict:
        """Write `ladder.json` and `ladder.md` and return the first: the strongest first, in Elo."""
        order, games = np.argsort(-self.ratings, kind="stable"), self.points + self.points.T
        players, pairs = [], []
        for i in order:
            elos = self.ratings[i], *find_interval(self.points, self.anchor, i)
            figures = {key: round(float(elo), 1) for key, elo in zip(ELOS, elos, strict=True)}
            counts = {"games": int(games[i].sum()), "points": float(self.points[i].sum())}
            players.append({"name": self.names[i]} | figures | counts)
        for i, j in combinations(order, 2):
            if games[i, j]:
                counts = {"games": int(games[i, j]), "points": float(self.points[i, j])}
                pairs.append({"a": self.names[i], "b": self.names[j]} | counts)
        report = {"size": self.config.size, "komi": self.config.rules.komi}
        report |= {"anchor": self.names[self.anchor], "games": len(self.rows)}
        report |= {"players": players, "pairs": pairs}
        report["covariance"] = self.covariance[np.ix_(order, order)].round(1).tolist()
        write_whole(self.folder / "ladder.json", json.dumps(report) + "\n")
        write_whole(self.folder / "ladder.md", format_ladder(report) + "\n")
        return report


def format_ladder(report: dict) -> str:
    """Write a ladder as a Markdown table."""
    lines = ["| player | Elo | 95 % | games | score |", "|---|--:|--:|--:|--:|"]
    for p in report["players"]:
        interval = f"{p['elo_low']:+.0f} to {p['elo_high']:+.0f}"
        score = f"{p['points'] / p['games']:.0%}" if p["games"] else ""
        name = f"**{p['name']}**" if p["name"] == report["anchor"] else p["name"]
        lines.append(f"| {name} | {p['elo']:+.0f} | {interval} | {p['games']} | {score} |")
    return "\n".join(lines)


def rate(
    players: Sequence[Player],
    folder: str | Path,
    config: MatchConfig,
    *,
    max_games: float = 1000,
    minutes: float = math.inf,
    sprt_elo: float = 50.0,
    workers: int = 0,
    ray: str = "",
) -> dict:
    """Play the games that tell most about the players' ratings, and return the ladder.

    Stops after `max_games` in the folder, earlier sittings' included, after `minutes` of this one,
    or once a sequential test has decided for all neighbours on the ladder who is the stronger: H1
    "by `sprt_elo`" against H0 "weaker by as much", both errors 5 %; 0 leaves the test out. Games
    that aren't finished then are dropped. workers: 0: one per core; ray: the address of a cluster
    whose cores play instead. Raises ValueError where a player doesn't start, or the folder holds
    other games.
    """
    deadline, ladder = time.monotonic() + 60 * minutes, Ladder(players, Path(folder), config)
    bar = tqdm(total=max_games, desc="rate", unit=" games")
    if ray:
        from ..cluster import Tasks  # not above: it is an extra

        crew = Tasks(ray, play_there, {player.checkpoint for player in players})
    else:
        crew = Crew(play_job, workers or len(list_cores()))
    with bar, crew:
        while time.monotonic() < deadline:
            if sprt_elo and len(ladder.rows) > bar.n and ladder.is_decided(sprt_elo, bar):
                break
            bar.update(len(ladder.rows) - bar.n)
            while crew.idle and ladder.num_games() < max_games:
                ladder.planned.append(ladder.next_job(max_games))
                crew.give(*ladder.planned[-1])
            if not ladder.planned:
                break
            for job, games in crew.wait(GLANCE_S):
                ladder.planned.remove(job)
                if games:
                    play_job(*job, *games)
            ladder.read()
    ladder.read()
    return ladder.save()

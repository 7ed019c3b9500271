"""The three lessons as one measured report: a ladder of games, then numbers, plots and a page.

Leaves out the page itself (`lessons.html`, a template that reads the report) and the games' Elo
(`ladder`). Figures need matplotlib; the page that comes out needs nothing but a browser.
"""

import base64
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle, groupby, pairwise, product
from operator import itemgetter
from pathlib import Path

import numpy as np

from ..checkpoint import SUFFIX, load_checkpoint
from ..coords import sign_of
from ..machine import list_cores, sort_by_number, write_whole
from ..play.match import MatchConfig, find_gnugo, parse_player
from ..sgf import GameTree
from .analyze import Look, look_at
from .elo import CONFIDENCE
from .ladder import ELO, ELOS, GNUGO_LEVELS, VISITS, format_ladder, rate, read_results, shipped_for

QUICK_MINUTES = 7.5  # of games, on two cores; the rest of ten is for looking at some and drawing
QUICK_VISITS = (0, 16, 64, 256)
MINUTES_PER_PLAYER = 2.0  # of games in a full report, on two cores
MEASURED = 64  # visits at which networks are compared, and heads left out
RUN_NETWORKS = 6  # of a run's cycles, spread evenly over the logarithm of its time
LONG_GAME = 1.5  # times N * N moves: not shown if there is a shorter one
SHOWN_POLICY = 10  # thousandths; moves below it are not kept for the page
# Okabe and Ito's colours, which (nearly) everybody can tell apart; markers differ, too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9")
MARKERS = "os^DvPX*"
KINDS = ("imitation", "from zero", "from imitation")  # how networks learned
LEARNED = KINDS[1:]  # by self-play
SECTIONS = ("imitation", "search", "reinforcement", "exchange", "ablation", "everybody")


@dataclass(frozen=True)
class Subject:
    """A network of the report, and how it came to be."""

    name: str  # of a checkpoint: shipped, or a path
    kind: str  # one of KINDS
    minutes: float  # of training, those of the imitation that it began with included
    info: dict


def find_networks(size: int, runs: Sequence[str | Path] = ()) -> list[Subject]:
    """Return the networks that ship for a size, and some of the cycles of each run's folder."""
    names = shipped_for(size)
    for run in runs:
        if not (cycles := pick_cycles(run)):
            raise ValueError(f"{run}: no folder of a run with at least one cycle")
        names += cycles
    if not names:
        raise ValueError(f"no network ships for {size}x{size}; name a run's folder with --run")
    return describe_networks(names)


def pick_cycles(run: str | Path) -> list[str]:
    """Return some of the networks of a run's folder, spread over its time."""
    paths = sort_by_number(Path(run).glob(f"cycle-[0-9]*{SUFFIX}"))[1:]  # 0: nothing learned
    steps = np.geomspace(1, max(1, len(paths)), RUN_NETWORKS).round().astype(int)
    return [str(paths[step - 1]) for step in np.unique(steps) if paths]


def describe_networks(names: Sequence[str]) -> list[Subject]:
    """Say of each network how it learned, and for how long, with the one that it began with."""
    networks, infos = [], {name: load_checkpoint(name).info for name in names}
    for name, info in infos.items():
        recipe = info.get("recipe", {})
        is_human, start = info.get("made_by") == "imitation", recipe.get("start", "zero")
        first = infos.get(Path(recipe["start_from"]).stem, {}) if start == "imitation" else {}
        start = first.get("recipe", {"start": start})["start"]
        minutes = sum(i.get("minutes", i.get("elapsed_s", 0.0) / 60) for i in (info, first))
        networks.append(Subject(name, "imitation" if is_human else f"from {start}", minutes, info))
    return networks


def lessons(
    out: str | Path,
    *,
    quick: bool = False,
    minutes: float | None = None,
    size: int = 9,
    runs: Sequence[str | Path] = (),
    workers: int = 0,
) -> dict:
    """Play the games, and write `lessons.html`, `lessons.json` and PNG figures into a folder.

    minutes: of games, in this sitting; 0 makes the page of those that are there. runs: folders of
    networks, as `minigo train` leaves them. Returns the report, without the games.
    """
    if find_spec("matplotlib") is None:
        raise ValueError("figures need matplotlib: pip install 'minigo[plots]'")
    out, cores = Path(out), workers or len(list_cores())
    study = Study(find_networks(size, runs), size, quick)
    players = [parse_player(text) for text in study.player_texts()]
    if minutes is None:
        minutes = QUICK_MINUTES if quick else MINUTES_PER_PLAYER * len(players)
    end = time.strftime("%H:%M", time.localtime(time.time() + 60 * (minutes + 1)))
    text = f"{len(players)} players, {minutes:g} minutes of games on {cores} cores, "
    print(f"{text}then about a minute for the page: ready at {end}", file=sys.stderr)
    limits = {"minutes": minutes, "max_games": math.inf, "sprt_elo": 0}
    study.take(rate(players, out / "ladder", MatchConfig(size=size), workers=workers, **limits))
    sections = {name: getattr(study, name)() for name in SECTIONS}
    report = {"size": size, "quick": quick, "sections": sections, "ladder": study.ladder}
    report |= {"made": time.strftime("%Y-%m-%d"), "cores": cores}
    figures = {name: draw(out / f"{name}.png", s) for name, s in sections.items() if s["lines"]}
    page = report | {"figures": figures, "games": embed_games(out / "ladder", study)}
    write_whole(out / "lessons.json", json.dumps(report, indent=1))
    write_whole(out / "lessons.html", fill_page("lessons.html", page))
    return report


def fill_page(name: str, data: dict) -> str:
    """Return a page of this folder as one file: with its data, and what all boards share."""
    folder = Path(__file__).parent
    page, style, code = ((folder / n).read_text("utf-8") for n in (name, "board.css", "board.js"))
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # ends no script
    return page.replace("/*STYLE*/", style).replace("/*BOARD*/", code).replace("/*DATA*/", text)


class Study:
    """The questions of the report: whom to play, and what the ladder answers.

    An answer is a section of the page: "facts", sentences, and "lines" to draw, each with a label
    and points, the rows of a table: x, y, low, high, games, player. "x" and "y" say what these are.
    """

    def __init__(self, networks: list[Subject], size: int, quick: bool) -> None:
        self.networks, self.quick = networks, quick
        self.simulations = QUICK_VISITS if quick else VISITS
        self.human = next((n for n in networks if n.kind == "imitation"), None)
        learners = [n for n in networks if n.kind != "imitation"] or networks
        # The one called as its size is the one to play with.
        self.main = next((n for n in learners if n.name == f"{size}x{size}"), learners[-1])

    def player_texts(self) -> list[str]:
        """Return the players, as `parse_player` reads them."""
        texts = [text for text in map(find_gnugo, GNUGO_LEVELS) if text]
        for network in self.networks:
            is_brief = self.quick and network not in (self.human, self.main)
            counts = (0, MEASURED) if is_brief else self.simulations
            texts += [f"{network.name}@{count}" for count in counts]
        return texts + [f"{self.main.name}@{MEASURED}:no-{head}" for head in ("policy", "value")]

    def take(self, ladder: dict) -> None:
        """Take in the ladder, and note of its players what is known of their networks."""
        self.ladder, self.rated = ladder, {p["name"]: p for p in ladder["players"]}
        for network, count in product(self.networks, self.simulations):
            about = {"network": network.name, "kind": network.kind, "minutes": network.minutes}
            about["simulations"] = max(1, count)  # 1: the bare policy
            self.rated.get(f"{network.name}@{count}", {}).update(about)

    def select(self, **wanted) -> list[dict]:
        """Return the players with such notes, the least trained and least searching first."""
        found = [p for p in self.rated.values() if wanted.items() <= p.items()]
        return sorted(found, key=itemgetter("minutes", "simulations"))

    def fit(self, players: list[dict], *keys: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return Elo for each doubling of these notes and the covariance; None if players lack.

        Generalised least squares (Aitken 1936): the ratings of a ladder share their errors.
        """
        design = np.array([[1, *(math.log2(player[key]) for key in keys)] for player in players])
        if np.linalg.matrix_rank(design) <= len(keys):
            return None
        index = [self.ladder["players"].index(player) for player in players]
        weights = np.linalg.inv(np.array(self.ladder["covariance"])[np.ix_(index, index)])
        covariance = np.linalg.inv(design.T @ weights @ design)
        slopes = covariance @ design.T @ weights @ [player["elo"] for player in players]
        return slopes[1:], covariance[1:, 1:]

    def imitation(self) -> dict:
        if self.human is None:
            return _section(["No network of human games is here."], [])
        info, (bare, *_) = self.human.info, self.select(network=self.human.name)
        facts = [
            f"{self.human.name} ({info['games']:,} games, {info['minutes']:.0f} minutes) predicts "
            f"{info['top1']:.1%} of the moves of {info['positions']:,} positions from games it "
            f"never saw; {info['top5']:.1%} are among its first five.",
            f"Its Elo as it stands, without any search: {ELO.format(**bare)}.",
        ]
        lines = [
            {"label": label, "points": [(c["minutes"], 100 * c[key]) for c in info["curve"]]}
            for key, label in (("top5", "among the first five"), ("top1", "the first choice"))
        ]
        return _section(facts, lines, "minutes of training", "held-out moves predicted (%)")

    def search(self) -> dict:
        lines, slopes = [], []
        most_trained = [found[-1]["network"] for kind in KINDS if (found := self.select(kind=kind))]
        for label in dict.fromkeys([*most_trained, self.main.name]):  # all would hide each other
            bare, *players = self.select(network=label)
            if fitted := self.fit(players, "simulations"):
                (slope,), covariance = fitted
                label += f" {slope:+.0f} (± {CONFIDENCE * covariance[0, 0] ** 0.5:.0f})"
                slopes.append(label)
            lines.append(_line(label, [bare, *players], "simulations"))
        low, high = self.simulations[1], self.simulations[-1]
        facts = [f"Elo for each doubling between {low} and {high}: {', '.join(slopes)}."]
        return _section(facts, lines, "visits per move (1: the bare policy)")

    def reinforcement(self) -> dict:
        facts, lines = [], []
        human = self.select(network=self.human.name) if self.human else []
        budgets = (MEASURED, f"{MEASURED} visits"), (1, "no search")
        for (simulations, how), kind in product(budgets, LEARNED):
            if players := self.select(kind=kind, simulations=simulations):
                if kind == "from imitation":
                    players = [p for p in human if p["simulations"] == simulations] + players
                lines.append(_line(f"{kind}, {how}", players, "minutes"))
                if human:
                    elos = {p["minutes"]: p["elo"] - human[0]["elo"] for p in players}
                    facts.append(f"Self-play {kind}, {how}: {compare(elos)}.")
        if human:
            ends = [pick(network.minutes for network in self.networks) for pick in (min, max)]
            level = [human[0] | {"minutes": minutes} for minutes in ends]
            lines.append(_line("the imitator, no search", level, "minutes"))
        return _section(facts, lines, "minutes of training")

    def exchange(self) -> dict:
        facts, lines = [], []
        for kind in LEARNED:
            players = [p for p in self.select(kind=kind) if p["simulations"] > 1]
            for minutes, group in groupby(players, itemgetter("minutes")):
                lines.append(_line(f"{minutes:.0f} min {kind}", group, "simulations"))
            if fitted := self.fit(players, "minutes", "simulations"):
                (train, search), covariance = fitted
                gradient = np.array([1 / search, -train / search**2])
                error = CONFIDENCE * math.sqrt(gradient @ covariance @ gradient)
                facts.append(
                    f"Self-play {kind}: {train:+.0f} Elo for each doubling of the training, "
                    f"{search:+.0f} of the search. So at equal strength, twice the training saves "
                    f"{train / search:.1f} (± {error:.1f}) doublings of the search."
                )
        missing = "This takes two networks of one kind, trained for different times: see --run."
        return _section(facts or [missing], lines, "visits per move")

    def ablation(self) -> dict:
        name = f"{self.main.name}@{MEASURED}"
        parts = {f"{self.main.name}@0": "policy alone", f"{name}:no-value": "policy with search"}
        parts |= {f"{name}:no-policy": "value with search", name: "policy, value and search"}
        found = [self.rated[player] | {"part": part} for player, part in parts.items()]
        bare, no_value, no_policy, whole = (player["elo"] for player in found)
        fact = (
            f"Search takes the bare policy {whole - bare:+.0f} Elo up. Without the value the whole "
            f"changes by {no_value - whole:+.0f}, without the policy by {no_policy - whole:+.0f}."
        )
        return _section([fact], [_line("", found, "part")], "what plays")

    def everybody(self) -> dict:
        fact = (
            f"{self.ladder['games']:,} games, komi {self.ladder['komi']:g}, area scoring; "
            f"{self.ladder['anchor']} is 0 by definition. Intervals are of 95 %."
        )
        return _section([fact], [_line("", reversed(self.rated.values()), "name")], "player")


def compare(elos: dict[float, float]) -> str:
    """Say when self-play rises through 0, the imitator's Elo, between points of a log axis."""
    whom = "the imitator without search"
    for (before, low), (after, high) in pairwise(sorted(elos.items())):
        if low < 0 <= high:
            minutes = before * (after / before) ** (low / (low - high))
            return f"passes {whom} after {minutes:.1f} minutes"
    return f"{elos[max(elos)]:+.0f} Elo from {whom} after {max(elos):.0f} minutes in all"


def _line(label: str, players: Iterable[dict], x: str) -> dict:
    points = [[p[key] for key in (x, *ELOS, "games", "name")] for p in players]
    return {"label": label, "points": points}


def _section(facts: list[str], lines: list[dict], x: str = "", y: str = "Elo") -> dict:
    return {"facts": facts, "lines": lines, "x": x, "y": y}


def draw(path: Path, section: dict) -> str:
    """Draw a PNG of a section's lines, or of ratings beside names; return it as a data address."""
    from matplotlib.figure import Figure

    lines, first = section["lines"], section["lines"][0]["points"]
    are_names = isinstance(first[0][0], str)
    across, up = "yx" if are_names else "xy"
    height = 3.3 + 0.08 * len(lines) + 0.17 * max(0, len(first) - 8)
    plot = Figure(figsize=(4.8, height), layout="constrained").subplots()
    for line, color, marker in zip(lines, cycle(COLORS), cycle(MARKERS), strict=False):
        places, values, *ends = list(zip(*line["points"], strict=True))[:4]
        spread = np.abs(np.array(ends) - values) if ends else None
        data = {across: places, up: values, f"{up}err": spread, "label": line["label"]}
        style = {"color": color, "marker": marker, "markersize": 5, "capsize": 3}
        plot.errorbar(**data, **style, linestyle="" if are_names else "-")
    plot.set(**{f"{across}label": section["x"], f"{up}label": section["y"]})
    plot.grid(color="#dddddd")
    if not are_names:
        plot.set_xscale("log", base=2)
        plot.xaxis.set_major_formatter("{x:g}")
        plot.figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    plot.figure.savefig(path, dpi=200)
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def embed_games(folder: Path, study: Study) -> list[dict]:
    """Choose a game for each lesson, and look at every position of it."""
    main, games = study.main.name, []
    human = study.human.name if study.human else main
    rows = [row for row in read_results(folder) if ":no" not in row["a"] + row["b"]]

    def rank(row: dict) -> tuple:  # if possible short and won by the stronger
        elos = [study.rated[row[side]]["elo"] for side in "ab"]
        is_clear = row["points"] == float(elos[0] > elos[1])
        return is_clear + (row["moves"] < LONG_GAME * row["size"] ** 2), max(elos)

    for title, a, b in (
        ("Imitation: people's moves, no search", f"{human}@0", "gnugo"),
        ("Search: the same network, with and without", f"{main}@", f"{main}@0"),
        ("Reinforcement: the pupil and its teacher", f"{main}@", f"{human}@"),
        ("The strongest here against GNU Go", study.ladder["players"][0]["name"], "gnugo-10"),
    ):
        pairs = ((row, row[one], row[other]) for row in rows for one, other in ("ab", "ba"))
        found = [row for row, one, other in pairs if one.startswith(a) and other.startswith(b)]
        if found:
            rows.remove(row := max(found, key=rank))
            tree = GameTree((folder / row["sgf"]).read_bytes())
            boards = [board for *_, board in tree.positions(tree.last)]
            positions = [_encode(look) for look in look_at(boards, main, human, MEASURED)]
            names = {"black": "PB", "white": "PW", "result": "RE"}
            game = {key: tree.text(tree.root, name) for key, name in names.items()}
            game |= {"size": boards[0].size, "moves": [board.last_move for board in boards[1:]]}
            games.append(game | {"title": title, "positions": positions})
    return games


def _encode(look: Look) -> dict:
    """Write a position for the page: Black's chance in percent, policies in thousandths by move."""
    sign = sign_of(look.board.to_play)
    position = {"black": round(50 + 50 * sign * float(look.result.root["win"]))}
    position["stones"] = "".join(str(look.board).split())
    position["owners"] = np.rint(10 * sign * look.ownership.ravel()).astype(int).tolist()
    for name, policy in zip(("people", "network", "search"), look.policies.values(), strict=True):
        position[name] = list_shares(policy, SHOWN_POLICY)
    return position


def list_shares(policy: np.ndarray, least: int = 1) -> dict[int, int]:
    """Return the thousandths of each move that has at least so many."""
    shares = enumerate(np.rint(1000 * policy).astype(int).tolist())
    return {move: share for move, share in shares if share >= least}


def format_lessons(report: dict) -> str:
    """Write the facts of a report, and the ladder, for a terminal."""
    sections = report["sections"].items()
    facts = ["\n  ".join([f"{name}:", *section["facts"]]) for name, section in sections]
    return "\n".join([*facts, format_ladder(report["ladder"])])

"""The three lessons as one measured report: a ladder of games, then numbers, plots and a page.

Leaves out the page itself (`lessons.html`, a template that reads the report) and the games' Elo
(`rate`). Figures need matplotlib; the page that comes out needs nothing but a browser.
"""

import base64
import io
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np

from ..checkpoint import load_checkpoint
from ..coords import sign_of
from ..machine import list_cores, sort_by_number, write_whole
from ..play.match import MatchConfig, find_gnugo, parse_player
from ..sgf import load_games, read_names
from .analyze import Look, look_at
from .ladder import GNUGO_LEVELS, VISITS, format_ladder, rate, read_results, shipped_for

QUICK_MINUTES = 7.5  # of games, on two cores; the rest of ten is for looking at some and drawing
QUICK_VISITS = (0, 16, 64, 256)
MINUTES_PER_PLAYER = 2.0  # of games in a full report, on two cores
MEASURED = 64  # simulations at which networks are compared, and heads left out
RUN_NETWORKS = 6  # of a run's cycles, spread evenly over the logarithm of its time
MAX_TICKS = 6  # of a logarithmic axis at the points themselves; more would overlap
LONG_GAME = 1.5  # times N * N moves: not shown if there is a shorter one
SHOWN_POLICY = 0.01  # moves below it are not kept for the page
OWNERSHIP_STEPS = 25  # of the letters "a" (White's) to "z" (Black's)
# Okabe and Ito's colours, which (nearly) everybody can tell apart; markers differ, too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000", "#56B4E9")
MARKERS = "os^DvPX*"
PLOTS = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
PLOTS |= {"grid.color": "#dddddd", "svg.hashsalt": "minigo"}
LEARNED = ("from zero", "from imitation")  # the kinds of networks that learned by self-play
KINDS = {"imitation": "imitation"} | {kind: f"self-play {kind}" for kind in LEARNED}
SECTIONS = ("imitation", "search", "reinforcement", "exchange", "ablation", "everybody")


@dataclass(frozen=True)
class Network:
    """A network of the report, and how it came to be."""

    name: str  # of a checkpoint: shipped, or a path
    kind: str  # one of KINDS
    minutes: float  # of training, those of the imitation that it began with included
    info: dict


def find_networks(size: int, runs: Sequence[str | Path] = ()) -> list[Network]:
    """Return the networks that ship for a size, and some of the cycles of each run's folder."""
    names = shipped_for(size)
    for run in runs:
        paths = sort_by_number(Path(run).glob("cycle-[0-9]*.pt"))[1:]  # the first: nothing learned
        if not paths:
            raise ValueError(f"{run}: no folder of a run with at least one cycle")
        steps = np.geomspace(1, len(paths), RUN_NETWORKS).round().astype(int)
        names += [str(paths[step - 1]) for step in sorted(set(steps.tolist()))]
    infos = {name: load_checkpoint(name).info for name in names}
    return [Network(name, *_describe(info, infos), info) for name, info in infos.items()]


def _describe(info: dict, infos: dict[str, dict]) -> tuple[str, float]:
    """Return a network's kind and its minutes of training."""
    if info.get("made_by") == "imitation":
        return "imitation", info["minutes"]
    recipe, minutes = info.get("recipe", {}), info.get("elapsed_s", 0.0) / 60
    if recipe.get("start") != "imitation":
        return "from zero", minutes
    start = infos.get(Path(recipe["start_from"]).stem, {})
    return "from imitation", minutes + start.get("minutes", 0.0)


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

    minutes: of games, in this sitting; 0 makes the page of those that are there. By default
    QUICK_MINUTES, or else MINUTES_PER_PLAYER for each. runs: folders of networks, as `minigo train`
    leaves them, for strength against training time. Returns the report, without the games.
    """
    if find_spec("matplotlib") is None:
        raise ValueError("figures need matplotlib: pip install 'minigo[plots]'")
    out, networks, cores = Path(out), find_networks(size, runs), workers or len(list_cores())
    if not networks:
        raise ValueError(f"no network ships for {size}x{size}; name a run's folder with --run")
    study = Study(networks, size, quick)
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
    page = report | {"figures": draw(sections, out), "games": embed_games(out / "ladder", study)}
    write_whole(out / "lessons.json", json.dumps(report, indent=1))
    write_whole(out / "lessons.html", render(page))
    return report


class Study:
    """The questions of the report: whom to play, and what the ladder answers.

    An answer is a section of the page: "facts", sentences; "columns" and "rows" of a table;
    "lines" to draw, each with a label and points (x, Elo, low, high), and their "axes".
    """

    def __init__(self, networks: list[Network], size: int, quick: bool):
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
        """Take in the ladder."""
        self.ladder = ladder
        self.rated = {player["name"]: player for player in ladder["players"]}

    def players(self, network: Network) -> dict[int, dict]:
        """Return a network's lines of the ladder, by simulations."""
        found = {s: self.rated.get(f"{network.name}@{s}") for s in self.simulations}
        return {s: player for s, player in found.items() if player}

    def of_kind(self, kind: str) -> list[Network]:
        """Return the networks of a kind, the least trained first."""
        return sorted((n for n in self.networks if n.kind == kind), key=lambda n: n.minutes)

    def fit(self, rows: list[tuple[dict, list[float]]]) -> tuple[np.ndarray, np.ndarray]:
        """Fit Elo = X b to players with their rows of X; return b and its covariance.

        Generalised least squares (Aitken 1936): the ratings of a ladder share their errors.
        """
        index = [self.ladder["players"].index(player) for player, _ in rows]
        weights = np.linalg.inv(np.array(self.ladder["covariance"])[np.ix_(index, index)])
        elos, design = np.array([p["elo"] for p, _ in rows]), np.array([row for _, row in rows])
        covariance = np.linalg.inv(design.T @ weights @ design)
        return covariance @ design.T @ weights @ elos, covariance

    def imitation(self) -> dict:
        if self.human is None:
            return _section(["No network of human games is here."])
        info, (elo, interval, _) = self.human.info, _cells(self.players(self.human)[0])
        facts = [
            f"{self.human.name} ({info['games']:,} games, {info['minutes']:.0f} minutes) predicts "
            f"{info['top1']:.1%} of the moves of {info['positions']:,} positions from games it "
            f"never saw; {info['top5']:.1%} are among its first five.",
            f"Played as it stands, without any search, it has {elo} Elo ({interval}).",
        ]
        curve = [(c["minutes"], 100 * c["top1"], 100 * c["top5"]) for c in info["curve"]]
        rows = [(f"{m:.1f}", f"{one:.1f} %", f"{five:.1f} %") for m, one, five in curve]
        labels = ((2, "among the first five"), (1, "the first choice"))
        lines = [{"label": name, "points": [(c[0], c[i]) for c in curve]} for i, name in labels]
        axes = {"x": "minutes of training", "y": "held-out moves predicted (%)"}
        return _section(facts, ("minutes", "first choice", "first five"), rows, lines, axes)

    def search(self) -> dict:
        slopes, rows, lines = [], [], []
        drawn = [found[-1] for kind in KINDS if (found := self.of_kind(kind))] + [self.main]
        for network in self.networks:
            players = self.players(network)
            rows += [(network.name, s, *_cells(player)) for s, player in players.items()]
            design = [(player, [1, math.log2(s)]) for s, player in players.items() if s]
            if len(design) < 2:
                continue
            (_, slope), covariance = self.fit(design)
            error = f"± {1.96 * covariance[1, 1] ** 0.5:.0f}"
            rows.append((network.name, "each doubling", f"{slope:+.0f}", error, ""))
            if network in drawn:  # all would hide each other
                lines.append(_line(network.name, {max(1, s): p for s, p in players.items()}))
                slopes.append(f"{network.name} {slope:+.0f} ({error})")
        counts = sorted(filter(None, self.players(self.main)))
        facts = [
            f"Elo for each doubling between {counts[0]} and {counts[-1]}: {', '.join(slopes)}."
        ]
        columns = ("network", "simulations", "Elo", "95 %", "games")
        axes = {"x": "simulations per move (1: the bare policy)", "log": 2}
        return _section(facts, columns, rows, lines, axes)

    def reinforcement(self) -> dict:
        facts, rows, lines, axes = [], [], [], {"x": "minutes of training", "log": 10}
        for network in sorted(self.networks, key=lambda n: (n.kind, n.minutes)):
            elos = [_cells(self.players(network)[s])[0] for s in (0, MEASURED)]
            rows.append((network.name, KINDS[network.kind], f"{network.minutes:.1f}", *elos))
        if self.human:
            axes["level"] = ("the imitator, no search", self.players(self.human)[0]["elo"])
        for simulations, how in ((MEASURED, f"{MEASURED} simulations"), (0, "no search")):
            for kind in LEARNED:
                found = self.of_kind(kind)
                start = [self.human] if self.human and kind == "from imitation" else []
                points = {n.minutes: self.players(n)[simulations] for n in start + found}
                if found:
                    lines.append(_line(f"{kind}, {how}", points))
                if found and self.human:
                    elos = {minutes: player["elo"] for minutes, player in points.items()}
                    text = _compare(kind, elos, axes["level"][1])
                    facts.append(f"{KINDS[kind].capitalize()}, {how}: {text}.")
        columns = ("network", "how", "minutes", "Elo, no search", f"Elo, {MEASURED} simulations")
        return _section(facts, columns, rows, lines, axes)

    def exchange(self) -> dict:
        facts, rows, lines = [], [], []
        for kind in LEARNED:
            design = []
            for network in self.of_kind(kind):
                players = {s: player for s, player in self.players(network).items() if s}
                cells = KINDS[kind], f"{network.minutes:.1f}"
                rows += [(*cells, s, *_cells(player)[:2]) for s, player in players.items()]
                lines.append(_line(f"{network.minutes:.0f} min {kind}", players))
                time_log = math.log2(network.minutes)
                design += [(p, [1, time_log, math.log2(s)]) for s, p in players.items()]
            if np.linalg.matrix_rank(np.array([row for _, row in design] or [[0]])) < 3:
                continue
            (_, train, search), covariance = self.fit(design)
            gradient = np.array([0, 1 / search, -train / search**2])
            error = 1.96 * math.sqrt(gradient @ covariance @ gradient)
            facts.append(
                f"{KINDS[kind].capitalize()}: {train:+.0f} Elo for each doubling of the training, "
                f"{search:+.0f} for each doubling of the search. So at equal strength, twice the "
                f"training saves {train / search:.1f} (± {error:.1f}) doublings of the search."
            )
        missing = "This takes two networks of one kind, trained for different times: see --run."
        columns = ("how", "minutes", "simulations", "Elo", "95 %")
        axes = {"x": "simulations per move", "log": 2}
        return _section(facts or [missing], columns, rows, lines, axes)

    def ablation(self) -> dict:
        name = f"{self.main.name}@{MEASURED}"
        parts = {
            "policy alone": f"{self.main.name}@0",
            "policy with search": f"{name}:no-value",
            "value with search": f"{name}:no-policy",
            "policy, value and search": name,
        }
        found = {part: self.rated[player] for part, player in parts.items()}
        bare, no_value, no_policy, whole = (player["elo"] for player in found.values())
        fact = (
            f"Search takes the bare policy {whole - bare:+.0f} Elo up. Without the value the whole "
            f"changes by {no_value - whole:+.0f}, without the policy by {no_policy - whole:+.0f}."
        )
        rows = [(part, player["name"], *_cells(player)) for part, player in found.items()]
        columns = ("what plays", "player", "Elo", "95 %", "games")
        return _section([fact], columns, rows, [_line("", found)], {"bars": True})

    def everybody(self) -> dict:
        fact = (
            f"{self.ladder['games']:,} games, komi {self.ladder['komi']:g}, area scoring; "
            f"{self.ladder['anchor']} is 0 by definition. Intervals are of 95 %."
        )
        rows = [(name, *_cells(player)) for name, player in self.rated.items()]
        line = _line("", dict(reversed(self.rated.items())))
        return _section([fact], ("player", "Elo", "95 %", "games"), rows, [line], {"bars": True})


def _compare(kind: str, elos: dict[float, float], level: float) -> str:
    """Say when self-play passed the imitator without search, the ratings taken as exact."""
    last, whom = max(elos), "the imitator without search"
    if kind == "from imitation":
        return f"{elos[last] - level:+.0f} Elo from {whom} after {last:.0f} minutes in all"
    if minutes := find_crossing(elos, level):
        return f"passes {whom} after {minutes:.1f} minutes"
    return f"{whom} is not passed between {min(elos):.1f} and {last:.1f} minutes"


def find_crossing(elos: dict[float, float], level: float) -> float | None:
    """Return the minutes at which Elo rises through `level`, between two points of a log axis."""
    for (before, low), (after, high) in pairwise(sorted(elos.items())):
        if low < level <= high:
            return before * (after / before) ** ((level - low) / (high - low))
    return None


def _cells(player: dict) -> tuple[str, str, int]:
    interval = f"{player['elo_low']:+.0f} to {player['elo_high']:+.0f}"
    return f"{player['elo']:+.0f}", interval, player["games"]


def _line(label: str, players: dict) -> dict:
    points = [(x, p["elo"], p["elo_low"], p["elo_high"]) for x, p in players.items()]
    return {"label": label, "points": points}


def _section(facts, columns=(), rows=(), lines=(), axes=None) -> dict:
    parts = {"facts": facts, "columns": columns, "rows": list(rows), "lines": list(lines)}
    return parts | {"axes": {"y": "Elo"} | (axes or {})}


def draw(sections: dict[str, dict], out: Path) -> dict[str, str]:
    """Draw a PNG of each section that has lines; return them as SVG data addresses, by name."""
    import matplotlib
    from matplotlib.figure import Figure

    figures = {}
    for name, section in sections.items():
        if not section["lines"]:
            continue
        with matplotlib.rc_context(PLOTS):
            num_lines, num_points = len(section["lines"]), len(section["lines"][0]["points"])
            height = 3.3 + 0.08 * num_lines + 0.17 * max(0, num_points - 8)
            figure, svg = Figure(figsize=(4.8, height), layout="constrained"), io.BytesIO()
            _plot(figure.subplots(), section["lines"], **section["axes"])
            figure.savefig(out / f"{name}.png", dpi=200)
            figure.savefig(svg, format="svg", metadata={"Date": None})
        encoded = base64.b64encode(svg.getvalue()).decode()
        figures[name] = f"data:image/svg+xml;base64,{encoded}"
    return figures


def _plot(plot, lines: list[dict], y: str, x: str = "", log: int = 0, level=(), bars=False) -> None:
    """Draw lines over x, or ratings beside their names (`bars`); level: of a line across."""
    for line, color, marker in zip(lines, cycle(COLORS), cycle(MARKERS), strict=False):
        places, values, *ends = zip(*line["points"], strict=True)
        spread = np.abs(np.array(ends) - np.array(values)) if ends else None
        style = {"color": color, "marker": marker, "markersize": 5, "label": line["label"]}
        if bars:
            plot.errorbar(values, places, xerr=spread, linestyle="", capsize=3, **style)
        else:
            plot.errorbar(places, values, yerr=spread, linewidth=1.5, capsize=3, **style)
    if bars:
        plot.set_xlabel(y)
        return
    if level:
        plot.axhline(level[1], color="black", linestyle="--", linewidth=1, label=level[0])
    plot.set(xlabel=x, ylabel=y)
    if log:
        plot.set_xscale("log", base=log)
        plot.xaxis.set_major_formatter("{x:g}")
        ticks = sorted({point[0] for line in lines for point in line["points"]})
        if len(ticks) <= MAX_TICKS:
            plot.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
            plot.set_xticks([], minor=True)
    plot.figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)


def embed_games(folder: Path, study: Study) -> list[dict]:
    """Choose a game for each lesson, and look at every position of it."""
    rows, main = read_results(folder), study.main.name
    human = study.human.name if study.human else main
    wanted = (
        ("Imitation: people's moves, no search", f"{human}@0", "gnugo"),
        ("Search: the same network, with and without", f"{main}@", f"{main}@0"),
        ("Reinforcement: the pupil and its teacher", f"{main}@", f"{human}@"),
        ("The strongest here against GNU Go", study.ladder["players"][0]["name"], "gnugo-10"),
    )
    games, boards = [], []
    for title, a, b in wanted:
        if (row := _choose_game(rows, a, b, study)) is None:
            continue
        rows.remove(row)
        record = next(load_games([folder / row["sgf"]], strict=True))
        boards += [record.board(ply) for ply in range(len(record.moves) + 1)]
        black, white, result, _ = read_names(folder / row["sgf"])
        names = {"title": title, "black": black, "white": white, "result": result}
        games.append(names | {"size": record.size, "moves": record.moves.tolist()})
    looks = look_at(boards, main, human, MEASURED) if boards else iter(())
    for game in games:
        game["positions"] = [_encode(next(looks)) for _ in range(len(game["moves"]) + 1)]
    return games


def _choose_game(rows: list[dict], a: str, b: str, study: Study) -> dict | None:
    """Return a game of players whose names begin so, if possible short and won by the stronger."""

    def rank(row: dict) -> tuple:
        elos = [study.rated[row[side]]["elo"] for side in "ab"]
        is_clear = row["points"] == float(elos[0] > elos[1])
        return is_clear + (row["moves"] < LONG_GAME * row["size"] ** 2), max(elos)

    def fits(one: str, other: str) -> bool:
        return one.startswith(a) and other.startswith(b) and ":no" not in one + other

    found = [row for row in rows if fits(row["a"], row["b"]) or fits(row["b"], row["a"])]
    return max(found, key=rank, default=None)


def _encode(look: Look) -> dict:
    """Write a position for the page: stones, policies in thousandths, owners, Black's chance."""
    sign, policies = sign_of(look.board.to_play), {}
    for name, policy in zip(("people", "network", "search"), look.policies.values(), strict=True):
        moves = np.flatnonzero(policy >= SHOWN_POLICY).tolist()
        policies[name] = [(move, round(1000 * float(policy[move]))) for move in moves]
    owners = np.rint((sign * look.ownership.ravel() + 1) / 2 * OWNERSHIP_STEPS).astype(int)
    return policies | {
        "stones": "".join(".XO"[stone] for stone in look.board.stones().ravel()),
        "owners": "".join(chr(ord("a") + owner) for owner in owners),
        "black": round(50 + 50 * sign * float(look.result.root["win"])),
    }


def render(data: dict) -> str:
    """Return the page with its data inside."""
    template = Path(__file__).with_name("lessons.html").read_text(encoding="utf-8")
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return template.replace("/*DATA*/", text)


def format_lessons(report: dict) -> str:
    """Write the facts of a report, and the ladder, for a terminal."""
    lines = []
    for name, section in report["sections"].items():
        lines += [f"{name}:", *(f"  {fact}" for fact in section["facts"])]
    return "\n".join([*lines, format_ladder(report["ladder"])])

"""Matches between any two players (networks, bare or with search, GTP programs) and their Elo.

How a game gets its result: it is played until two passes or the
move cap, and counted by Tromp-Taylor area on our own board, where every stone there is counts as
alive. So nobody is believed who passes with dead stones on the board:

- A network has to capture what it calls dead: the count, which its search sees, is against it.
- Once anybody has passed, a program that lists `kgs-genmove_cleanup` (GNU Go does) is asked by it:
  then it doesn't pass before the opponent's dead stones are off the board. A pass that it gave
  before that, to plain `genmove`, ends no game.
- A program without it is taken at its word. Every program is asked for its `final_score`: games
  where that names another winner are "disagreements", and all other counts are listed.

Under territory scoring nobody captures what is dead, and the programs' own count decides where they
agree; the area does where not. With a program in the match the board forbids suicide, as most do. A
program's own illegal move, crash or silence loses the game.
"""

import contextlib
import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from tqdm import tqdm

from .._board import Board, IllegalMove
from .._tree import MAX_EDGES
from ..config import Rules, SearchConfig
from ..coords import BLACK, EMPTY, WHITE, check_size, format_color, format_vertex, parse_vertex
from ..machine import list_cores
from ..record import GameRecord
from ..sgf import format_sgf, parse_result
from .program import GtpProgram, ProgramError

# Opening variety: a network draws its first OPENING_MOVES_PER_SIZE * N moves in proportion to
# visits ** (1 / OPENING_TEMPERATURE), or to priors without search, and then plays its best.
OPENING_TEMPERATURE = 0.8  # KataGo's matches start at 0.6, but cool down more slowly
OPENING_MOVES_PER_SIZE = 0.5
MAX_MOVES_PER_POINT = 3.0  # the move cap is this times N * N; superko alone ends games too late
GAMES_AT_ONCE = 64  # between networks: the evaluator's batch,
MAX_NODES = 100_000  # fewer where visits would make the trees larger (0.1 GB on 9x9)
CLEANUP = "kgs-genmove_cleanup"


@dataclass(frozen=True)
class Player:
    """One side of a match."""

    name: str  # in reports and SGF
    checkpoint: str = ""  # path or shipped name of a network,
    command: str = ""  # or the command line of a GTP program
    simulations: int = 0  # visits per move of a network; 0: its bare policy
    leaves: int = 0  # evaluated at once inside one of its trees; 0: as the search has it
    time_s: float | None = None  # per move, instead of visits
    without: str = ""  # "policy" or "value": a head its search can't see (AlphaGo, 2016, figure 4b)


def parse_player(text: str, simulations: int = 64, time_s: float | None = None) -> Player:
    """Read "CHECKPOINT", "CHECKPOINT@VISITS", "CHECKPOINT@VISITSxLEAVES" or "gtp:COMMAND".

    A network's name may end in ":no-policy" or ":no-value". The rest are defaults.
    """
    if not text:
        raise ValueError("player '' is neither a checkpoint nor gtp:COMMAND")
    if simulations < 0 or (time_s is not None and not time_s > 0):
        raise ValueError(f"{simulations} simulations, {time_s} s per move: less than nothing")
    if text.startswith("gtp:"):
        try:
            name = Path(shlex.split(text[4:])[0]).name
        except (ValueError, IndexError):
            raise ValueError(f"player {text!r} has no command that a shell could read") from None
        level = re.search(r"--level[ =](\d+)", text)  # GNU Go's: ten players, not one
        name = f"{name}-{level[1]}" if level else name
        return Player(name, command=text[4:], time_s=time_s)
    network = re.fullmatch(
        r"(.+?)(?:@([0-9]+)(?:x([1-9][0-9]*))?)?(?::no-(policy|value))?", text, re.DOTALL
    )
    checkpoint, visits, leaves, without = network.groups()
    if visits is not None:
        simulations, time_s = int(visits), None
    return Player(text, checkpoint, "", simulations, int(leaves or 0), time_s, without or "")


def find_gnugo(level: int = 10) -> str | None:
    """Return GNU Go as a player, by our rules and capturing dead stones, or None without it."""
    path = shutil.which("gnugo", path=os.environ.get("PATH", "") + os.pathsep + "/usr/games")
    options = "--chinese-rules --positional-superko --capture-all-dead --never-resign"
    return path and f"gtp:{path} --mode gtp --level {level} {options}"


@dataclass
class Game:
    """One game of a match, in flight or finished."""

    number: int  # from 0
    slot: int  # which of the games in flight it is
    names: tuple[str, str]  # of players A and B
    board: Board
    black: int  # who plays Black: 0 for A, 1 for B
    moves: list[int] = field(default_factory=list)
    firm_passes: int = 0  # in a row, without those that may leave dead stones behind
    has_pass: bool = False  # did anybody pass yet?
    winner: int | None = None  # a colour, EMPTY for a draw, None until the end
    score: float | None = None  # Black minus White, None unless counted
    ending: str = ""  # why it isn't counted: "X resigned" or a program's error
    is_capped: bool = False
    claims: list[str] = field(default_factory=list)  # what programs answered to `final_score`

    def player(self, color: int) -> int:
        """Return who plays a colour."""
        return self.black if color == BLACK else 1 - self.black

    def lose(self, player: int, ending: str) -> None:
        """End the game without a count."""
        self.winner = WHITE if self.black == player else BLACK
        self.ending = f"{self.names[player]} {ending}"

    def play(self, move: int, is_firm: bool) -> None:
        """Play a move, and count the game if it ends. Raises IllegalMove."""
        self.board.play(move)
        self.moves.append(move)
        is_pass = move == self.board.size**2
        self.has_pass |= is_pass
        self.firm_passes = self.firm_passes + is_firm if is_pass else 0
        self.is_capped = len(self.moves) >= MAX_MOVES_PER_POINT * self.board.size**2
        if self.firm_passes >= 2 or self.is_capped:
            self.count(self.board.score())

    def count(self, score: float) -> None:
        """End the game by a count."""
        self.score, self.winner = score, BLACK if score > 0 else WHITE if score < 0 else EMPTY

    def counts(self) -> list[float | None]:
        """Return the programs' own counts, Black minus White; None where one gave no number."""
        return [parse_result(claim)[1] for claim in self.claims]

    def points(self) -> float:
        """Return A's points: 1, 0.5 or 0."""
        return 0.5 if self.winner == EMPTY else float(self.player(self.winner) == 0)


@dataclass(frozen=True)
class Reply:
    """What a side does in a game."""

    move: int = -1
    is_firm: bool = True  # a pass that leaves no dead stones behind, as far as the side knows
    loses: str = ""  # why the side loses instead of moving


def match(
    a: Player,
    b: Player,
    num_games: int,
    size: int = 9,
    rules: Rules | None = None,
    *,
    seed: int = 1,
    sgf: str | Path | None = None,
    games_at_once: int = 0,
    search: SearchConfig | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: bool = True,
    finished: Callable[["Game"], None] | None = None,
) -> dict:
    """Play a match and return what `summarize` says of it, from A's point of view.

    A is Black in the even games. All games in flight advance together, so that a network sees them
    as one batch. games_at_once: 0 means GAMES_AT_ONCE, two per core where a program plays, 1 where
    time is limited: there a player's trees share the memory of one. sgf: a folder for the games.
    finished: called with each game at its end, after its SGF is written. Raises ValueError where a
    player doesn't start.
    """
    check_size(size)
    if num_games < 1:
        raise ValueError(f"a match of {num_games} games")
    players, rules = (a, b), rules or Rules()
    if a.command or b.command:
        rules = replace(rules, suicide=False)
    if sgf:
        Path(sgf).mkdir(parents=True, exist_ok=True)
    boards = [Board(size, rules)] * min(num_games, games_at_once or _default_width(players))
    rng = np.random.default_rng(seed)
    with contextlib.ExitStack() as stack:
        sides = _make_sides(players, boards, search, rng, device, threads)
        for side in sides:
            stack.callback(side.close)
        bar = tqdm(total=num_games, desc=f"{a.name} - {b.name}", unit="game", disable=not progress)
        stack.enter_context(bar)
        games = _play_games(sides, num_games, boards, bar, sgf, finished)
    settings = {"a": a.name, "b": b.name, "size": size, "komi": rules.komi}
    is_timed = any(player.time_s for player in players)
    times = {"longest_move_s": [side.longest_s for side in sides]} if is_timed else {}
    return settings | summarize(games) | times


def _make_sides(players, boards, search, rng, device: str, threads: int) -> list:
    evaluators, sides, size = {}, [], boards[0].size
    max_batch = len(boards) * max(1, *(player.leaves for player in players))
    options = {"device": device, "max_batch": max_batch, "threads": threads}
    for player in players:
        if player.command:
            sides.append(ProgramSide(player, len(boards), rng))
            continue
        if player.checkpoint not in evaluators:
            from ..evaluator import load_evaluator

            evaluators[player.checkpoint] = load_evaluator(player.checkpoint, size, **options)
        evaluator = evaluators[player.checkpoint]
        if player.without:
            evaluator = Blinded(evaluator, player.without)
        sides.append(NetworkSide(player, boards, evaluator, search, rng))
    return sides


class Blinded:
    """An evaluator without policy (every move as likely as any) or value (every position even)."""

    def __init__(self, evaluator, without: str):
        self.evaluator, self.without = evaluator, without

    def evaluate(self, planes: np.ndarray):
        evaluation = self.evaluator.evaluate(planes)
        hidden = (evaluation.logits,) if self.without == "policy" else ()
        for array in hidden or (evaluation.value, evaluation.score):
            array[:] = 0
        return evaluation


def _default_width(players: tuple[Player, Player]) -> int:
    if any(player.time_s for player in players):
        return 1
    if any(player.command for player in players):
        return 2 * len(list_cores())  # in half of the games the program waits for its opponent
    most = max(player.simulations for player in players)
    return min(GAMES_AT_ONCE, max(2, MAX_NODES // max(1, most)))


def _play_games(sides, num_games: int, boards: list[Board], bar: tqdm, sgf, report) -> list[Game]:
    finished, in_flight, slots = [], [], list(range(len(boards)))
    names = tuple(side.player.name for side in sides)
    while len(finished) < num_games:
        while slots and len(finished) + len(in_flight) < num_games:
            number = len(finished) + len(in_flight)
            game = Game(number, slots.pop(0), names, boards[0].copy(), number % 2)
            in_flight.append(game)
            for side in sides:
                side.start(game)
        _advance(sides, in_flight)
        for game in [game for game in in_flight if game.winner is not None]:
            in_flight.remove(game)
            slots.append(game.slot)
            finished.append(game)
            _finish(game, sides, sgf)
            if report:
                report(game)
            points = [game.points() for game in finished]
            bar.set_postfix_str(f"{points.count(1)} won, {points.count(0)} lost", refresh=False)
            bar.update()
    return sorted(finished, key=lambda game: game.number)


def _advance(sides, games: list[Game]) -> None:
    """Play one move in every game."""
    turns = [[g for g in games if g.player(g.board.to_play) == player] for player in (0, 1)]
    for player, turn in enumerate(turns):
        for game, reply in zip(turn, sides[player].choose(turn), strict=True):
            color, vertex = game.board.to_play, format_vertex(reply.move, game.board.size)
            if reply.loses:
                game.lose(player, reply.loses)
                continue
            try:
                game.play(reply.move, reply.is_firm)
            except IllegalMove:
                game.lose(player, f"played the illegal move {format_color(color)} {vertex}")
                continue
            error = sides[1 - player].observe(game, color, reply.move)
            if error and game.winner is None:
                game.lose(1 - player, error)


def _finish(game: Game, sides, sgf) -> None:
    """Ask programs for their count of a finished game, and write its SGF."""
    if game.score is not None and not game.is_capped:
        game.claims += filter(None, (side.count(game) for side in sides))
        counts = set(game.counts())
        if game.board.rules.scoring == "territory" and len(counts) == 1 and None not in counts:
            game.count(counts.pop())
    if game.ending and not game.ending.endswith(" resigned"):
        tqdm.write(f"game {game.number + 1}: {game.ending}", file=sys.stderr)
    if not sgf:
        return
    moves = np.array(game.moves, np.int16)
    result = {BLACK: 1.0, WHITE: -1.0, EMPTY: 0.0}[game.winner]
    board = game.board
    record = GameRecord(board.size, board.rules, moves, result=result, score=game.score)
    black, white = (game.names[game.player(color)] for color in (BLACK, WHITE))
    remarks = "\n".join(filter(None, [game.ending, *(f"final_score {c}" for c in game.claims)]))
    how = "R" if game.ending.endswith(" resigned") else "F"
    text = format_sgf(
        record,
        black,
        white,
        comments={len(game.moves): remarks} if remarks else None,
        result=f"{format_color(game.winner)}+{how}" if game.ending else "",
    )
    Path(sgf, f"{game.number + 1:04d}.sgf").write_text(text, encoding="utf-8")


class NetworkSide:
    """A network in every game of a match: one search, with a tree per game in flight."""

    def __init__(self, player: Player, boards: list[Board], evaluator, config, rng) -> None:
        from ..search import Search

        self.player, self.rng, self.longest_s = player, rng, 0.0
        config = config or SearchConfig()
        config = replace(config, leaves=player.leaves or config.leaves)
        self.search = Search(evaluator, config, boards, rng)
        if player.time_s:  # which bounds no memory: all trees together get what one may have
            self.search.forest.max_edges = MAX_EDGES // len(boards)

    def start(self, game: Game) -> None:
        self.search.reset(game.slot, game.board)

    def choose(self, games: list[Game]) -> list[Reply]:
        """Choose and play a move in each game; all are searched as one batch."""
        budget = np.zeros(len(self.search.boards), dtype=np.int32)
        started = time.monotonic()
        deadline = started + self.player.time_s if self.player.time_s else None
        for game in games:
            kept = self.search.forest.num_visits(game.slot)
            budget[game.slot] = 1 << 20 if deadline else max(1, self.player.simulations - kept)
        self.search.run(budget, deadline=deadline)
        replies = [self._choose(game) for game in games]
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        for game, reply in zip(games, replies, strict=True):
            self.search.play(game.slot, reply.move)
        return replies

    def _choose(self, game: Game) -> Reply:
        from ..search import choose_move

        board, result = game.board, self.search.result(game.slot)
        sign, passes = 1 if board.to_play == BLACK else -1, board.size**2
        if board.is_over:
            return Reply(passes)  # after a pass that wasn't firm; the search sees no moves here
        if board.last_move == passes and sign * board.score() > 0:
            return Reply(passes)  # that ends the game, and wins it
        has_search = (
            bool(self.player.simulations or self.player.time_s) and result.moves["visits"].any()
        )
        weights = result.moves["visits"] if has_search else result.moves["prior"]
        move = result.move if has_search else int(weights.argmax())
        if len(game.moves) < 2 * OPENING_MOVES_PER_SIZE * board.size and move != passes:
            move = choose_move(weights[:-1], OPENING_TEMPERATURE, self.rng)
        return Reply(move)

    def observe(self, game: Game, color: int, move: int) -> str:
        self.search.play(game.slot, move)
        return ""

    def count(self, game: Game) -> str:
        return ""  # a network's count is the board's

    def close(self) -> None:
        pass


class ProgramSide:
    """A GTP program in every game of a match: one process per game in flight."""

    def __init__(self, player: Player, width: int, rng: np.random.Generator) -> None:
        self.player, self.rng, self.longest_s = player, rng, 0.0
        self.programs: list[GtpProgram | None] = [None] * width

    def start(self, game: Game) -> None:
        """Set a process up for a game; one that died is started again."""
        lines = [f"boardsize {game.board.size}", "clear_board", f"komi {game.board.rules.komi:g}"]
        ko, scoring = game.board.rules.ko.upper(), game.board.rules.scoring.upper()
        optional = [f'kata-set-rules {{"ko":"{ko}","score":"{scoring}","suicide":false}}']
        # GNU Go's own seed is the second it was started in.
        optional.append(f"set_random_seed {self.rng.integers(1 << 30)}")
        if self.player.time_s:
            optional.append(f"time_settings 0 {max(1, round(self.player.time_s))} 1")
        try:
            program = self.programs[game.slot] or GtpProgram(self.player.command)
            self.programs[game.slot] = program
            for line in lines + [line for line in optional if line.split()[0] in program.commands]:
                program.ask(line)
        except ProgramError as error:
            raise ValueError(f"GTP program {self.player.command!r} {error}") from None

    def choose(self, games: list[Game]) -> list[Reply]:
        """Ask every process for a move, and then collect the moves: they think side by side."""
        errors, started = [], time.monotonic()
        for game in games:
            command = CLEANUP if game.has_pass and self._cleans_up(game) else "genmove"
            line = f"{command} {format_color(game.board.to_play)}"
            errors.append(self._attempt(game, "send", line)[1])
        replies = [self._receive(game, error) for game, error in zip(games, errors, strict=True)]
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        return replies

    def _receive(self, game: Game, error: str) -> Reply:
        is_firm = game.has_pass or not self._cleans_up(game)
        text, error = ("", error) if error else self._attempt(game, "receive")
        if error or text.lower() == "resign":
            return Reply(loses=error or "resigned")
        try:
            return Reply(parse_vertex(text, game.board.size), is_firm=is_firm)
        except ValueError:
            return Reply(loses=f"answered genmove with {text[:40]!r}")

    def observe(self, game: Game, color: int, move: int) -> str:
        """Tell the opponent's move; returns what went wrong, or ""."""
        vertex = format_vertex(move, game.board.size)
        return self._attempt(game, "ask", f"play {format_color(color)} {vertex}")[1]

    def count(self, game: Game) -> str:
        """Return the program's own count, such as "B+3.5", or "" if it gives none."""
        return (
            self._attempt(game, "ask", "final_score")[0] if self._has(game, "final_score") else ""
        )

    def _cleans_up(self, game: Game) -> bool:
        return game.board.rules.scoring == "area" and self._has(game, CLEANUP)

    def _has(self, game: Game, command: str) -> bool:
        program = self.programs[game.slot]
        return program is not None and command in program.commands

    def _attempt(self, game: Game, method: str, *arguments: str) -> tuple[str, str]:
        """Call a method of the game's process, and end it on an error. Returns (answer, error)."""
        program = self.programs[game.slot]
        try:
            return getattr(program, method)(*arguments) or "", ""
        except ProgramError as error:
            self.programs[game.slot] = None
            program.close()
            return "", str(error)

    def close(self) -> None:
        for program in filter(None, self.programs):
            program.close()


def _tally(games: list[Game]) -> dict:
    points = [game.points() for game in games]
    counts = {"wins": points.count(1), "losses": points.count(0), "draws": points.count(0.5)}
    return {"games": len(games)} | counts


def _disagrees(game: Game) -> bool:
    winners = {"B": BLACK, "W": WHITE, "0": EMPTY}
    return any(winners.get(claim[:1].upper(), game.winner) != game.winner for claim in game.claims)


def summarize(games: list[Game]) -> dict:
    """Return the result of finished games as A sees it, ready for JSON.

    score: A's points per game; elo: the median of what they say; both with a 95 % interval. black,
    white: the counts by A's colour. distinct: different games, capped: those counted at the move
    cap. forfeits, other_counts: one line each. disagreements: see the module.
    """
    tally = _tally(games)
    points = tally["wins"] + tally["draws"] / 2
    low, median, high = score_interval(points, len(games))
    elo, elo_low, elo_high = (round(elo_difference(score), 1) for score in (median, low, high))
    endings = [f"game {game.number + 1}: {game.ending}" for game in games if game.ending]
    return tally | {
        **{"elo": elo, "elo_low": elo_low, "elo_high": elo_high},
        **{"score": points / len(games), "score_low": low, "score_high": high},
        "black": _tally([game for game in games if game.black == 0]),
        "white": _tally([game for game in games if game.black == 1]),
        "distinct": len({tuple(game.moves) for game in games}),
        "mean_moves": sum(len(game.moves) for game in games) / len(games),
        "capped": sum(game.is_capped for game in games),
        "resigned": sum(ending.endswith(" resigned") for ending in endings),
        "forfeits": [ending for ending in endings if not ending.endswith(" resigned")],
        "disagreements": sum(_disagrees(game) for game in games),
        "other_counts": [
            f"game {game.number + 1}: {', '.join(game.claims)}; taken {game.score:+g}"
            for game in games
            if set(game.counts()) - {game.score}
        ],
    }


def score_interval(points: float, num_games: int) -> tuple[float, float, float]:
    """Return the 2.5, 50 and 97.5 % quantiles of the score to expect after `points` of `num_games`.

    The Jeffreys interval (Brown, Cai and DasGupta 2001, section 3.1): quantiles of the posterior
    Beta(points + 1/2, num_games - points + 1/2); a draw is half a win and half a loss, which makes
    it a little too wide. Unlike Wilson's, its ends, and so their Elo, are finite even if all games
    were won. Under score = sin(phi)^2 Jeffreys' prior is flat in phi, so the posterior is
    sin(phi)^(2 points) cos(phi)^(2 (num_games - points)), which is summed on a grid.
    """
    phi = (np.arange(1 << 17) + 0.5) * (math.pi / 2 / (1 << 17))
    log_density = 2 * (points * np.log(np.sin(phi)) + (num_games - points) * np.log(np.cos(phi)))
    cumulative = np.cumsum(np.exp(log_density - log_density.max()))
    edges = phi + phi[0]  # the right edges of the cells, where the sums hold
    quantiles = np.interp((0.025, 0.5, 0.975), cumulative / cumulative[-1], edges)
    low, median, high = (float(x) for x in np.sin(quantiles) ** 2)
    return low, median, high


def elo_difference(score: float) -> float:
    """Return the Elo difference at which `score` in (0, 1) is expected.

    400 log10(score / (1 - score)), from expected score 1 / (1 + 10^(-d / 400)) (Elo 1978).
    """
    return 400 * math.log10(score / (1 - score))

"""Matches between any two players (networks, bare or with search, GTP programs) and their Elo.

A game is played until two passes or the move cap, and counted by Tromp-Taylor area on our own
board, where every stone there is counts as alive. So a network has to capture what it calls dead:
no search passes before (a bare policy may). Once anybody has passed, a program that lists
`kgs-genmove_cleanup` (GNU Go does) is asked by it: then it doesn't pass before the opponent's dead
stones are off the board; its passes before that, to plain `genmove`, end no game. A program without
it is taken at its word. Every program is asked for its `final_score`: games where that names
another winner are "disagreements", and all other counts are listed.

Under territory scoring nobody captures what is dead, and the programs' own count decides where they
agree; the area does where not. With a program in the match the board forbids suicide, as most do. A
program's own illegal move, crash or silence loses the game.
"""

import functools
import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from tqdm import tqdm

from .._board import Board, IllegalMove
from .._tree import MAX_EDGES
from ..config import Rules, SearchConfig, handicap_moves
from ..coords import BLACK, WHITE, format_color, format_vertex, parse_vertex, sign_of
from ..evaluator import Evaluation, Evaluator, load_evaluator
from ..machine import list_cores, write_whole
from ..record import GameRecord
from ..search import ALL_VISITS, Search, choose_move
from ..sgf import format_sgf, parse_result
from . import endgame
from .program import GtpProgram, ProgramError
from .shipped import Turned

# Opening variety: a network draws its first OPENING_MOVES_PER_SIZE * N moves in proportion to
# visits ** (1 / OPENING_TEMPERATURE), or to priors without search, and then plays its best.
OPENING_TEMPERATURE = 0.8  # KataGo's matches start at 0.6, but cool down more slowly
OPENING_MOVES_PER_SIZE = 0.5
MAX_MOVES_PER_POINT = 3.0  # the move cap is this times N * N; superko alone ends games too late
GAMES_AT_ONCE = 64  # between networks: the evaluator's batch,
MAX_NODES = 100_000  # fewer where visits would make the trees larger (0.1 GB on 9x9)
CLEANUP = "kgs-genmove_cleanup"
SHARE_GAMES = 32  # of a match on a cluster that are played together, at most


class Player(Struct, frozen=True):
    """One side of a match."""

    name: str  # in reports and SGF
    checkpoint: str = ""  # path or shipped name of a network,
    command: str = ""  # or the command line of a GTP program
    visits: int = 0  # per move of a network; 0: its bare policy
    time_s: float | None = None  # per move, instead of visits
    without: str = ""  # "policy" or "value": a head its search can't see (AlphaGo, 2016, figure 4b)


class MatchConfig(Struct, frozen=True):
    """How the games of a match are played, whoever plays them."""

    size: int = 9
    rules: Rules = Rules()
    seed: int = 1
    device: str = "auto"  # of the networks
    threads: int = 1  # of each network
    sgf: str | Path | None = None  # folder for the games
    handicap: int = 0  # stones of Black's, who then is B in each game
    # 0: GAMES_AT_ONCE, two per core where a program plays, 1 where time is limited.
    games_at_once: int = 0


def parse_player(text: str, visits: int = 64, time_s: float | None = None) -> Player:
    """Read "CHECKPOINT", which gets the limits given, "CHECKPOINT@VISITS" or "gtp:COMMAND".

    A network's name may end in ":no-policy" or ":no-value".
    """
    if text.startswith("gtp:"):
        try:
            name = Path(shlex.split(text[4:])[0]).name
        except (ValueError, IndexError):
            raise ValueError(f"player {text!r} has no command that a shell could read") from None
        level = re.search(r"--level[ =](\d+)", text)  # GNU Go's: ten players, not one
        return Player(f"{name}-{level[1]}" if level else name, command=text[4:], time_s=time_s)
    network = re.fullmatch(r"(.+?)(?:@([0-9]{1,9}))?(?::no-(policy|value))?", text, re.DOTALL)
    if not network:
        raise ValueError(f"player {text!r} is neither a checkpoint nor gtp:COMMAND")
    if network[2]:
        visits, time_s = int(network[2]), None
    return Player(text, network[1], "", visits, time_s, network[3] or "")


def find_gnugo(level: int = 10) -> str | None:
    """Return GNU Go as a player, by our rules and capturing dead stones, or None without it."""
    path = shutil.which("gnugo", path=os.environ.get("PATH", "") + os.pathsep + "/usr/games")
    options = "--chinese-rules --positional-superko --capture-all-dead --never-resign"
    return path and f"gtp:{path} --mode gtp --level {level} {options}"


class Game(Struct):
    """One game of a match, in flight or finished."""

    number: int  # from 0
    slot: int  # which of the games in flight it is
    names: tuple[str, str]  # of players A and B
    board: Board
    black: int  # who plays Black: 0 for A, 1 for B
    handicap: list[int] = []  # moves of its stones
    moves: list[int] = []
    firm_passes: int = 0  # in a row, without those that may leave dead stones behind
    is_capped: bool = False  # as long as a game may be
    result: float | None = None  # +1 Black won, -1 White won, 0 a draw; None until the end
    score: float | None = None  # Black minus White, None unless counted
    ending: str = ""  # why it isn't counted: "X resigned" or a program's error,
    how: str = ""  # and the same in SGF: "R" resigned, "F" forfeited
    claims: list[str] = []  # what programs answered to `final_score`
    longest_s: list[float] = field(default_factory=lambda: [0.0, 0.0])  # that A and B took
    sgf: str = ""  # once it is finished

    def turn(self) -> int:
        """Return who is to move: 0 for A, 1 for B."""
        return self.black if self.board.to_play == BLACK else 1 - self.black

    def play(self, move: int, is_firm: bool = True) -> None:
        """Play a move, and count the game if it ends. Raises IllegalMove."""
        self.board.play(move)
        self.moves.append(move)
        self.firm_passes = self.firm_passes + is_firm if move == self.board.size**2 else 0
        self.is_capped = len(self.moves) >= MAX_MOVES_PER_POINT * self.board.size**2
        if self.firm_passes >= 2 or self.is_capped:
            self.end(self.board.score())

    def end(self, score: float) -> None:
        """End the game by a count."""
        self.score, self.result = score, float(np.sign(score))

    def lose(self, ending: str, how: str = "F") -> None:
        """End the game, if it isn't over: who is to move has lost it."""
        if self.result is None:
            self.result, self.how = -float(sign_of(self.board.to_play)), how
            self.ending = f"{self.names[self.turn()]} {ending}"

    def points(self) -> float:
        """Return A's points: 1, 0.5 or 0."""
        return (1 + self.result * (-1 if self.black else 1)) / 2

    def counts(self) -> set[float | None]:
        """Return the programs' own counts, Black minus White; None where one gave no number."""
        return {parse_result(claim)[1] for claim in self.claims}

    def write(self, folder: Path) -> str:
        """Write its SGF; return the name of the file."""
        write_whole(path := folder / f"{self.number + 1:04d}.sgf", self.sgf)
        return path.name


def match(a: Player, b: Player, num_games: int, config: MatchConfig, ray: str = "") -> dict:
    """Play a match, by a Ray cluster if told its address; return what `summarize` says, as A."""
    if config.sgf:
        Path(config.sgf).mkdir(parents=True, exist_ok=True)
        if any(Path(config.sgf).glob("*.sgf")):
            raise ValueError(f"{config.sgf}: there are games in it already")
    games, bar = [], tqdm(total=num_games, desc=f"{a.name} - {b.name}", unit="game")
    play = functools.partial(play_on_nodes, ray) if ray else play_games
    with bar:
        for game in play(a, b, range(num_games), config):
            games.append(game)
            if config.sgf:
                game.write(Path(config.sgf))
            tally = _tally(games)
            bar.set_postfix_str(f"{tally['wins']} won, {tally['losses']} lost", refresh=False)
            bar.update()
    report = {"a": a.name, "b": b.name, "size": config.size, "komi": config.rules.komi}
    games.sort(key=lambda game: game.number)
    report |= {"handicap": config.handicap} | summarize(games)
    if a.time_s or b.time_s:
        report["longest_move_s"] = np.max([game.longest_s for game in games], axis=0).tolist()
    return report


def play_games(a: Player, b: Player, numbers: Sequence[int], config: MatchConfig) -> Iterator[Game]:
    """Play the games of a match that have these numbers, and yield each at its end.

    A is Black in the even games, and in none where it gives a handicap. All games in flight advance
    together, so that a network sees them as one batch. Raises ValueError where a player doesn't
    start.
    """
    if a.command or b.command:
        config = replace(config, rules=replace(config.rules, suicide=False))
    width = min(len(numbers), config.games_at_once or _default_width(a, b, len(list_cores())))
    in_flight, numbers, slots = [], iter(numbers), range(width)
    stones = handicap_moves(config.size, config.handicap) if config.handicap else []
    with ExitStack() as stack:
        sides = list(_make_sides((a, b), width, config, stack))
        while True:
            for slot, number in zip(slots, numbers, strict=False):
                board = Board(config.size, config.rules, WHITE if stones else BLACK)
                board.place(stones)
                black = 1 if stones else number % 2
                game = Game(number, slot, (a.name, b.name), board, black, stones)
                in_flight.append(game)
                for side in sides:
                    side.start(game)
            if not in_flight:
                return
            _play_moves(sides, in_flight)
            finished = [game for game in in_flight if game.result is not None]
            in_flight = [game for game in in_flight if game.result is None]
            slots = [game.slot for game in finished]  # for others
            for game in finished:
                _finish(game, sides)
                yield game


def play_there(
    version: str, networks: dict, a: Player, b: Player, numbers: range, config: MatchConfig
) -> list[Game]:
    """Do as `play_games` does, on a core of a node, which has no file of this machine."""
    from ..cluster import room  # not above: Ray is an extra

    device = "cpu" if config.device == "auto" else config.device  # a card isn't the task's
    width = config.games_at_once or _default_width(a, b, 1)
    config = replace(config, device=device, games_at_once=width)
    with room(version) as folder:
        players = []
        for player in (a, b):
            path = folder / str(len(players))
            path.write_bytes(networks[player.checkpoint] or b"")
            players.append(replace(player, checkpoint=str(path)))
        games = list(play_games(*players, numbers, config))
    for game in games:
        game.board = None  # it can't travel
    return games


def play_on_nodes(
    address: str, a: Player, b: Player, numbers: range, config: MatchConfig
) -> Iterator[Game]:
    """Do as `play_games` does, on all cores of a Ray cluster, a share of the games in each task."""
    from ..cluster import Tasks

    with Tasks(address, play_there, {a.checkpoint, b.checkpoint}) as tasks:
        most = max(2, min(SHARE_GAMES, len(numbers) // (4 * tasks.idle)))
        for seed, first in enumerate(numbers[::most], config.seed << 20):
            tasks.give(a, b, numbers[first : first + most], replace(config, seed=seed))
        while tasks.busy:
            for _, games in tasks.wait():
                yield from games


def _default_width(a: Player, b: Player, num_cores: int) -> int:
    if a.time_s or b.time_s:
        return 1
    if a.command or b.command:
        return 2 * num_cores  # in half of the games the program waits for its opponent
    return min(GAMES_AT_ONCE, max(2, MAX_NODES // max(1, a.visits, b.visits)))


def _make_sides(
    players: tuple[Player, ...], width: int, config: MatchConfig, stack: ExitStack
) -> Iterator["NetworkSide | ProgramSide"]:
    rng, boards = np.random.default_rng(config.seed), [Board(config.size, config.rules)] * width
    options = {"device": config.device, "max_batch": width, "threads": config.threads}
    load = functools.cache(functools.partial(load_evaluator, size=config.size, **options))
    for player in players:
        if player.command:
            yield ProgramSide(player, rng, stack)
        else:
            yield NetworkSide(player, boards, load(player.checkpoint), rng)


def _play_moves(sides: list["NetworkSide | ProgramSide"], games: list[Game]) -> None:
    """Have each side move in the games where it is to, and tell the other."""
    turns = [[game for game in games if game.turn() == player] for player in (0, 1)]
    for player, turn in enumerate(turns):
        started = time.monotonic()
        sides[player].move(turn)
        move_s = time.monotonic() - started
        for game in turn:
            game.longest_s[player] = max(game.longest_s[player], move_s)
            if not game.ending:
                sides[1 - player].observe(game)


def _finish(game: Game, sides: list) -> None:
    """Ask programs for their count of a finished game, say what else ended it, make its SGF."""
    if game.score is not None and not game.is_capped:
        programs = [side for side in sides if isinstance(side, ProgramSide)]
        game.claims += filter(None, (program.count(game) for program in programs))
        counts = game.counts()
        if game.board.rules.scoring == "territory" and len(counts) == 1 and None not in counts:
            game.end(counts.pop())
    if game.how == "F":
        tqdm.write(f"game {game.number + 1}: {game.ending}", file=sys.stderr)
    board, moves = game.board, np.array(game.moves, np.int16)
    setup = np.zeros(board.size**2, np.int8)
    setup[game.handicap] = BLACK
    first, found = WHITE if game.handicap else BLACK, {"result": game.result, "score": game.score}
    record = GameRecord(board.size, board.rules, moves, first, setup, **found)
    remarks = "\n".join(filter(None, [game.ending, *(f"final_score {c}" for c in game.claims)]))
    black, white = game.names[game.black], game.names[1 - game.black]
    result = f"{'B' if game.result > 0 else 'W'}+{game.how}" if game.how else ""
    game.sgf = format_sgf(record, black, white, {len(moves): remarks} if remarks else None, result)


class NetworkSide:
    """A network in every game of a match: one search, with a tree per game in flight."""

    def __init__(
        self, player: Player, boards: list[Board], evaluator: Evaluator, rng: np.random.Generator
    ) -> None:
        self.player, self.rng = player, rng
        evaluator = Blinded(evaluator, player.without) if player.without else evaluator
        evaluator = Turned(evaluator, boards[0].size, rng)
        self.search = Search(evaluator, SearchConfig(), boards, rng)
        if player.time_s:  # which bounds no memory: all trees together get what one may have
            self.search.forest.max_edges = MAX_EDGES // len(boards)

    def start(self, game: Game) -> None:
        """Take up a game, in its slot."""
        self.search.forest.reset(game.slot, game.board)

    def move(self, games: list[Game]) -> None:
        """Play a move in each game; all are searched as one batch."""
        time_s, budget = self.player.time_s, np.zeros(len(self.search.boards), np.int32)
        for game in games:
            self._forbid_early_pass(game)
            kept = self.search.forest.num_visits(game.slot)
            budget[game.slot] = ALL_VISITS if time_s else max(1, self.player.visits - kept)
        self.search.run(budget, deadline=time.monotonic() + time_s if time_s else None)
        for game in games:
            game.play(self._choose(game))
            self.observe(game)

    def _forbid_early_pass(self, game: Game) -> None:
        """Let no search pass with dead stones on the board that would count (as in `Engine`)."""
        forest, passes = self.search.forest, game.board.size**2
        until = np.zeros((3, passes + 1), np.int32)
        if endgame.counts_all(game.board) and not endgame.is_closed(game.board):
            until[game.board.to_play, passes] = ALL_VISITS
            if forest.moves(game.slot)["visits"][passes]:
                forest.reset(game.slot, game.board)
        forest.avoid(game.slot, until)

    def _choose(self, game: Game) -> int:
        board, passes = game.board, game.board.size**2
        if board.last_move == passes and sign_of(board.to_play) * board.score() > 0:
            return passes  # that ends the game, and wins it
        result = self.search.result(game.slot)
        if result.move == passes or board.num_moves >= 2 * OPENING_MOVES_PER_SIZE * board.size:
            return result.move
        visits, priors = result.moves["visits"][:-1], result.moves["prior"][:-1]
        return choose_move(visits if visits.any() else priors, OPENING_TEMPERATURE, self.rng)

    def observe(self, game: Game) -> None:
        """Take in the last move of a game."""
        self.search.forest.advance(game.slot, game.moves[-1])


class Blinded:
    """An evaluator without policy (every move as likely as any) or value (every position even)."""

    def __init__(self, evaluator: Evaluator, without: str) -> None:
        self.evaluator, self.without = evaluator, without

    def begin(self, positions: np.ndarray) -> Callable[[], Evaluation]:
        """Evaluate as the network does, with zeros for what it is without."""
        found = self.evaluator.evaluate(positions)
        for array in (found.logits,) if self.without == "policy" else (found.value, found.score):
            array[:] = 0
        return lambda: found


class ProgramSide:
    """A GTP program in every game of a match: one process per game in flight."""

    def __init__(self, player: Player, rng: np.random.Generator, stack: ExitStack) -> None:
        self.player, self.rng, self.stack = player, rng, stack
        self.programs: dict[int, GtpProgram] = {}  # those that live, by slot
        self.cleans_up = False  # by CLEANUP, once anybody has passed

    def start(self, game: Game) -> None:
        """Set a process up for a game; one that died is started again."""
        rules = game.board.rules
        lines = [f"boardsize {game.board.size}", "clear_board", f"komi {rules.komi:g}"]
        if game.handicap:
            lines.append(f"fixed_handicap {len(game.handicap)}")
        names = f'"ko":"{rules.ko.upper()}","score":"{rules.scoring.upper()}"'
        optional = [f'kata-set-rules {{{names},"suicide":false}}']
        # GNU Go's own seed is the second it was started in.
        optional.append(f"set_random_seed {self.rng.integers(1 << 30)}")
        if self.player.time_s:
            optional.append(f"time_settings 0 {max(1, round(self.player.time_s))} 1")
        try:
            if game.slot not in self.programs:
                self.programs[game.slot] = GtpProgram(self.player.command)
                self.stack.callback(self.programs[game.slot].close)
            program = self.programs[game.slot]
            self.cleans_up = rules.scoring == "area" and CLEANUP in program.commands
            for line in lines + [line for line in optional if line.split()[0] in program.commands]:
                program.ask(line)
        except ProgramError as error:
            raise ValueError(f"GTP program {self.player.command!r} {error}") from None

    def move(self, games: list[Game]) -> None:
        """Ask every process for a move, and then collect the moves: they think side by side."""
        firm = [not self.cleans_up or game.board.size**2 in game.moves for game in games]
        for game, is_firm in zip(games, firm, strict=True):
            command = CLEANUP if self.cleans_up and is_firm else "genmove"
            self.programs[game.slot].send(f"{command} {format_color(game.board.to_play)}")
        for game, is_firm in zip(games, firm, strict=True):
            color, text = format_color(game.board.to_play), self._ask(game)
            if text.lower() == "resign":
                game.lose("resigned", "R")
            try:
                if game.result is None:
                    game.play(parse_vertex(text, game.board.size), is_firm)
            except IllegalMove:
                game.lose(f"played the illegal move {color} {text.upper()}")
            except ValueError:
                game.lose(f"answered genmove with {text[:40]!r}")

    def observe(self, game: Game) -> None:
        """Tell the opponent's move."""
        color = format_color(3 - game.board.to_play)
        self._ask(game, f"play {color} {format_vertex(game.moves[-1], game.board.size)}")

    def count(self, game: Game) -> str:
        """Return the program's own count, such as "B+3.5", or "" if it gives none."""
        program = self.programs.get(game.slot)
        is_told = program and "final_score" in program.commands
        return self._ask(game, "final_score") if is_told else ""

    def _ask(self, game: Game, line: str = "") -> str:
        """Return the answer to a command, or to the one sent last; an error ends game and process.

        Then the answer is "".
        """
        program = self.programs[game.slot]
        try:
            return program.ask(line) if line else program.receive()
        except ProgramError as error:
            game.lose(str(error))
            self.programs.pop(game.slot).close()
            return ""


def _tally(games: list[Game]) -> dict:
    points = [game.points() for game in games]
    counts = {"wins": points.count(1), "losses": points.count(0), "draws": points.count(0.5)}
    return {"games": len(games)} | counts


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
    others = [{parse_result(c)[0] for c in game.claims} - {None, game.result} for game in games]
    odd = [game for game in games if game.counts() - {game.score}]
    claims = [f"game {g.number + 1}: {', '.join(g.claims)}; taken {g.score:+g}" for g in odd]
    return tally | {
        **{"elo": elo, "elo_low": elo_low, "elo_high": elo_high},
        **{"score": points / len(games), "score_low": low, "score_high": high},
        "black": _tally([game for game in games if game.black == 0]),
        "white": _tally([game for game in games if game.black == 1]),
        "distinct": len({tuple(game.moves) for game in games}),
        "mean_moves": sum(len(game.moves) for game in games) / len(games),
        "capped": sum(game.is_capped for game in games),
        "resigned": sum(game.how == "R" for game in games),
        "forfeits": [f"game {g.number + 1}: {g.ending}" for g in games if g.how == "F"],
        "disagreements": sum(map(bool, others)),
        "other_counts": claims,
    }


def score_interval(points: float, num_games: int) -> tuple[float, float, float]:
    """Return the 2.5, 50 and 97.5 % quantiles of the score to expect after `points` of `num_games`.

    The Jeffreys interval (Brown, Cai and DasGupta 2001, section 3.1): quantiles of the posterior
    Beta(points + 1/2, num_games - points + 1/2), whose Elo is finite even if all games were won; a
    draw is half a win and half a loss, which makes it a little too wide. With score = sin(phi)^2
    the posterior is sin(phi)^(2 points) cos(phi)^(2 (num_games - points)), summed on a grid.
    """
    phi = (np.arange(1 << 17) + 0.5) * (math.pi / 2 / (1 << 17))
    log_density = 2 * (points * np.log(np.sin(phi)) + (num_games - points) * np.log(np.cos(phi)))
    cumulative = np.cumsum(np.exp(log_density - log_density.max()))
    edges = phi + phi[0]  # the right edges of the cells, where the sums hold
    quantiles = np.interp((0.025, 0.5, 0.975), cumulative / cumulative[-1], edges)
    return tuple((np.sin(quantiles) ** 2).tolist())


def elo_difference(score: float) -> float:
    """Return the d at which `score` = 1 / (1 + 10^(-d / 400)) is expected (Elo 1978)."""
    return 400 * math.log10(score / (1 - score))

"""Self-play: many games at once, and the worker that writes their records into a run's folder."""

import itertools
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import msgspec
import numpy as np

from ._board import Board
from .checkpoint import Checkpoint, cycle_path, load_checkpoint, load_network, newest_cycle
from .config import Recipe
from .coords import signs_of
from .evaluator import Evaluator, make_evaluator
from .record import PART, GameRecord, RecordWriter
from .search import Search, choose_move
from .server import Slots

KOMI_SPREAD = 1.0  # standard deviation of komi around the recipe's, in points (KataGo, Appendix D)
# Temperature of the move choice, but for a Gumbel root: at the start, and what it falls to.
TEMPERATURE, TEMPERATURE_END = 1.0, 0.2  # (KataGo's chosenMoveTemperature: 0.75 and 0.15)
FILE_S = 10.0  # after which a file of games is closed at the latest, so that they count


class Thought(Enum):
    """How the next move of a game is found."""

    OPENING = "drawn from the raw policy"
    CHEAP = "by a search that teaches nothing"
    ROOT = "by a full search, but its root has no evaluation yet"
    FULL = "by a full search: the position becomes data"


@dataclass
class Game:
    """One game under way: what its record needs besides the board."""

    num_opening_moves: int  # first moves to draw from the raw policy
    thought: Thought = Thought.OPENING
    moves: list[int] = field(default_factory=list)
    policy_plies: list[int] = field(default_factory=list)
    policies: list[np.ndarray] = field(default_factory=list)


class SelfPlay:
    """Games of a network against itself; a finished one makes room for the next."""

    def __init__(self, evaluator: Evaluator, recipe: Recipe, rng: np.random.Generator) -> None:
        self.recipe, self.rng = recipe, rng
        self.simulations = recipe.search.simulations  # of a full search
        self.source = ""  # of the records
        num_games = recipe.selfplay.games_at_once
        boards = [self._board() for _ in range(num_games)]
        self.games = [self._game() for _ in range(num_games)]
        self.search = Search(evaluator, recipe.search, boards, rng)
        self._budget = np.zeros(num_games, np.int32)  # simulations until each game's next move
        for tree in range(num_games):
            self._begin(tree)
        self.search.begin(self._budget)

    def _board(self) -> Board:
        """Return an empty board with komi drawn around the recipe's."""
        rules = self.recipe.rules
        komi = round(2 * self.rng.normal(rules.komi, KOMI_SPREAD)) / 2
        return Board(self.recipe.size, msgspec.structs.replace(rules, komi=komi))

    def _game(self) -> Game:
        return Game(int(self.rng.exponential(self.recipe.selfplay.opening_moves)))

    def step(self) -> Iterator[GameRecord]:
        """Take the answers to the last batch, play the moves that they decide, begin the next.

        Yields the records of finished games, to the end. No game waits for another's move, so that
        every batch has a position of nearly each.
        """
        self.search.end()
        for tree in np.flatnonzero(self._budget == 0).tolist():
            if self.games[tree].thought == Thought.ROOT:
                self._think(tree, Thought.FULL)
                continue
            self._play(tree)
            if self.is_finished(tree):
                yield self._finish(tree)
            self._begin(tree)
        self.search.begin(self._budget)

    def _begin(self, tree: int) -> None:
        """Draw how to find a game's next move (playout cap randomisation: KataGo, 3.1)."""
        cfg, game = self.recipe.selfplay, self.games[tree]
        if len(game.moves) < game.num_opening_moves:
            self._think(tree, Thought.OPENING)
        elif self.rng.random() >= cfg.full_frac and cfg.cheap_simulations:
            self._think(tree, Thought.CHEAP)
        else:
            self._think(tree, Thought.ROOT if self.search.is_new(tree) else Thought.FULL)

    def _think(self, tree: int, thought: Thought) -> None:
        """Set a game's simulations; a full search explores, which takes an evaluated root."""
        self.games[tree].thought, self._budget[tree] = thought, 1
        if thought == Thought.CHEAP:
            self._budget[tree] = self.recipe.selfplay.cheap_simulations
        elif thought == Thought.FULL:
            self.search.explore(tree, self.simulations)
            self._budget[tree] = self.simulations

    def _play(self, tree: int) -> None:
        """Play a game's next move, and note what the search found."""
        game, move = self.games[tree], self._choose(tree)
        if game.thought == Thought.FULL:
            game.policy_plies.append(len(game.moves))
            game.policies.append(self.search.policy_target(tree).astype(np.float16))
        game.moves.append(move)
        self.search.play(tree, move)

    def _choose(self, tree: int) -> int:
        """Choose by Gumbel score where the root has one, else by visits and temperature."""
        game, moves = self.games[tree], self.search.forest.moves(tree)
        if game.thought == Thought.OPENING:
            return choose_move(moves["prior"], 1.0, self.rng)
        is_gumbel = game.thought == Thought.FULL and self.recipe.search.root == "gumbel"
        if is_gumbel or not moves["visits"].any():
            return self.search.forest.best_move(tree)
        decay = 0.5 ** (len(game.moves) / self.recipe.selfplay.halflife)
        temperature = TEMPERATURE_END + (TEMPERATURE - TEMPERATURE_END) * decay
        return choose_move(moves["visits"], temperature, self.rng)

    def is_finished(self, tree: int) -> bool:
        """Tell whether a game is over, settled, or at the recipe's last move."""
        board = self.search.boards[tree]
        area = board.size * board.size
        if board.is_over or board.num_moves >= self.recipe.selfplay.max_moves_per_point * area:
            return True
        return 2 * board.num_moves > area and is_settled(board)

    def _finish(self, tree: int) -> GameRecord:
        """Count a game, start the next in its place, and return its record."""
        game, board = self.games[tree], self.search.boards[tree]
        is_certain = not board.is_over and is_settled(board)
        ownership = signs_of(board.pass_alive() if is_certain else board.area()).ravel()
        score = float(ownership.sum()) - board.rules.komi
        num_moves = board.size * board.size + 1
        record = GameRecord(
            size=board.size,
            rules=board.rules,
            moves=np.array(game.moves, dtype=np.int16),
            result=float(np.sign(score)),
            score=score,
            ownership=ownership,
            policy_plies=np.array(game.policy_plies, dtype=np.int16),
            policies=np.array(game.policies, dtype=np.float16).reshape(-1, num_moves),
            source=self.source,
        )
        self.search.reset(tree, self._board())
        self.games[tree] = self._game()
        return record


def is_settled(board: Board) -> bool:
    """Tell whether every point is pass-alive or its territory: the count is certain."""
    return bool(board.pass_alive().all())


def share_done(recipe: Recipe, cycle: int, elapsed_s: float) -> float:
    """Return how much of a run lies behind, in [0, 1]; rate and simulations follow it."""
    share = cycle / recipe.cycles if recipe.cycles else elapsed_s / (60 * recipe.minutes)
    return min(1.0, share)


def full_simulations(recipe: Recipe, share: float) -> int:
    """Return the simulations of a full search when `share` of the run is done."""
    start = recipe.search.simulations
    return round(start + ((recipe.selfplay.simulations_end or start) - start) * share)


class Worker:
    """Games with the newest network of a run's folder, into files of another.

    Games under way go on with a newer network. Board sizes take turns, one to each network.
    Where the networks are evaluated elsewhere, through `slots`, the games are two halves: while the
    answers for one are under way, the other one's are used.
    """

    def __init__(
        self,
        number: int,
        recipe: Recipe,
        networks: Path,
        records: Path,
        seed: list[int],
        slots: Slots | None = None,
    ) -> None:
        self.number, self.recipe, self.seed = number, recipe, seed
        self.networks, self.records, self.slots = networks, records, slots
        self.cycle = -1  # of the network that plays
        self.players: dict[int, deque[SelfPlay]] = {}  # by board size

    def play(self, num_games: int, max_s: float = math.inf) -> None:
        """Write a file of at least so many finished games, or of those of so many seconds."""
        deadline = time.monotonic() + max_s
        self._look()
        with RecordWriter(self._free_path()) as writer:
            while writer.num_games < num_games and time.monotonic() < deadline:
                self._look()
                self.halves.rotate()
                for record in self.halves[0].step():
                    writer.write(record)

    def _look(self) -> None:
        """Take the newest network, if there is a newer one."""
        if (newest := newest_cycle(self.networks, self.cycle)) > self.cycle:
            self.cycle = newest
            self._load(load_checkpoint(cycle_path(self.networks, newest)))

    def _load(self, checkpoint: Checkpoint) -> None:
        sizes = self.recipe.sizes
        size = sizes[(self.cycle + self.number) % len(sizes)]
        if size not in self.players:
            recipe = msgspec.structs.replace(self.recipe, size=size, min_size=0)
            if self.slots:
                evaluators = self.slots.evaluators(self.number, size)
            else:
                net = load_network(checkpoint)
                num_games = recipe.selfplay.games_at_once
                evaluators = [make_evaluator(net, size, recipe.device, max_batch=num_games)]
            self.players[size] = deque(
                SelfPlay(each, recipe, np.random.default_rng([*self.seed, self.number, size, half]))
                for half, each in enumerate(evaluators)
            )
        elif not self.slots:
            self.players[size][0].search.evaluator.load(load_network(checkpoint))
        self.halves = self.players[size]
        share = share_done(self.recipe, self.cycle, checkpoint.info["elapsed_s"])
        for half in self.halves:
            half.simulations = full_simulations(self.recipe, share)
            half.source = checkpoint.path.stem

    def _free_path(self) -> Path:
        """Return the name of a record file that is still free."""
        for number in itertools.count():
            path = self.records / f"cycle-{self.cycle:04d}-{self.number}-{number}.games"
            if not path.exists() and not path.with_suffix(PART).exists():
                return path


def work(slots: Slots | None, file_games: int, *order) -> None:
    """Play for ever, as a process of its own (`Crew`); see `Worker`."""
    worker = Worker(*order, slots)
    while True:
        worker.play(file_games, FILE_S)

"""Self-play: many games of a network against itself, at once."""

from collections.abc import Iterator
from enum import Enum

import msgspec
import numpy as np

from ._board import Board
from .config import Recipe
from .coords import signs_of
from .evaluator import Evaluator
from .record import GameRecord
from .search import Search, choose_move

KOMI_SPREAD = 1.0  # standard deviation of komi around the recipe's, in points (KataGo, Appendix D)
# Temperature of the move choice, but for a Gumbel root: at the start, and what it falls to.
TEMPERATURE, TEMPERATURE_END = 1.0, 0.2  # (KataGo's chosenMoveTemperature: 0.75 and 0.15)


class Thought(Enum):
    """How the next move of a game is found."""

    OPENING = "drawn from the raw policy"
    CHEAP = "by a search that teaches nothing"
    ROOT = "by a full search, but its root has no evaluation yet"
    FULL = "by a full search: the position becomes data"


class Game(msgspec.Struct):
    """One game under way: what its record needs besides the board."""

    num_opening_moves: int  # first moves to draw from the raw policy
    thought: Thought = Thought.OPENING
    moves: list[int] = []
    policy_plies: list[int] = []
    policies: list[np.ndarray] = []


class SelfPlay:
    """Games of a network against itself; a finished one makes room for the next."""

    def __init__(self, evaluator: Evaluator, recipe: Recipe, rng: np.random.Generator) -> None:
        self.recipe, self.rng = recipe, rng
        self.simulations = recipe.search.simulations  # of a full search
        self.source = ""  # of the records
        num_games = recipe.selfplay.games_at_once
        self.search = Search(evaluator, recipe.search, [Board(recipe.size)] * num_games, rng)
        self._budget = np.zeros(num_games, np.int32)  # simulations until each game's next move
        self.games = [self._start(tree) for tree in range(num_games)]
        for tree in range(num_games):
            self._begin(tree)
        self.search.begin(self._budget)

    def _start(self, tree: int) -> Game:
        """Empty a game's board, with komi drawn around the recipe's."""
        komi = round(2 * self.rng.normal(self.recipe.rules.komi, KOMI_SPREAD)) / 2
        rules = msgspec.structs.replace(self.recipe.rules, komi=komi)
        self.search.forest.reset(tree, Board(self.recipe.size, rules))
        return Game(int(self.rng.exponential(self.recipe.selfplay.opening_moves)))

    def step(self) -> Iterator[GameRecord]:
        """Take the answers to the last batch, play the moves that they decide, begin the next.

        Yields the records of finished games; the next batch begins after the last. No game waits
        for another's move, so that every batch has a position of nearly each.
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
            is_evaluated = self.search.forest.num_visits(tree) > 0
            self._think(tree, Thought.FULL if is_evaluated else Thought.ROOT)

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
        self.search.forest.advance(tree, move)

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
        """Tell whether a game is over, at the recipe's last move, or certain: all is pass-alive."""
        board = self.search.boards[tree]
        area = board.size * board.size
        if board.is_over or board.num_moves >= self.recipe.selfplay.max_moves_per_point * area:
            return True
        return 2 * board.num_moves > area and bool(board.pass_alive().all())

    def _finish(self, tree: int) -> GameRecord:
        """Count a game, start the next in its place, and return its record."""
        game, board = self.games[tree], self.search.boards[tree]
        alive = board.pass_alive()
        is_certain = not board.is_over and alive.all()
        ownership = signs_of(alive if is_certain else board.area()).ravel()
        score = float(ownership.sum()) - board.rules.komi
        record = GameRecord(
            size=board.size,
            rules=board.rules,
            moves=np.array(game.moves, dtype=np.int16),
            result=float(np.sign(score)),
            score=score,
            ownership=ownership,
            policy_plies=np.array(game.policy_plies, dtype=np.int16),
            policies=np.array(game.policies, dtype=np.float16).reshape(-1, board.size**2 + 1),
            source=self.source,
        )
        self.games[tree] = self._start(tree)
        return record

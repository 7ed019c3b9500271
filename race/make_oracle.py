"""Make oracle.npz: positions of games of many players, and what the best network's search says.

    python race/make_oracle.py oracle.npz 9x9-human.zip 9x9-bots.zip ...

Positions are of games between the networks that ship, of all ages, bare and with search; of their
games with GNU Go, of two levels; and of the archives' games, one each. None is there twice. A
process on each core plays and searches.
"""

import functools
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from tqdm import tqdm

from minigo.checkpoint import list_shipped
from minigo.config import SearchConfig
from minigo.evaluator import load_evaluator
from minigo.games import load_human_games
from minigo.machine import list_cores
from minigo.play.match import MatchConfig, find_gnugo, parse_player, play_games
from minigo.record import GameRecord
from minigo.search import Search

ORACLE, VISITS, AT_ONCE = "9x9", 1_600, 50  # positions searched at once
POSITIONS = 4_000, 1_200, 4_800  # of games of networks, with GNU Go, of people
A_GAME = 3, 10, 1  # positions of each game


def play(job: tuple[str, str, int, int]) -> list[GameRecord]:
    """Return the games of a match."""
    torch.set_num_threads(1)
    a, b, num_games, seed = job
    games = play_games(parse_player(a), parse_player(b), range(num_games), MatchConfig(seed=seed))
    return [GameRecord(9, game.board.rules, np.array(game.moves, np.int16)) for game in games]


def list_jobs() -> tuple[list, list]:
    """Return the matches between networks, and those with GNU Go."""
    networks = [name for name in list_shipped() if name.startswith("9x9")]
    rng = np.random.default_rng(0)
    players = [f"{name}@{visits}" for name in networks for visits in (0, 16)]
    pairs = [rng.choice(players, 2, replace=False) for _ in range(44)]
    among = [(a, b, 40, seed) for seed, (a, b) in enumerate(pairs)]
    programs = [find_gnugo(level) for level in (1, 10)]
    return among, [(f"{a}@16", b, 4, seed) for seed, a in enumerate(networks) for b in programs]


def choose(records: list[GameRecord], a_game: int, most: int) -> dict[bytes, tuple]:
    """Return random plies of random games, by what the network is told of each."""
    rng, found = np.random.default_rng(1), {}
    for i in rng.permutation(len(records)):
        record = records[i]
        for ply in rng.choice(len(record.moves), min(a_game, len(record.moves)), replace=False):
            board = record.board(int(ply))
            if not board.is_over and len(found) < most:
                found[board.encode().tobytes()] = record, int(ply)
    return found


@functools.cache
def oracle():
    """Return the network that is asked, on one core."""
    torch.set_num_threads(1)
    return load_evaluator(ORACLE, 9, max_batch=AT_ONCE)


def ask(places: list[tuple[GameRecord, int]]) -> tuple[np.ndarray, ...]:
    """Search positions; return them with the visits of each move and the mean result."""
    boards = [record.board(ply) for record, ply in places]
    search = Search(oracle(), SearchConfig(), boards, np.random.default_rng(0))
    search.run(VISITS)
    found = [search.result(tree) for tree in range(len(boards))]
    visits = np.array([each.moves["visits"] for each in found], np.uint16)
    wins = np.array([each.root["win"] for each in found], np.float16)
    return np.array([board.encode() for board in boards]), visits, wins


def main(out: str, *archives: str) -> None:
    places = {}
    with ProcessPoolExecutor(len(list_cores()), get_context("spawn")) as pool:
        for jobs, a_game, most in zip(list_jobs(), A_GAME, POSITIONS, strict=False):
            games = list(tqdm(pool.map(play, jobs), "games", len(jobs)))
            places |= choose([game for part in games for game in part], a_game, most)
        games = load_human_games(archives, sizes=[9])
        missing = sum(POSITIONS) - len(places)
        places |= choose(games.held_out + games.training, A_GAME[-1], missing)
        places = list(places.values())
        parts = [places[i : i + AT_ONCE] for i in range(0, len(places), AT_ONCE)]
        found = list(tqdm(pool.map(ask, parts), "positions", len(parts)))
    positions, visits, value = map(np.concatenate, zip(*found, strict=True))
    np.savez_compressed(out, positions=positions, visits=visits, value=value)


if __name__ == "__main__":
    main(*sys.argv[1:])

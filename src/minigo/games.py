"""People's games: archives read once and packed, filtered, without duplicates, some held out.

A large archive's games are kept packed in the user's cache folder, five times as fast to read. A
hash of a game's first moves, the same in all eight orientations, finds duplicates and chooses the
games that are held out, so that no game ever moves between the two.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .coords import symmetry_table
from .machine import cache_folder, write_whole
from .ranks import parse_rank
from .record import PART, GameRecord, RecordWriter, read_records
from .sgf import Skipped, list_files, load_games

MIN_BYTES = 1 << 19  # archives below that are read in a second anyway
VERSION = 4  # of what `load_games` makes of an archive; a change there needs another number
HOLDOUT_FRAC = 0.03
SAME_MOVES = 30  # games equal so far, passes at the end apart, are one game


def read_games(paths: Iterable[str | Path], strict: bool = False) -> Iterator[GameRecord | Skipped]:
    """Yield what `load_games` does, the `Skipped` of a packed archive last and without names."""
    for path in map(Path, paths):
        stats = [(str(file), file.stat()) for file in list_files(path) if file.exists()]
        if strict or sum(stat.st_size for _, stat in stats) < MIN_BYTES:
            yield from load_games([path], strict)
            continue
        stamp = repr([VERSION, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)])
        name = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=12).hexdigest()
        packed = cache_folder() / f"{name}.games"
        yield from _load(packed, stamp) or _pack(path, packed, stamp)


def _load(packed: Path, stamp: str) -> list[GameRecord | Skipped]:
    """Return what is packed, or nothing unless it is whole and of this very archive."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        about = json.loads(packed.with_suffix(".json").read_text())
        games, problem = read_records(packed)
        if (about["stamp"], about["games"], problem) == (stamp, len(games), None):
            return games + [Skipped("", why) for why in Counter(about["left_out"]).elements()]
    return []


def _pack(path: Path, packed: Path, stamp: str) -> Iterator[GameRecord | Skipped]:
    """Read games and pack them, if the cache can be written, and last the note that says so."""
    games = []
    for game in load_games([path]):
        games.append(game)
        yield game
    left_out = Counter(game.reason for game in games if isinstance(game, Skipped))
    about = {"stamp": stamp, "games": len(games) - left_out.total(), "left_out": left_out}
    try:
        packed.parent.mkdir(parents=True, exist_ok=True)
        for stale in (packed, packed.with_suffix(PART)):
            stale.unlink(missing_ok=True)
        with RecordWriter(packed) as writer:
            for game in games:
                if isinstance(game, GameRecord):
                    writer.write(game)
        write_whole(packed.with_suffix(".json"), json.dumps(about))
    except OSError:
        with suppress(OSError):
            packed.unlink(missing_ok=True)  # a half would only fill the disk


@dataclass(frozen=True)
class HumanGames:
    """What a look through archives found."""

    training: list[GameRecord] = field(default_factory=list)
    held_out: list[GameRecord] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)  # reason: games


def load_human_games(
    paths: Iterable[str | Path],
    *,
    sizes: Collection[int] | None = None,
    min_rank: str | None = None,
    strict: bool = False,
    holdout_frac: float = HOLDOUT_FRAC,
) -> HumanGames:
    """Read games, drop what is no use, and split the rest; sizes of None take every board."""
    lowest = parse_rank(min_rank or "")
    if min_rank is not None and lowest is None:
        raise ValueError(f"{min_rank!r} is not a rank such as 3d, 9p or 2350")
    games, seen = HumanGames(), set()
    for game in tqdm(read_games(paths, strict), desc="reading", unit=" games", mininterval=0.5):
        is_game = isinstance(game, GameRecord)
        reason = _reason_against(game, sizes, lowest) if is_game else game.reason
        if reason or (key := game_key(game)) in seen:
            games.left_out[reason or "duplicate"] += 1
        else:
            seen.add(key)
            (games.held_out if key < holdout_frac * 2**64 else games.training).append(game)
    return games


def _reason_against(game: GameRecord, sizes: Collection[int] | None, lowest: float | None) -> str:
    if sizes is not None and game.size not in sizes:
        return "not " + " or ".join(f"{size}x{size}" for size in sizes)
    if len(game.moves) < game.size:
        return f"under {game.size} moves"
    ranks = parse_rank(game.black_rank), parse_rank(game.white_rank)
    if lowest is not None and None in ranks:
        return "rank unknown"
    return "rank too low" if lowest is not None and min(ranks) < lowest else ""


def game_key(record: GameRecord) -> int:
    """Return 64 bits that are the same for a game, its reflections and rotations.

    They depend on the size, the set-up and the first SAME_MOVES moves, without passes at the end.
    """
    area, moves = record.size**2, record.moves
    while len(moves) and moves[-1] == area:
        moves = moves[:-1]
    table = symmetry_table(record.size)
    texts = [to[moves[:SAME_MOVES]].astype("<i2").tobytes() for to in table]
    if record.setup is not None:
        stones = record.setup[table[:, :-1].argsort(axis=1)]  # the way back of each symmetry
        texts = [row.tobytes() + text for row, text in zip(stones, texts, strict=True)]
    prefix = bytes((record.size, record.to_play))
    return int.from_bytes(hashlib.blake2b(prefix + min(texts), digest_size=8).digest(), "big")


def format_left_out(games: HumanGames) -> str:
    """Return the table of what was kept and what was left out, and why."""
    rows = [("for training", len(games.training)), ("held out", len(games.held_out))]
    rows += [(f"left out: {reason}", count) for reason, count in games.left_out.most_common()]
    return "\n".join(f"{count:9,}  {name}" for name, count in rows)

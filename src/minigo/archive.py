"""SGF archives that are read once: a large one's games are kept packed, ten times as fast to read.

The packed games are in the user's cache folder; it may be deleted at any time.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from .record import GameRecord, RecordWriter, read_records
from .sgf import Skipped, load_games

MIN_BYTES = 1 << 20  # archives below that are read in a second anyway
VERSION = 1  # of what `load_games` makes of an archive; a change there needs another number


def read_games(paths: Iterable[str | Path], strict: bool = False) -> Iterator[GameRecord | Skipped]:
    """Yield what `load_games` does, the `Skipped` of a packed archive last and without names."""
    for path in map(Path, paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stats = [(str(file), file.stat()) for file in files if file.exists()]
        if strict or sum(stat.st_size for _, stat in stats) < MIN_BYTES:
            yield from load_games([path], strict)
            continue
        stamp = repr([VERSION, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)])
        name = hashlib.blake2b(str(path.resolve()).encode(), digest_size=12).hexdigest()
        packed = cache_folder() / f"{name}.games"
        games = _load(packed, stamp)
        yield from _pack(path, packed, stamp) if games is None else games


def cache_folder() -> Path:
    """Return where packed games are."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "minigo"


def _load(packed: Path, stamp: str) -> list[GameRecord | Skipped] | None:
    """Return what is packed, or None unless it is whole and of this very archive."""
    try:
        about = json.loads(packed.with_suffix(".json").read_text())
        if about["stamp"] != stamp:
            return None
        games, problem = read_records(packed)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if problem or len(games) != about["games"]:
        return None
    skipped = [[Skipped("", reason)] * count for reason, count in about["left_out"].items()]
    return sum(skipped, games)


def _pack(path: Path, packed: Path, stamp: str) -> Iterator[GameRecord | Skipped]:
    """Yield an archive's games while they are packed, if the cache can be written."""
    temporary = packed.with_suffix(f".{os.getpid()}.tmp")
    try:
        packed.parent.mkdir(parents=True, exist_ok=True)
        writer = RecordWriter(temporary)
    except OSError:
        yield from load_games([path])
        return
    num_games, left_out = 0, Counter()
    try:
        with writer:
            for game in load_games([path]):
                if isinstance(game, Skipped):
                    left_out[game.reason] += 1
                else:
                    writer.write(game)
                    num_games += 1
                yield game
        temporary.replace(packed)
        about = {"stamp": stamp, "games": num_games, "left_out": left_out}
        temporary.write_text(json.dumps(about))
        temporary.replace(packed.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)

"""`GameRecord`: what happened in one game, and crash-safe files of many; no planes, no SGF.

A file is a row of frames: magic, length, CRC-32, then one zlib-compressed game. A game is one
write(), so a killed process tears at most the last frame.
"""

import errno
import math
import os
import struct
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ._board import Board
from .config import Rules
from .coords import BLACK, EMPTY, WHITE, check_size

_MAGIC = b"mGo1"
_FRAME = struct.Struct("<4sII")  # magic, bytes of the compressed game, their CRC-32
# Version, size, to_play, flags, ko, suicide, scoring, 0; komi, result, score (NaN: None);
# plies, policies, bytes of source, of black_rank, of white_rank. A multiple of 8 bytes, and wide
# items first after it, so that every array is aligned.
_HEADER = struct.Struct("<8B3d5I4x")
_VERSION = 1
_HAS_VALUES, _HAS_SETUP, _HAS_OWNERSHIP = 1, 2, 4
_KO = ("simple", "positional", "situational")
_SCORING = ("area", "territory")


def _empty(dtype: type) -> np.ndarray:
    return field(default_factory=partial(np.empty, 0, dtype))


@dataclass(frozen=True, eq=False)
class GameRecord:
    """One game as it was played; Black's point of view in `result`, `score` and `ownership`."""

    size: int  # N
    rules: Rules
    moves: np.ndarray  # (T,) int16, the colours alternate
    to_play: int = BLACK  # who makes the first move
    setup: np.ndarray | None = None  # (N * N,) int8 stones before it; None: the empty board
    result: float | None = None  # +1 Black won, -1 White won, 0 draw, None unknown
    score: float | None = None  # points, Black minus White, komi included; None unless counted
    ownership: np.ndarray | None = None  # (N * N,) int8 +1 Black, -1 White, 0; None unless certain
    policy_plies: np.ndarray = _empty(np.int16)  # (K,): those searched fully
    policies: np.ndarray | None = None  # (K, A) float16, their targets
    values: np.ndarray = _empty(np.float32)  # (T,) of the roots, for the player to move; (0,) for
    # games without a search, whose target is the move played
    source: str = ""  # SGF's SO, or the network that played
    black_rank: str = ""
    white_rank: str = ""

    def __post_init__(self):
        points, plies = self.size * self.size, len(self.policy_plies)
        if self.policies is None:
            object.__setattr__(self, "policies", np.empty((0, points + 1), np.float16))
        if self.policies.shape != (plies, points + 1):
            raise ValueError(f"policies of shape {self.policies.shape} for {plies} plies")
        if len(self.values) not in (0, len(self.moves)):
            raise ValueError(f"{len(self.values)} values for {len(self.moves)} moves")
        for name in ("setup", "ownership"):
            stones = getattr(self, name)
            if stones is not None and stones.shape != (points,):
                raise ValueError(f"{name} of shape {stones.shape} on a board of {points} points")

    def board(self, ply: int = 0) -> Board:
        """Return the position before move `ply`; `len(moves)` is the final one."""
        board = Board(self.size, self.rules, self.to_play)
        if self.setup is not None:
            black, white = (np.flatnonzero(self.setup == color) for color in (BLACK, WHITE))
            board.place(black.tolist(), white.tolist())
            board.to_play = self.to_play
        if ply:
            board.play_all(self.moves[:ply])
        return board


class RecordWriter:
    """Writes games to a file of its own; what was written survives a killed process."""

    def __init__(self, path: str | Path) -> None:
        """Create the file; raises FileExistsError where there is one."""
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by close()

    def write(self, record: GameRecord) -> None:
        data = zlib.compress(_pack(record), 6)
        frame = _FRAME.pack(_MAGIC, len(data), zlib.crc32(data)) + data
        try:
            num_written = self._file.write(frame)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._file.name)) from None
        if num_written != len(frame):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file.name))

    def close(self) -> None:
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def read_records(path: str | Path) -> tuple[list[GameRecord], str | None]:
    """Return the games of a file, and one line on where it is torn or corrupt, or None.

    Games after a corrupt one are lost. Raises ValueError for a file that isn't a record file.
    """
    data = Path(path).read_bytes()
    if not data.startswith(_MAGIC[: len(data)]):
        raise ValueError(f"{path}: not a file of game records")
    records, offset = [], 0
    while offset < len(data):
        start = offset + _FRAME.size
        if start > len(data):
            return records, f"{path}: torn at byte {offset}"
        magic, length, crc = _FRAME.unpack_from(data, offset)
        block = data[start : start + length]
        if magic != _MAGIC or len(block) == length and zlib.crc32(block) != crc:
            return records, f"{path}: corrupt at byte {offset}"
        if len(block) < length:
            return records, f"{path}: torn at byte {offset}"
        try:
            records.append(_unpack(zlib.decompress(block)))
        except (ValueError, IndexError, struct.error, zlib.error) as error:
            return records, f"{path}: corrupt at byte {offset} ({error})"
        offset = start + length
    return records, None


def _pack(record: GameRecord) -> bytes:
    rules, texts = record.rules, (record.source, record.black_rank, record.white_rank)
    texts = [text.encode() for text in texts]
    flags = _HAS_VALUES * (len(record.values) > 0)
    flags |= _HAS_SETUP * (record.setup is not None)
    flags |= _HAS_OWNERSHIP * (record.ownership is not None)
    arrays = [(record.values, "<f4"), (record.moves, "<i2"), (record.policy_plies, "<i2")]
    arrays += [(record.policies, "<f2"), (record.setup, "i1"), (record.ownership, "i1")]
    header = _HEADER.pack(
        *(_VERSION, record.size, record.to_play, flags),
        *(_KO.index(rules.ko), rules.suicide, _SCORING.index(rules.scoring), 0),
        rules.komi,
        *(math.nan if x is None else x for x in (record.result, record.score)),
        *(len(record.moves), len(record.policy_plies), *map(len, texts)),
    )
    blocks = [np.asarray(array, dtype).tobytes() for array, dtype in arrays if array is not None]
    return b"".join([header, *blocks, *texts])


def _unpack(data: bytes) -> GameRecord:
    """Read what `_pack` wrote; of anything else one of the errors that `read_records` names."""
    version, size, to_play, flags, ko, suicide, scoring, _, komi, result, score, *lengths = (
        _HEADER.unpack_from(data)
    )
    if version != _VERSION:
        raise ValueError(f"game record of version {version}; this minigo reads {_VERSION}")
    num_moves, num_policies, *text_lengths = lengths
    points, offset = check_size(size) ** 2, _HEADER.size

    def take(dtype: str, count: int) -> np.ndarray:
        nonlocal offset
        array = np.frombuffer(data, dtype, count, offset)
        offset += array.nbytes
        return array

    values = take("<f4", num_moves if flags & _HAS_VALUES else 0)
    moves, plies = take("<i2", num_moves), take("<i2", num_policies)
    policies = take("<f2", num_policies * (points + 1)).reshape(num_policies, points + 1)
    setup = take("i1", points) if flags & _HAS_SETUP else None
    ownership = take("i1", points) if flags & _HAS_OWNERSHIP else None
    source, black_rank, white_rank = (take("i1", n).tobytes().decode() for n in text_lengths)
    if offset != len(data):
        raise ValueError(f"{len(data)} bytes, not {offset}")
    record = GameRecord(
        size=size,
        rules=Rules(_KO[ko], bool(suicide), _SCORING[scoring], komi),
        moves=moves,
        to_play=to_play,
        setup=setup,
        result=None if math.isnan(result) else result,
        score=None if math.isnan(score) else score,
        ownership=ownership,
        policy_plies=plies,
        policies=policies,
        values=values,
        source=source,
        black_rank=black_rank,
        white_rank=white_rank,
    )
    _check(record)
    return record


def _check(record: GameRecord) -> None:
    """Raise ValueError for a game that can't be played or learned from."""
    plies, max_score = record.policy_plies, 1361  # 19 x 19 points and the largest komi
    for name, low, high in (
        ("setup", EMPTY, WHITE),
        ("result", -1, 1),
        ("score", -max_score, max_score),
        ("ownership", -1, 1),
        ("policy_plies", 0, len(record.moves) - 1),
        ("policies", 0, 1),
    ):
        if (values := getattr(record, name)) is None:
            continue
        is_inside = (low <= values) & (values <= high)
        if not np.all(is_inside):
            first = np.extract(np.logical_not(is_inside), values)[0]
            raise ValueError(f"{name} {first:g} is not between {low} and {high}")
    if (plies[1:] <= plies[:-1]).any():
        raise ValueError("policy_plies don't ascend")
    record.board(len(record.moves))  # every move is legal

"""`GameRecord`: what happened in one game, and crash-safe files of many; no planes, no SGF.

A file is a row of frames: magic, length, CRC-32, then one game as zlib-compressed MessagePack. A
game is one write(), so a killed process tears at most the last frame. Until it is closed a file has
another name, so that who looks for whole files finds only such.
"""

import contextlib
import errno
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from filelock import FileLock

from ._board import Board
from .config import Rules, Size
from .coords import BLACK, EMPTY, WHITE

PART = ".part"  # suffix of a file that is still written to, or whose writer was killed
LOCK = ".lock"  # suffix of one that is locked for as long as the writer lives
MAGIC = b"mGo2"
_FRAME = struct.Struct("<4sII")  # magic, bytes of the compressed game, their CRC-32


@dataclass(frozen=True, eq=False)
class GameRecord:
    """One game as it was played; Black's point of view in `result`, `score` and `ownership`."""

    size: Size  # N
    rules: Rules
    moves: np.ndarray  # (T,) int16, the colours alternate
    to_play: int = BLACK  # who makes the first move
    setup: np.ndarray | None = None  # (N * N,) int8 stones before it; None: the empty board
    result: float | None = None  # +1 Black won, -1 White won, 0 draw, None unknown
    score: float | None = None  # points, Black minus White, komi included; None unless counted
    ownership: np.ndarray | None = None  # (N * N,) int8 +1 Black, -1 White, 0; None unless certain
    policy_plies: np.ndarray = field(default_factory=lambda: np.empty(0, np.int16))  # (K,)
    policies: np.ndarray | None = None  # (K, A) float16 targets found by search at those plies;
    # None: a game without a search, where each move played is the target
    source: str = ""  # SGF's SO, or the network that played
    black_rank: str = ""
    white_rank: str = ""

    def __post_init__(self) -> None:
        points, num_plies = self.size * self.size, len(self.policy_plies)
        if self.policies is None and num_plies:
            raise ValueError(f"{num_plies} policy_plies without policies")
        shapes = {"setup": (points,), "ownership": (points,), "policies": (num_plies, points + 1)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None and values.shape != shape:
                raise ValueError(f"{name} of shape {values.shape}, not {shape}")

    def board(self, ply: int = 0) -> Board:
        """Return the position before move `ply`; `len(moves)` is the final one."""
        board = Board(self.size, self.rules, self.to_play)
        if self.setup is not None:
            board.place(*(np.flatnonzero(self.setup == color).tolist() for color in (BLACK, WHITE)))
        board.play_all(self.moves[:ply])
        return board


class RecordWriter:
    """Writes games to a file of its own; what was written survives a killed process.

    The file has the suffix PART until it is closed. One without a game is not kept. Raises OSError
    with the file's name where it is there already, or can't be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.num_games = Path(path), 0
        if self.path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
        self._lock = FileLock(self.path.with_suffix(LOCK))
        self._lock.acquire()
        self._file = open(self.path.with_suffix(PART), "xb", buffering=0)  # noqa: SIM115

    def write(self, record: GameRecord) -> None:
        """Append a game."""
        data = zlib.compress(_ENCODER.encode(record), 6)
        frame = _FRAME.pack(MAGIC, len(data), zlib.crc32(data)) + data
        try:
            if self._file.write(frame) != len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.num_games += 1

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, *exception) -> None:
        """Close the file, safe from a power cut, and give it its name."""
        part = self.path.with_suffix(PART)
        os.fsync(self._file.fileno())
        self._file.close()
        if self.num_games:
            part.rename(self.path)
        else:
            part.unlink()
        self._lock.release()
        with contextlib.suppress(OSError):
            self.path.with_suffix(LOCK).unlink()


def adopt_parts(folder: Path) -> None:
    """Give the files their names whose writers were killed, once they are dead."""
    for part in folder.glob(f"*{PART}"):
        with contextlib.suppress(FileNotFoundError), FileLock(part.with_suffix(LOCK)):
            part.rename(part.with_suffix(".games"))  # unless it was closed meanwhile
        part.with_suffix(LOCK).unlink(missing_ok=True)


def read_records(path: str | Path) -> tuple[list[GameRecord], str | None]:
    """Return the games of a file, and one line on where it is torn or corrupt, or None.

    Games after a corrupt one are lost. Raises ValueError for a file that isn't a record file.
    """
    data = Path(path).read_bytes()
    if not data.startswith(MAGIC[: len(data)]):
        raise ValueError(f"{path}: not a file of game records that this minigo reads")
    records, offset = [], 0
    while offset < len(data):
        try:
            magic, length, crc = _FRAME.unpack_from(data, offset)
            start, end = offset + _FRAME.size, offset + _FRAME.size + length
            if magic == MAGIC and end > len(data):
                raise EOFError
            if magic != MAGIC or zlib.crc32(data[start:end]) != crc:
                raise ValueError("its checksum is wrong")
            record = _DECODER.decode(zlib.decompress(data[start:end]))
            _check(record)
        except (EOFError, struct.error):
            return records, f"{path}: torn at byte {offset}"
        except (ValueError, zlib.error) as error:
            return records, f"{path}: corrupt at byte {offset} ({error})"
        records.append(record)
        offset = end
    return records, None


def _check(record: GameRecord) -> None:
    """Raise ValueError for a game that can't be played or learned from."""
    bounds = {"setup": (EMPTY, WHITE), "result": (-1, 1), "ownership": (-1, 1), "policies": (0, 1)}
    bounds["score"] = (-1361, 1361)  # 19 x 19 points and the largest komi
    bounds["policy_plies"] = (0, len(record.moves) - 1)
    for name, (low, high) in bounds.items():
        if (values := getattr(record, name)) is not None:
            values = np.atleast_1d(values)
            outside = values[~((low <= values) & (values <= high))]  # a NaN is, too
            if len(outside):
                raise ValueError(f"{name} {outside[0]:g} is not between {low} and {high}")
    if (record.policy_plies[1:] <= record.policy_plies[:-1]).any():
        raise ValueError("policy_plies don't ascend")
    record.board(len(record.moves))  # every move is legal


# An array is packed as its type, its shape and its bytes.
_ENCODER = msgspec.msgpack.Encoder(enc_hook=lambda x: (x.dtype.str, x.shape, x.tobytes()))
_DECODER = msgspec.msgpack.Decoder(
    GameRecord, dec_hook=lambda kind, packed: np.frombuffer(packed[2], packed[0]).reshape(packed[1])
)

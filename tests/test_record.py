"""Game records: every field round-trips, and a damaged file costs only what was damaged."""

import dataclasses
import subprocess
import sys
import threading
import zlib

import msgspec
import numpy as np
import pytest

from minigo import record as record_module
from minigo.config import Rules
from minigo.coords import BLACK, WHITE
from minigo.record import GameRecord, RecordWriter, adopt_parts, read_records


def make_record(num_moves: int = 4, **fields) -> GameRecord:
    return GameRecord(5, Rules(), np.arange(num_moves, dtype=np.int16), **fields)


def make_full_record() -> GameRecord:
    setup = np.zeros(25, np.int8)
    setup[[20, 24]] = BLACK, WHITE
    policies = np.zeros((2, 26), np.float16)
    policies[0, 1], policies[1] = 1, 1 / 26
    return make_record(
        to_play=WHITE,
        setup=setup,
        result=-1.0,
        score=-3.5,
        ownership=np.tile(np.array([1, -1, 0, 0, 1], np.int8), 5),
        policy_plies=np.array([1, 3], np.int16),
        policies=policies,
        source="b6c64 ✓",
        black_rank="9p",
        white_rank="2350",
    )


def write_file(path, records) -> None:
    with RecordWriter(path) as writer:
        for record in records:
            writer.write(record)


def assert_same(a: GameRecord, b: GameRecord) -> None:
    for field in dataclasses.fields(GameRecord):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, field.name
            np.testing.assert_array_equal(left, right, field.name)
        else:
            assert left == right and type(left) is type(right), field.name


def test_every_field_comes_back(tmp_path):
    rules = Rules("situational", suicide=False, scoring="territory", komi=-3.5)
    records = [
        make_full_record(),
        make_record(),
        make_record(0, result=0.0, score=0.0),
        dataclasses.replace(make_record(), rules=rules),
        GameRecord(19, Rules("simple", komi=0.0), np.array([360, 361], np.int16), result=1.0),
    ]
    write_file(tmp_path / "a.games", records)
    loaded, problem = read_records(tmp_path / "a.games")
    assert problem is None
    for record, copy in zip(records, loaded, strict=True):
        assert_same(record, copy)


def test_board_replays_setup_and_moves():
    record = make_full_record()
    board = record.board(3)
    assert board.to_play == BLACK and board.last_move == 2 and board.num_moves == 3
    assert board.stones()[0].tolist() == [WHITE, BLACK, WHITE, 0, 0]
    assert board.stones()[4].tolist() == [BLACK, 0, 0, 0, WHITE]
    assert board.rules == record.rules


@pytest.fixture
def two_games(tmp_path):
    """Return the path of a file of two games, what is in it, and where the second one begins."""
    path = tmp_path / "a.games"
    write_file(path, [make_record(), make_full_record()])
    data = path.read_bytes()
    return path, data, data.rindex(b"mGo2")


def test_a_torn_tail_costs_only_the_last_game(two_games):
    path, data, first = two_games
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        records, problem = read_records(path)
        whole = (length >= first) + (length == len(data))
        assert len(records) == whole, length
        torn = f"{path}: torn at byte {first if length > first else 0}"
        assert problem == (None if length in (0, first, len(data)) else torn)


def test_a_flipped_bit_is_found(two_games):
    path, data, first = two_games
    for offset in range(first, len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1
        path.write_bytes(damaged)
        records, problem = read_records(path)
        assert len(records) == 1 and problem.startswith(f"{path}: ")
        assert_same(records[0], make_record())


@pytest.mark.parametrize("data", [b"hello, world", b"PK\x03\x04", b"\0" * 100, b"x"])
def test_another_kind_of_file_is_refused(tmp_path, data):
    path = tmp_path / "a.games"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a.games: not a file of game records"):
        read_records(path)


def test_a_writer_wants_a_file_of_its_own(tmp_path):
    write_file(tmp_path / "a.games", [make_record()])
    with pytest.raises(FileExistsError):
        RecordWriter(tmp_path / "a.games")


def test_what_was_written_survives_sigkill(tmp_path):
    path = tmp_path / "a.games"
    code = """if True:
        import sys, time, numpy as np
        from minigo.record import GameRecord, RecordWriter, Rules
        writer = RecordWriter(sys.argv[1])
        for _ in range(3):
            writer.write(GameRecord(5, Rules(), np.arange(4, dtype=np.int16)))
        print("written", flush=True)
        time.sleep(60)"""
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    process.kill()
    process.communicate()
    assert not path.exists()
    adopt_parts(tmp_path)
    records, problem = read_records(path)
    assert len(records) == 3 and problem is None


def test_a_file_has_its_name_once_it_is_closed(tmp_path):
    with RecordWriter(tmp_path / "a.games") as writer:
        writer.write(make_record())
        assert not list(tmp_path.glob("*.games"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.games"]
    write_file(tmp_path / "b.games", [])  # nothing in it: it isn't kept
    assert [path.name for path in tmp_path.iterdir()] == ["a.games"]


def test_a_part_is_adopted_only_when_its_writer_is_gone(tmp_path):
    adoption = threading.Thread(target=adopt_parts, args=[tmp_path])
    with RecordWriter(tmp_path / "a.games") as writer:
        writer.write(make_record())
        adoption.start()
        adoption.join(0.2)
        assert adoption.is_alive() and not (tmp_path / "a.games").exists()
        writer.write(make_record())
    adoption.join(10)
    assert len(read_records(tmp_path / "a.games")[0]) == 2 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "fields",
    [{"policies": np.zeros((1, 26), np.float16)}, {"setup": np.zeros(9, np.int8)}]
    + [{"policy_plies": np.zeros(1, np.int16), "policies": np.zeros((1, 25), np.float16)}]
    + [{"ownership": np.zeros((5, 5), np.int8)}],
)
def test_arrays_that_do_not_fit_are_refused(fields):
    with pytest.raises(ValueError, match="of shape"):
        make_record(**fields)


def pack(record: GameRecord) -> bytes:
    """Return a game as it is inside its frame, still uncompressed."""
    return record_module._ENCODER.encode(record)


def frame(data: bytes) -> bytes:
    return record_module._FRAME.pack(b"mGo2", len(data), zlib.crc32(data)) + data


def altered(**fields) -> bytes:
    return pack(dataclasses.replace(make_full_record(), **fields))


def changed(**values) -> bytes:
    """Return a game's contents with what no record may have."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(pack(make_full_record())) | values)


CONTENTS = {
    "empty": (b"", "truncated"),
    "text": (b"hello, world", "Expected `object`"),
    "size": (changed(size=77), "Expected `int` <= 19 - at `$.size`"),
    "colour": (changed(to_play=0), "0"),
    "ko": (changed(rules={"ko": "super"}), "`$.rules.ko`"),
    "komi": (changed(rules={"komi": 1e9}), "`$.rules.komi`"),
    "too many moves": (changed(moves=("<i2", [400], b"ab")), "$.moves"),
    "moves of another kind": (changed(moves=("O", [1], b"12345678")), "$.moves"),
    "no moves": (changed(moves=None), "$.moves"),
    "cut": (pack(make_full_record())[:-1], "truncated"),
    "longer": (pack(make_full_record()) + b"?", "trailing"),
    "beyond the board": (altered(moves=np.array([0, 1, 26, 3], np.int16)), "26"),
    "a negative move": (altered(moves=np.array([0, 1, -1, 3], np.int16)), "-1"),
    "an illegal move": (altered(moves=np.array([0, 1, 1, 3], np.int16)), "B5"),
    "set-up": (altered(setup=np.full(25, 3, np.int8)), "setup 3 is not between 0 and 2"),
    "set-up without liberties": (altered(setup=np.ones(25, np.int8)), "libert"),
    "result": (altered(result=2.0), "result 2 is not between -1 and 1"),
    "score": (altered(score=np.inf), "score inf is not between"),
    "owner": (altered(ownership=np.full(25, -2, np.int8)), "ownership -2 is not between -1 and 1"),
    "ply": (altered(policy_plies=np.array([1, 4], np.int16)), "policy_plies 4 is not between 0"),
    "plies": (altered(policy_plies=np.array([3, 1], np.int16)), "policy_plies don't ascend"),
    "policy": (altered(policies=np.full((2, 26), np.nan, np.float16)), "policies nan is not"),
}


@pytest.mark.parametrize(("contents", "reason"), CONTENTS.values(), ids=CONTENTS)
def test_a_frame_of_other_contents_is_corrupt(tmp_path, contents, reason):
    path = tmp_path / "a.games"
    write_file(path, [make_record()])
    whole = path.read_bytes()
    path.write_bytes(whole + frame(zlib.compress(contents)) + whole)
    records, problem = read_records(path)
    assert len(records) == 1 and reason in problem and "\n" not in problem
    assert problem.startswith(f"{path}: corrupt at byte {len(whole)} (")


def test_a_frame_that_is_not_compressed_is_corrupt(tmp_path):
    path = tmp_path / "a.games"
    path.write_bytes(frame(pack(make_record())))
    records, problem = read_records(path)
    assert not records and problem.startswith(f"{path}: corrupt at byte 0 (Error -3")

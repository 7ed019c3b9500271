"""The command line: wrong input is one clear line and status 2, and --json ends with one object."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from minigo import cli
from minigo.cli import main
from minigo.play.gtp import COMMANDS

SGF = "(;FF[4]GM[1]SZ[5]KM[7]RE[B+3];B[cc];W[cd];B[dd];W[dc];B[bc];W[ba])"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Return the paths of good and bad files, by name."""
    folder = tmp_path_factory.mktemp("files")
    texts = {
        "game.sgf": SGF,
        "garbage.sgf": "all work and no play",
        "chess.sgf": "(;FF[4]GM[3]SZ[5];B[cc];W[dd])",
        "garbage.safetensors": "this is no checkpoint" * 99,
        "unknown.toml": "sise = 9",
        "network.toml": 'network = "c3po"',
        "good.toml": "size = 5",
        "broken.toml": "size = ",
        "tiny.toml": "size=5\nnetwork='b1c8'\ncycles=2\ngames_per_cycle=2\nselfplay={workers=1}",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    paths = {name.replace(".", "_"): str(folder / name) for name in texts}
    return paths | {"folder": str(folder), "missing": str(folder / "missing"), "py": sys.executable}


@pytest.fixture(scope="module")
def networks(files, network) -> dict[str, str]:
    """Return the paths of a tiny network and of its first half."""
    half, data = Path(files["folder"], "truncated.safetensors"), Path(network).read_bytes()
    half.write_bytes(data[: len(data) // 2])
    return {"network": network, "truncated": str(half)}


MATCH, RATE = "match {network} {network} --games 2 ", "rate {network} "
IMITATE = "imitate {game_sgf} --out {folder}/a.safetensors "
ANALYZE = "analyze {game_sgf} --checkpoint {network} "
WRONG = [  # what is typed, and what the one line has to name
    *(
        ("", "SUBCOMMAND"),
        ("dance", "dance"),
        ("train", "RECIPE"),
        ("train {missing}", "{missing}"),
    ),
    *(("train {folder}", "{folder}"), ("train {unknown_toml}", "sise")),
    ("train {network_toml} --root {folder}", "c3po"),
    ("train {broken_toml}", "{broken_toml}"),
    ("train {good_toml} --set speed=9", "speed"),
    ("train {good_toml} --start anywhere", "anywhere"),
    ("train {good_toml} --start imitation", "imitation"),
    ("train {good_toml} --root {folder} --set start_from={missing} --start imitation", "{missing}"),
    *(("imitate {game_sgf}", "--out"), (IMITATE + "--size 26", "'26'")),
    *((IMITATE + "--size 9,x", "'9,x'"), (IMITATE + "--net c3po", "c3po")),
    *((IMITATE + "--minutes 0", "'0'"), (IMITATE + "--minutes nan", "'nan'")),
    (IMITATE + "--size 5 --min-rank shodan", "shodan"),
    ("imitate {missing} --out {folder}/a.safetensors --size 5", "{missing}: no such file"),
    ("imitate {garbage_sgf} --out {folder}/a.safetensors --size 5", "{garbage_sgf}"),
    ("imitate {garbage_sgf} --out {folder}/a.safetensors --size 5 --strict", "not SGF"),
    ("imitate {game_sgf} --out {folder} --size 5", "{folder}"),
    ("imitate {game_sgf} --out {missing}/a.safetensors --size 5", "{missing}/a.safetensors"),
    ("export {network} {missing}/a.onnx", "{missing}/a.onnx"),
    ("export {network} {folder}/a.pdf", "{folder}/a.pdf"),
    ("evaluate {missing} {game_sgf} --positions 0", "'0'"),
    ("evaluate {missing} {game_sgf}", "{missing}"),
    ("evaluate {truncated} {game_sgf}", "{truncated}"),
    ("evaluate {network} {missing}", "{missing}"),
    ("evaluate {network} {garbage_sgf}", "{garbage_sgf}"),
    ("match {network} {network}", "--games"),
    ("match {network} {missing} --games 2", "{missing}"),
    ("match {network} no-such-network --games 2", "no-such-network"),
    ("match {network} {network}@99999999999 --games 2", "{network}@99999999999"),
    ("match {network} gtp:no-such-program --games 2", "no-such-program"),
    ("match {network} gtp:{folder} --games 2", "{folder}"),
    *(("match {network} gtp: --games 2", "gtp:"), ("match 9x9 9x9 --games 0", "'0'")),
    *(("match 9x9 9x9 --games 2.5", "'2.5'"), (MATCH + "--size 26", "'26'")),
    *((MATCH + "--time 0", "'0'"), (MATCH + "--time 1 --visits 4", "--time")),
    (MATCH + "--visits -4", "-4"),
    *((MATCH + "--komi much", "'much'"), (MATCH + "--rules ing", "'ing'")),
    (MATCH + "--sgf {game_sgf}", "{game_sgf}"),
    ("rate {network}@0", "1 players"),
    ("rate {network}@0 {missing}@0 --out {folder}/ladder", "{missing}"),
    *((RATE + "--out {game_sgf}", "{game_sgf}"), (RATE + "--visits 0,many", "0,many")),
    *((RATE + "--visits 0,-4", "0,-4"), (RATE + "--games 0", "'0'")),
    *((RATE + "--minutes 0", "'0'"), (RATE + "--sprt -1", "'-1'")),
    *(("gtp --visits -4", "-4"), ("gtp --time never", "'never'"), ("gtp --rules ing", "'ing'")),
    *(("gtp --komi inf", "'inf'"), ("gtp --resign 2", "--resign: '2'"), ("gtp --threads 0", "'0'")),
    *(("gtp --level 10", "--level: '10'"), ("gtp 9x9 19x19", "19x19")),
    ("analyze {missing} --checkpoint {network}", "{missing}"),
    ("analyze {folder} --checkpoint {network}", "{folder}"),
    ("analyze {garbage_sgf} --checkpoint {network}", "{garbage_sgf}"),
    ("analyze {chess_sgf} --checkpoint {network}", "not Go"),
    ("analyze {game_sgf} --checkpoint no-such-network", "no-such-network"),
    *((ANALYZE + "--move 7", "7"), (ANALYZE + "--move 0", "'0'"), (ANALYZE + "--visits -4", "-4")),
    ("analyze {game_sgf} --human {missing}", "{missing}"),
    ("analyze {game_sgf} --sgf {folder}", "{folder}"),
    *(("lessons --minutes -1", "-1"), ("lessons --run {missing}", "{missing}")),
    *(("lessons --size 5", "5x5"), ("bench speed", "speed"), ("info {missing}", "{missing}")),
    *(("info {folder}", "{folder}"), ("info no-such-network", "no-such-network")),
    ("info {garbage_safetensors}", "{garbage_safetensors}"),
]


@pytest.mark.parametrize("typed, named", WRONG)
def test_wrong_input_is_one_line_and_status_2(typed, named, files, networks, capsys):
    status = main(typed.format(**files, **networks).split())
    output, errors = capsys.readouterr()
    lines = [line for line in errors.split("\n") if "minigo: " in line]
    assert status == 2 and output == "" and "Traceback" not in errors
    assert errors.endswith(lines[-1] + "\n") and lines[-1].startswith("minigo: ")
    assert named.format(**files, **networks) in lines[-1] and len(lines) == 1


def last_object(capsys) -> dict:
    return json.loads(capsys.readouterr().out.strip().split("\n")[-1])


def test_match_as_json_and_for_people(network, files, capsys):
    words = f"match {network}@0 {network} --games 2 --size 5 --visits 2".split()
    assert main([*words, "--json", "--sgf", f"{files['folder']}/games"]) == 0
    result = last_object(capsys)
    assert {"games", "wins", "losses", "draws", "elo", "elo_low", "elo_high"} <= set(result)
    assert result["games"] == 2 and result["elo_low"] < result["elo"] < result["elo_high"]
    assert main(words) == 0
    assert "elo_low" in capsys.readouterr().out


def test_analyze(networks, files, capsys):
    words = ["analyze", files["game_sgf"], "--visits", "8"]
    words += ["--checkpoint", networks["network"], "--human", networks["network"]]
    assert main([*words, "--json"]) == 0
    moves = last_object(capsys)["moves"]
    assert [move["vertex"] for move in moves] == ["C3", "C2", "D2", "D3", "B3", "B5"]
    assert [move["number"] for move in moves] == [1, 2, 3, 4, 5, 6]
    for move, after in zip(moves, moves[1:], strict=False):
        assert 1 <= move["human_rank"] <= 26 and 0 < move["human_prior"] < 1
        assert 1 <= move["rank"] <= 26 and 0 < move["prior"] < 1 and 0 <= move["visits"] <= 1
        assert move["value_after"] == -after["value_before"]
    assert main([*words, "--move", "2", "--json"]) == 0
    assert last_object(capsys)["moves"] == moves[1:2]
    assert main(words) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert len(lines) == 8 and "C3" in lines[2] and "%" in lines[2]


def test_evaluate_and_info_json(networks, files, capsys):
    assert main(["evaluate", networks["network"], files["game_sgf"], "--json"]) == 0
    result = last_object(capsys)
    assert {"top1", "top5", "value_mse", "positions"} <= set(result) and result["positions"] == 6
    assert main(["info", networks["network"], "--json"]) == 0
    assert "b1c8" in json.dumps(last_object(capsys))
    assert main(["info", networks["network"]]) == 0
    assert "b1c8" in capsys.readouterr().out


def test_numbers_that_json_does_not_have_become_null(capsys):
    found = {"a": float("nan"), "b": [float("inf"), np.float32(1.5)], "\udcff": {1: None}}
    cli._report(lambda: found, json=True)
    assert last_object(capsys) == {"a": None, "b": [None, 1.5], "\udcff": {"1": None}}


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt(), 130), (ValueError("a\nb"), 2)])
def test_exit_statuses(monkeypatch, capsys, error, status):
    monkeypatch.setattr("minigo.play.shipped.describe", Mock(side_effect=error))
    assert main(["info"]) == status
    assert capsys.readouterr().err == ("minigo: a b\n" if status == 2 else "")


@pytest.mark.parametrize("words", ["--help", "gtp --help", "match --help", "--version"])
def test_help_is_printed_without_torch(words):
    code = (
        "import sys\nfrom minigo.cli import main\ntry: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0 and 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "minigo" in done.stdout
    if words == "gtp --help":
        assert all(re.search(rf"(?m)^  {name} +\S", done.stdout) for name in COMMANDS)


@pytest.mark.parametrize(
    "words, status, output, errors",
    [
        *(("info {network} >&-", 0, "", ""), ("info {network} 2>&-", 0, "file .*", "")),
        ("info {missing} <&- >&-", 2, "", "minigo: {missing}: .*"),
        *(("info {missing} 2>&-", 2, "", ""), ("gtp <&-", 0, "", "")),
        ("gtp 2>&- <<< name", 0, "= minigo\n\n", ""),
        ("train {tiny_toml} --root {folder} --no-match 2>&-", 0, ".*cycle-0002.safetensors\n", ""),
    ],
)
def test_a_stream_may_be_closed(words, status, output, errors, files, networks):
    command = f"{sys.executable} -m minigo {words}".format(**files, **networks)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert re.fullmatch(output, done.stdout, re.DOTALL)
    assert re.fullmatch(errors.format(**files), done.stderr, re.DOTALL)


def test_a_terminal_that_goes_away_ends_nothing():
    code = (
        "import sys; from minigo.machine import secure_streams; secure_streams(); print('there');"
        "sys.stdin.readline(); print('out', flush=True); print('err', file=sys.stderr)"
    )
    outer, inner = pty.openpty()
    streams = {"stdin": subprocess.PIPE, "stdout": inner, "stderr": inner}
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731 - as nohup does
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, start_new_session=True, preexec_fn=ignore, **streams) as program:
        os.close(inner)
        assert os.read(outer, 99).startswith(b"there")
        os.close(outer)
        program.communicate(b"go on\n", timeout=60)
    assert program.returncode == 0


def test_any_text_can_be_printed_and_nobody_has_to_hear_of_errors():
    code = (
        "import sys; from minigo.machine import secure_streams; secure_streams();"
        "print('a\\n' * 99999, file=sys.stderr, flush=True); print('\\xe9\\udcff')"
    )
    command, environment = [sys.executable, "-c", code], os.environ | {"PYTHONIOENCODING": "ascii"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **streams) as program:
        program.stderr.close()
        assert program.stdout.read() == b"\\xe9\\udcff\n" and program.wait(60) == 0


@pytest.mark.parametrize(
    "words, link",
    [
        ("train {good_toml} --root {root}", "checkpoints/good/latest.pt"),
        ("imitate {game_sgf} --out {root}/a.pt --size 5", "a.pt.state"),
    ],
)
def test_a_link_to_a_state_that_is_away_is_an_error_and_stays(words, link, files, tmp_path, capsys):
    path, away = tmp_path / link, tmp_path / "away.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(away)
    assert main(words.format(root=tmp_path, **files).split()) == 2
    assert str(path) in capsys.readouterr().err and path.readlink() == away and not away.exists()


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -OO -m minigo gtp --help"  # without docstrings, too
    done = subprocess.run(f"{command} | head -1", shell=True, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("usage: minigo gtp")

"""The command line: parses, calls, prints; every subcommand's work is in a module of its own.

A subcommand is a function: its docstring is the help, its parameters are arguments and options, of
which `Options` or `PlayConfig` has type, bounds, help, default. With --json stdout's last line is
one JSON object; progress and logs go to stderr. Bad input is one line on stderr and exit status 2.
"""

import argparse
import importlib
import inspect
import json as json_module
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from . import __version__
from .config import RULES, Count, Komi, PlayConfig, Positive, Size, Weight, change, load_recipe
from .machine import format_error, secure_streams

INTERRUPTED, BROKEN_PIPE = 130, 141  # exit statuses: 128 + SIGINT, 128 + SIGPIPE
Found = dict | tuple[dict, str]  # what a subcommand found, with a text for people or as a table


class Options(Struct, kw_only=True):
    """What subcommands may be told, as typed; `train_start` is what `start` means to `train`."""

    recipe: Annotated[str, "a TOML file"]
    set: Annotated[list[str], "KEY=VALUE, in place of the recipe's"] = ()
    root: Annotated[str, "folder of selfplay/ and checkpoints/"] = "."
    no_match: Annotated[bool, "don't measure the last network"] = False
    ray: Annotated[str, "address of a Ray cluster whose nodes play, in place of this one"] = None
    paths: Annotated[list[str], "SGF files, folders, archives"]
    out: Annotated[str, "what to write: a checkpoint, a folder, or a file for others"]
    net: Annotated[str, "blocks and channels of the network; s: symmetric"] = "b6c96s"
    train_start: Annotated[Literal["zero", "imitation"], "without human games or with"] = None
    start: Annotated[str, "begin with a checkpoint trained before, of any board size"] = None
    imitate_size: Annotated[tuple[Size, ...], "9, or 9,19; default: 9"] = (9,)
    min_rank: Annotated[str, "of the weaker player: 3d, 9p, 2350"] = None
    rank: Annotated[str, "what to tell the network of who moves: 5k, 3d, 9p, 2350"] = None
    gtp_rank: Annotated[str, "play as people of 9k, 1d, 9p do, by the network human"] = None
    strict: Annotated[bool, "stop at the first broken game"] = False
    evaluate_checkpoint: Annotated[str, "path or shipped name"]
    export_checkpoint: Annotated[str, "path or shipped name"]
    held_out: Annotated[bool, "of archives that it may have learned from, what it hasn't"] = False
    positions: Annotated[Positive, "at most so many of a board size, a random choice"] = 100_000
    a: Annotated[str, "the player whose result is reported"]
    b: Annotated[str, "its opponent"]
    games: Annotated[Positive, "to play"]
    handicap: Annotated[Count, "stones on the board; then B is Black in every game"] = 0
    at_once: Annotated[Count, "games in flight; default: as many as suit the players"] = 0
    sgf: Annotated[str, "folder to write the games to"] = None
    players: Annotated[list[str], "default: the networks that ship for the size, and GNU Go"] = ()
    rate_visits: Annotated[tuple[Count, ...], "of each network; default: 0,16,64,256,1024"] = None
    sprt: Annotated[Weight, "Elo that neighbours are told apart by, to stop early; 0: never"] = 50.0
    workers: Annotated[Count, "processes; default: one per core"] = 0
    game: Annotated[str, "an SGF file"]
    human: Annotated[str, "network of human games; default: human"] = None
    move: Annotated[Positive, "only this one, from 1"] = None
    analyze_sgf: Annotated[str, "write the game there, with what was found, for Sabaki"] = None
    surprises: Annotated[bool, "only moves that people would hardly play, and blunders"] = False
    quick: Annotated[bool, "within ten minutes on two cores"] = False
    run: Annotated[list[str], "folder of a run's networks, checkpoints/RECIPE, to compare"] = ()
    play_run: Annotated[str, "folder of a run's networks, checkpoints/RECIPE, to watch"] = None
    port: Annotated[Annotated[int, Meta(ge=1, le=65535)], "of the page's address"] = 8361
    track: Annotated[Literal["imitation", "zero"], "what to learn from"]
    race_paths: Annotated[list[str], "imitation: archives of games"] = ()
    folder: Annotated[str, "of the race"] = "race"
    budget: Annotated[str, "minutes=M, or evaluations=E,samples=S; default: the track's"] = ""
    seeds: Annotated[Annotated[int, Meta(ge=2)], "drawn by the judge, a core each"] = 2
    note: Annotated[str, "one line: what is tried"] = ""
    loop: Annotated[str, "command that changes the attempt"] = None
    attempts: Annotated[Positive, "of the loop"] = 1000
    sections: Annotated[list[str], "default: all"] = ()
    compile: Annotated[bool, "train: measure torch.compile, too; it takes minutes"] = False
    info_checkpoint: Annotated[str, "or a run's folder; default: those that ship"] = None
    lessons_minutes: Annotated[Weight, "default: 7.5 if quick, else 2 a player; 0: none"] = None
    minutes: Annotated[float, Meta(gt=0, le=1e9), "training: in all; a ladder: this sitting"] = None
    size: Annotated[Size, "of the board"] = 9
    rules: Annotated[Literal[tuple(RULES)], "of the game"] = "tromp-taylor"
    gtp_rules: Annotated[Literal[tuple(RULES)], "default: tromp-taylor, without suicide"] = None
    komi: Annotated[Komi, "points for White"] = RULES["tromp-taylor"].komi
    seed: Annotated[Count, "of random choices"] = 1
    gtp_seed: Annotated[Count, "of people's moves; default: others in each session"] = None
    json: Annotated[bool, "end with one JSON object on stdout"] = False


_FIELDS = {f.name.removesuffix("_s"): f for kind in (PlayConfig, Options) for f in fields(kind)}


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    if argv is None:
        secure_streams()
    words = sys.argv[1:] if argv is None else argv
    try:
        options = vars(build_parser(words[:1]).parse_args(words))
        options.pop("command")(**options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit is quiet, too
        return BROKEN_PIPE
    except (ValueError, OSError, ImportError) as error:
        print(f"minigo: {format_error(error)}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise ValueError(message)  # instead of its usage and exit


def build_parser(words: list[str] = ()) -> argparse.ArgumentParser:
    """Return the parser; the help of the subcommand that `words` begin with is complete."""
    parser = _Parser("minigo", description="A small Go engine that is AlphaGo and AlphaZero.")
    parser.add_argument("--version", action="version", version=f"minigo {__version__}")
    commands = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    for command in COMMANDS:
        name, signature = command.__name__[1:], inspect.signature(command)
        summary, _, epilog = (inspect.getdoc(command) or "").partition("\n\n")  # -OO: none
        subparser = commands.add_parser(name, help=summary, description=summary)
        subparser.formatter_class = argparse.RawDescriptionHelpFormatter
        if name in words and (wing := {"gtp": "play", "bench": "lab"}.get(name)):
            epilog = importlib.import_module(f"minigo.{wing}.{name}").DESCRIPTION
        subparser.epilog = epilog
        for parameter in signature.parameters.values():
            _add_argument(subparser, name, parameter)
        subparser.set_defaults(command=command)
        if signature.return_annotation is Found:
            _add_argument(subparser, name, inspect.signature(_report).parameters["json"])
            subparser.set_defaults(command=partial(_report, command))
    return parser


def _add_argument(parser: _Parser, command: str, parameter: inspect.Parameter) -> None:
    """Add an option for a keyword-only parameter, or an argument; its own default goes first."""
    name, is_option = parameter.name, parameter.kind is parameter.KEYWORD_ONLY
    field = _FIELDS.get(f"{command}_{name}") or _FIELDS[name]
    default = field.default if parameter.default is parameter.empty else parameter.default
    kind, *_, text = get_args(field.type)
    is_list, is_required = get_origin(kind) is list, default is msgspec.NODEFAULT
    if default and not (is_list or is_required or "default" in text):
        text += "; default: %(default)s"
    how = {"help": text, "default": default}
    if kind is bool:
        how["action"] = "store_true"
    elif is_list and is_option:
        how |= {"action": "append", "default": list(default)}
    elif get_origin(kind) is Literal:
        how["choices"] = get_args(kind)
    elif not is_list:
        how["type"] = partial(_read, field.type)
    if is_option:
        parser.add_argument(f"--{name.replace('_', '-')}", required=is_required, **how)
    else:
        one, many = (None, "+") if is_required else ("?", "*")
        parser.add_argument(name, metavar=name.upper(), nargs=many if is_list else one, **how)


def _read(kind: type, text: str) -> object:
    """Convert a word, or the words between commas that a tuple is of, within the bounds."""
    try:
        is_tuple = get_origin(get_args(kind)[0]) is tuple
        return msgspec.convert(text.split(",") if is_tuple else text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {str(error).partition(', got')[0]}") from None


def _report(command: Callable[..., Found], *, json: bool, **options) -> None:
    """Print what a subcommand found: as one line of JSON, or as its text or a table."""
    found = command(**options)
    values, text = found if isinstance(found, tuple) else (found, None)
    if json:  # which has null for a number that isn't finite
        text = json_module.dumps(values, default=float)
        text = json_module.dumps(json_module.loads(text, parse_constant=lambda name: None))
    print("\n".join(_rows(values)) if text is None else text)


def _rows(values: dict, indent: str = "") -> Iterator[str]:
    width = max((len(str(key)) for key in values), default=0)
    for key, value in values.items():
        if isinstance(value, dict):
            yield from (f"{indent}{key}", *_rows(value, indent + "  "))
        else:
            text = f"{value:.4g}" if type(value) is float else value
            yield f"{indent}{key:{width}}  {text}"


def _train(recipe, *, start, set, root, no_match, ray) -> Found:
    """Run a recipe; the same command again resumes it; torchrun makes it use several cards."""
    name = Path(recipe).stem + (f"-{start}" if start else "")  # a recipe's two runs, side by side
    recipe = load_recipe(recipe, [f'start="{start}"'] * bool(start) + set)
    from .distributed import joined
    from .lab.progress import follow, format_rows, measure
    from .loop import run

    with joined(recipe) as (recipe, rank):
        if rank:
            run(recipe, f"{name}/rank-{rank}", Path(root))
            sys.exit()
        if ray:
            from .nodes import Cluster

            run = partial(run, players=partial(Cluster, ray))
        with follow(recipe, Path(root, "checkpoints", name)) as after_cycle:
            network = run(recipe, name, Path(root), after_cycle)
    rows = [] if no_match else measure(recipe, network.parent, network)
    program = Path(sys.executable).with_name("minigo")
    text = f"The engine for Sabaki: {program} gtp {network.resolve()}"
    text = f"{format_rows(rows)}\n{text}" if rows else text
    return {"network": str(network), "matches": rows}, text


def _imitate(paths, *, out, net, start, minutes=10, min_rank, strict, size, seed, device) -> Found:
    """Train a network on human games; the same command again resumes it."""
    from .imitation import imitate

    games = {"size": size, "min_rank": min_rank, "strict": strict}
    how = {"network": net, "start": start, "minutes": minutes, "seed": seed, "device": device}
    return imitate(paths, out=out, **games, **how)


def _evaluate(checkpoint, paths, *, held_out, positions, size=None, rank, device) -> Found:
    """Measure how well a network predicts games."""
    from .lab.accuracy import evaluate

    limits = {"held_out": held_out, "max_positions": positions, "size": size, "rank": rank}
    return evaluate(checkpoint, paths, device=device, **limits)


def _match(
    a, b, *, games, visits=None, time, sgf, handicap, at_once, size, rules, komi, seed, threads,
    device, ray,
) -> Found:  # fmt: skip
    """Play a match and report the Elo difference.

    A player is CHECKPOINT (path or shipped name), CHECKPOINT@VISITS or gtp:COMMAND. Without
    --visits and --time a network searches 64 visits per move; 0 is its bare policy.
    """
    from .play.match import MatchConfig, match, parse_player

    if time and visits is not None:
        raise ValueError("--time: not allowed with --visits")
    players = [parse_player(text, 64 if visits is None else visits, time) for text in (a, b)]
    rules = change(RULES[rules], komi=komi)
    config = MatchConfig(size, rules, seed, device, threads, sgf, handicap, at_once)
    return match(*players, games, config, ray)


def _rate(
    players, *, out="ladder", visits, games=1000, minutes, sprt, workers, size, komi, ray
) -> Found:
    """Put players on an Elo ladder; the same command again goes on.

    A player is CHECKPOINT (with each of the visits), CHECKPOINT@VISITS, gnugo (three levels) or
    gtp:COMMAND. GNU Go level 10 is 0 Elo; without it, the first player.
    """
    from .lab.ladder import VISITS, format_ladder, list_players, rate
    from .play.match import MatchConfig

    players = list_players(players, visits or VISITS, size)
    config = MatchConfig(size, change(RULES["tromp-taylor"], komi=komi))
    limits = {"max_games": games, "minutes": minutes or math.inf, "sprt_elo": sprt}
    report = rate(players, out, config, workers=workers, ray=ray, **limits)
    return report, format_ladder(report)


def _gtp(
    checkpoint, *, visits, level, rank, ponder, resign, seed, time, rules, komi, threads, device
) -> None:
    """Speak GTP, for Sabaki and others; with 200 visits per move, or as time allows."""
    from .play.gtp import run

    if checkpoint:
        from .checkpoint import find_checkpoint

        find_checkpoint(checkpoint)  # a wrong name is told now, not at the first move
    play = PlayConfig(checkpoint, visits, time, level, rank, resign, ponder, device, threads, seed)
    rules = RULES[rules] if rules else change(RULES["tromp-taylor"], suicide=False)
    run(play, change(rules, komi=komi))


def _play(*, run, port) -> None:
    """Play in the browser, see networks think, watch a run."""
    from .lab.page import serve

    serve(run, port)


def _analyze(game, *, checkpoint, human, move, visits=64, surprises, sgf, threads, device) -> Found:
    """Look at the moves of a game with a network."""
    from .lab.analyze import analyze, format_table

    report = analyze(game, checkpoint, human, move, visits, sgf=sgf, threads=threads, device=device)
    return report, format_table(report, surprises)


def _lessons(*, out="lessons", quick, minutes, run, workers, size) -> Found:
    """Measure the three lessons, and make a page of them."""
    from .lab.lessons import format_lessons, lessons

    report = lessons(out, quick=quick, minutes=minutes, size=size, runs=run, workers=workers)
    page = Path(out, "lessons.html").resolve()
    return report, f"{format_lessons(report)}\nThe page: {page}"


def _race(track, paths, *, folder, budget, seeds, note, loop, attempts) -> Found:
    """Run an attempt of the training race, and judge it; the rules are in race/program.md.

    zero learns from nothing, imitation from the archives named. --loop hands the folder to a
    program that changes attempt.py, again and again, and keeps what the judge calls better.
    """
    if not Path(folder, "judge.py").is_file():
        raise ValueError(f"{folder} has no judge.py: run it in the folder above minigo's race/")
    sys.path.insert(0, str(Path(folder).resolve()))
    import judge

    how = {"track": track, "paths": paths, "budget": budget, "num_seeds": seeds}
    found = judge.repeat(loop, attempts, **how) if loop else judge.race(**how, note=note)
    return found, judge.format_block(found)


def _bench(sections, *, compile, device) -> Found:
    """Measure speeds."""
    from .lab.bench import run

    return run(sections, compile, device), ""


def _export(checkpoint, out, *, size) -> None:
    """Write a network for other programs: OUT.onnx, or OUT.xml, OpenVINO's own form."""
    from .checkpoint import load_checkpoint, load_network
    from .export import export

    export(load_network(load_checkpoint(checkpoint)), Path(out), size)


def _info(checkpoint) -> Found:
    """Say what a checkpoint is and how it was made."""
    from .lab.progress import describe_run
    from .play.shipped import describe

    is_run = checkpoint and Path(checkpoint).is_dir()
    return describe_run(checkpoint) if is_run else describe(checkpoint)


COMMANDS = (_train, _imitate, _evaluate, _match, _rate, _gtp, _play, _analyze, _lessons, _race)
COMMANDS += (_bench, _export, _info)

"""The command line: parses, calls, prints; every subcommand's work is in a module of its own.

With --json the last line of stdout is one JSON object; progress and logs go to stderr. Bad input is
one line on stderr and exit status 2.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

from . import __version__
from .config import RULES, PlayConfig, Rules, change, check, load_recipe
from .coords import check_size
from .machine import format_error

INTERRUPTED, BROKEN_PIPE = 130, 141  # exit statuses: 128 + SIGINT, 128 + SIGPIPE
SECTIONS = ("board", "tree", "net", "selfplay", "train", "run", "gtp")  # of `bench`
LEVEL_HELP = "weaker, with moves that people play: 1 for beginners; default: as strong as it can"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    try:
        options = vars(build_parser(words[:1]).parse_args(words))
        options.pop("run")(**options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the flush at exit is quiet, too
        return BROKEN_PIPE
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"minigo: {format_error(error)}", file=sys.stderr)
        return 2
    return 0


def _refuse(message: str) -> None:
    raise ValueError(message)  # instead of argparse's usage and exit


def _print(values: dict, json: bool, text: str | None = None) -> None:
    """Print what came out: as one line of JSON, or as `text` or a table of the values."""
    print(_format_json(values) if json else "\n".join(_rows(values)) if text is None else text)


def _format_json(values) -> str:
    """Write strict JSON: a number that isn't finite is null."""

    def clean(value):
        if isinstance(value, dict):
            return {str(key): clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [clean(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(values))


def _rows(values: dict, indent: str = "") -> list[str]:
    rows, width = [], max((len(str(key)) for key in values), default=0)
    for key, value in values.items():
        if isinstance(value, dict):
            rows += [f"{indent}{key}", *_rows(value, indent + "  ")]
        else:
            rows.append(
                f"{indent}{key:{width}}  {f'{value:.4g}' if type(value) is float else value}"
            )
    return rows


# ---- types of values: argparse shows the message of an ArgumentTypeError ----


def _number(kind: type, low: float, is_open: bool = False):
    """Return an argparse type: a finite number of at least `low`, or above it."""

    def parse(text: str):
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not low <= number < math.inf or (is_open and number == low):
            name = "a whole number" if kind is int else "a number"
            bound = f"above {low:g}" if is_open else f"of at least {low:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is not {name} {bound}")
        return number

    return parse


def _checked(parse, what: str):
    """Return an argparse type: what `parse` makes of a text, unless it raises ValueError."""

    def checked(text: str):
        try:
            return parse(text)
        except (ValueError, OverflowError, argparse.ArgumentTypeError):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None

    return checked


_parse_size = _checked(lambda text: check_size(int(text)), "a board size from 2 to 19")


def _parse_sizes(text: str) -> tuple[int, ...]:
    return tuple(map(_parse_size, text.split(",")))


_SHARED = {  # options that several subcommands have
    "--size": {"type": _parse_size, "default": 9, "help": "of the board; default: %(default)s"},
    "--rules": {
        "choices": tuple(RULES),
        "default": "tromp-taylor",
        "help": f"{', '.join(RULES)}; default: %(default)s",
        "metavar": "R",
    },
    "--komi": {
        "type": _checked(
            lambda text: change(Rules(), komi=float(text)).komi, "a whole or half number"
        ),
        "default": Rules().komi,
        "help": "points for White; default: %(default)g",
    },
    "--time": {"type": _number(float, 0, True), "metavar": "S", "help": "seconds per move"},
    "--seed": {"type": _number(int, 0), "default": 1, "help": "default: %(default)s"},
    "--threads": {"type": _number(int, 1), "default": 1, "help": "default: %(default)s"},
    "--device": {"choices": ("auto", "cpu", "cuda"), "default": "auto", "help": "default: auto"},
    "--json": {"action": "store_true", "help": "end with one JSON object on stdout"},
}


def _share(parser, *names: str) -> None:
    for name in names:
        parser.add_argument(name, **_SHARED[name])


# ---- subcommands: the options of each, and the call that it is ----


def build_parser(words: list[str] = ()) -> argparse.ArgumentParser:
    """Return the parser; the help of the subcommand that `words` begin with is complete."""
    description = "A small Go engine that really is AlphaGo and AlphaZero."
    parser = argparse.ArgumentParser("minigo", description=description)
    parser.error = _refuse
    parser.add_argument("--version", action="version", version=f"minigo {__version__}")
    commands = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    for add, run, summary in (
        (_add_train, _train, "run a recipe; the same command again resumes it"),
        (
            _add_imitate,
            _imitate,
            "train a network on human games; the same command again resumes it",
        ),
        (_add_evaluate, _evaluate, "measure how well a network predicts games"),
        (_add_match, _match, "play a match and report the Elo difference"),
        (_add_rate, _rate, "put players on an Elo ladder; the same command again goes on"),
        (_add_gtp, _gtp, "speak GTP, for Sabaki and others"),
        (_add_analyze, _analyze, "look at the moves of a game with a network"),
        (_add_lessons, _lessons, "measure the three lessons, and make a page of them"),
        (_add_bench, _bench, "measure speeds"),
        (_add_info, _info, "say what a checkpoint is and how it was made"),
    ):
        name = run.__name__[1:]
        subparser = commands.add_parser(name, help=summary, description=summary)
        subparser.error = _refuse
        subparser.set_defaults(run=run)
        add(subparser)
        if name in ("gtp", "bench") and name in words:
            subparser.epilog = _describe(name)
            subparser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _add_train(parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE.toml")
    parser.add_argument(
        "--start", choices=("zero", "imitation"), help="without or with human games; names the run"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--root", default=".", help="folder of selfplay/ and checkpoints/")
    parser.add_argument("--no-match", action="store_true", help="don't measure the last network")
    _share(parser, "--json")


def _train(recipe, start, overrides, root, no_match, json) -> None:
    name = Path(recipe).stem + (f"-{start}" if start else "")  # a recipe's two runs, side by side
    recipe = load_recipe(recipe, [f'start="{start}"'] * bool(start) + overrides)
    from .lab.progress import follow, format_rows, measure
    from .loop import run

    with follow(recipe, Path(root, "checkpoints", name)) as after_cycle:
        network = run(recipe, name, Path(root), after_cycle)
    rows = [] if no_match else measure(recipe, network.parent, network)
    program = Path(sys.executable).with_name("minigo")
    text = f"The engine for Sabaki: {program} gtp {network.resolve()}"
    text = f"{format_rows(rows)}\n{text}" if rows else text
    _print({"network": str(network), "matches": rows}, json, text)


def _add_imitate(parser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="SGF files, folders, archives")
    parser.add_argument("--out", required=True, metavar="FILE", help="the checkpoint to write")
    parser.add_argument("--net", default="b6c96", dest="network", help="default: %(default)s")
    text = "begin with a network that was trained before, of any board size"
    parser.add_argument("--start", metavar="CHECKPOINT", help=text)
    parser.add_argument("--minutes", type=_number(float, 0, True), default=10.0, help="default: 10")
    parser.add_argument("--min-rank", metavar="RANK", help="of the weaker player: 3d, 9p, 2350")
    parser.add_argument("--strict", action="store_true", help="stop at the first broken game")
    parser.add_argument("--size", type=_parse_sizes, default=(9,), help="9, or 9,19; default: 9")
    _share(parser, "--seed", "--device", "--json")


def _imitate(json, **options) -> None:
    from .imitation import imitate

    _print(imitate(**options), json)


def _add_evaluate(parser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="SGF files, folders, archives")
    text = "of archives that it learned from, or may have, only the games that were left out"
    parser.add_argument("--held-out", action="store_true", help=text)
    text = "at most so many of a board size, a random choice; default: %(default)s"
    parser.add_argument(
        "--positions",
        type=_number(int, 1),
        dest="max_positions",
        metavar="N",
        default=100_000,
        help=text,
    )
    _share(parser, "--size", "--device", "--json")
    parser.set_defaults(size=None)


def _evaluate(json, **options) -> None:
    from .lab.accuracy import evaluate

    _print(evaluate(**options), json)


def _add_match(parser) -> None:
    parser.epilog = (
        "A player is CHECKPOINT (path or shipped name), CHECKPOINT@VISITS or gtp:COMMAND."
    )
    parser.add_argument("a", metavar="A", help="the player whose result is reported")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--games", type=_number(int, 1), required=True, metavar="N")
    limits = parser.add_mutually_exclusive_group()
    text = "per move of a network, 0: its bare policy; default: %(default)s"
    limits.add_argument("--visits", type=_number(int, 0), default=64, metavar="V", help=text)
    _share(limits, "--time")
    parser.add_argument("--sgf", metavar="DIR", help="write the games there")
    parser.add_argument("--at-once", type=_number(int, 1), default=0, metavar="N", help="games")
    _share(parser, "--size", "--rules", "--komi", "--seed", "--threads", "--device", "--json")


def _match(a, b, games, visits, time, rules, komi, at_once, json, **options) -> None:
    from .play.match import MatchConfig, match, parse_player

    players = [parse_player(text, visits, time) for text in (a, b)]
    rules = change(RULES[rules], komi=komi)
    config = MatchConfig(rules=rules, games_at_once=at_once, **options)
    _print(match(*players, games, config), json)


def _add_rate(parser) -> None:
    parser.epilog = (
        "A player is CHECKPOINT (with each of the visits), CHECKPOINT@VISITS, gnugo (three levels) "
        "or gtp:COMMAND. GNU Go level 10 is 0 Elo; without it, the first player."
    )
    text = "default: the networks that ship for the board size, and GNU Go where it is installed"
    parser.add_argument("players", nargs="*", metavar="PLAYER", help=text)
    parser.add_argument("--out", default="ladder", metavar="DIR", help="default: %(default)s")
    visits = _checked(_parse_counts, "numbers such as 0,16,64")
    text = "of each network; default: 0,16,64,256,1024"
    parser.add_argument("--visits", type=visits, metavar="V,V", help=text)
    text = "in the folder, all sittings together; default: %(default)s"
    parser.add_argument("--games", type=_number(int, 1), default=1000, metavar="N", help=text)
    parser.add_argument("--minutes", type=_number(float, 0, True), help="of this sitting")
    text = "stop once it is known of all neighbours who is stronger, by a sequential test of plus "
    text += "against minus so many Elo; 0: never; default: %(default)g"
    parser.add_argument("--sprt", type=_number(float, 0), default=50.0, metavar="ELO", help=text)
    parser.add_argument("--workers", type=_number(int, 1), default=0, help="default: one per core")
    _share(parser, "--size", "--komi", "--json")


def _parse_counts(text: str) -> list[int]:
    return [_number(int, 0)(count) for count in text.split(",")]


def _rate(players, out, visits, games, minutes, sprt, workers, size, komi, json) -> None:
    from .lab.ladder import VISITS, format_ladder, list_players, rate
    from .play.match import MatchConfig

    players = list_players(players, visits or VISITS, size)
    limits = {"max_games": games, "minutes": minutes or math.inf, "sprt_elo": sprt}
    config = MatchConfig(size=size, rules=Rules(komi=komi))
    report = rate(players, out, config, workers=workers, **limits)
    _print(report, json, format_ladder(report))


def _add_gtp(parser) -> None:
    parser.add_argument("checkpoint", nargs="?", default="9x9", help="default: %(default)s")
    text = "per move at most; default: 200, or as time allows"
    parser.add_argument("--visits", type=_number(int, 0), metavar="V", help=text)
    parser.add_argument("--level", type=_number(int, 0), default=0, metavar="1-9", help=LEVEL_HELP)
    text = "think on the opponent's time, too"
    parser.add_argument("--ponder", action="store_true", help=text)
    text = "chance of winning below which it resigns; 0: never; default: %(default)s"
    parser.add_argument("--resign", type=float, default=0.02, metavar="P", help=text)
    text = "of a level's moves; default: others each time"
    parser.add_argument("--seed", type=_number(int, 0), help=text)
    _share(parser, "--time", "--rules", "--komi", "--threads", "--device")


def _describe(name: str) -> str:
    """Return the end of a subcommand's help that its own module knows."""
    if name == "gtp":
        from .play.gtp import describe_commands

        return f"commands:\n{describe_commands()}"
    from .lab.bench import DESCRIPTION

    return DESCRIPTION


def _gtp(rules, komi, time, **options) -> None:
    from .play.gtp import run

    run(check(PlayConfig, {"time_s": time, **options}), change(RULES[rules], komi=komi))


def _add_analyze(parser) -> None:
    parser.add_argument("game", metavar="GAME.sgf")
    text = "the network that searches; default: the one that ships for the size, else 9x9"
    parser.add_argument("--checkpoint", help=text)
    text = "the network of human games; default: the one that ships for the size, else 9x9-human"
    parser.add_argument("--human", metavar="CHECKPOINT", help=text)
    parser.add_argument("--move", type=_number(int, 1), metavar="K", help="only this one, from 1")
    parser.add_argument("--visits", type=_number(int, 1), default=64, help="default: %(default)s")
    text = "only moves that people would hardly play and the search prefers, and blunders"
    parser.add_argument("--surprises", action="store_true", help=text)
    text = "write the game there, with comments and a graph of win rates for Sabaki"
    parser.add_argument("--sgf", metavar="FILE", help=text)
    _share(parser, "--threads", "--device", "--json")


def _analyze(game, checkpoint, human, move, visits, surprises, json, **options) -> None:
    from .lab.analyze import analyze, format_table

    report = analyze(game, checkpoint, human, move, visits, **options)
    _print(report, json, format_table(report, surprises))


def _add_lessons(parser) -> None:
    parser.add_argument("--out", default="lessons", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="within ten minutes on two cores")
    text = "of games, in this sitting; 0: only the page, from the games that are there; "
    text += "default: 7.5 if quick, else 2 for each player"
    parser.add_argument("--minutes", type=_number(float, 0), help=text)
    text = "a run's folder of networks, checkpoints/RECIPE, for strength against training time"
    parser.add_argument("--run", action="append", default=[], metavar="DIR", dest="runs", help=text)
    parser.add_argument("--workers", type=_number(int, 1), default=0, help="default: one per core")
    _share(parser, "--size", "--json")


def _lessons(json, out, **options) -> None:
    from .lab.lessons import format_lessons, lessons

    report = lessons(out, **options)
    _print(
        report, json, f"{format_lessons(report)}\nThe page: {Path(out, 'lessons.html').resolve()}"
    )


def _add_bench(parser) -> None:
    section = _checked(lambda text: SECTIONS[SECTIONS.index(text)], f"one of {', '.join(SECTIONS)}")
    parser.add_argument("sections", nargs="*", type=section, metavar="SECTION", help="default: all")
    text = "train: measure torch.compile, too; it takes minutes to compile"
    parser.add_argument("--compile", action="store_true", help=text)
    _share(parser, "--json")


def _bench(sections, json, compile) -> None:
    from .lab.bench import run

    run(sections, json, compile)


def _add_info(parser) -> None:
    text = "or the folder of a run's networks; default: the networks that ship with minigo"
    parser.add_argument("checkpoint", nargs="?", help=text)
    _share(parser, "--json")


def _info(checkpoint, json) -> None:
    if checkpoint and Path(checkpoint).is_dir():
        from .lab.progress import describe_run

        values, text = describe_run(checkpoint)
        return _print(values, json, text)
    from .checkpoint import describe

    _print(describe(checkpoint), json)

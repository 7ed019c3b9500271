"""What a recipe, a game and a player may set, typed, with bounds and sources; recipes in TOML.

Numbers that no recipe sets stand beside their formula instead. `check` refuses an unknown key, a
wrong type and a value out of range by a ValueError that names it.
"""

from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from .coords import MAX_SIZE, MIN_SIZE

Count = Annotated[int, Meta(ge=0, le=1 << 62)]
Positive = Annotated[int, Meta(ge=1, le=1 << 62)]
Visits = Annotated[int, Meta(ge=0, le=1 << 30)]  # of a search, which counts in 32 bits
Size = Annotated[int, Meta(ge=MIN_SIZE, le=MAX_SIZE)]
Share = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0, le=1e30)]
Device = Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]  # cuda:1 is the second card
Komi = Annotated[float, Meta(ge=-1000, le=1000)]

Config = TypeVar("Config", bound=Struct)


class Rules(Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of one game; the default is Tromp-Taylor."""

    ko: Literal["simple", "positional", "situational"] = "positional"  # the latter two: superko
    suicide: bool = True  # may a move take its own chain off the board?
    scoring: Literal["area", "territory"] = "area"  # territory: only for the count of a GTP game
    komi: Komi = 7.0  # points for White; 7 is the fair value of 9x9 under area scoring
    friendly_pass: bool = False  # of a GTP game: do dead stones come off without a capture?
    handicap_bonus: Literal["0", "N-1", "N"] = "0"  # of a GTP game: White's, for N stones


# As KataGo names them: https://lightvector.github.io/KataGo/rules.html
RULES = {
    "tromp-taylor": Rules("positional", True),
    "chinese": Rules("simple", False, friendly_pass=True, handicap_bonus="N"),
    "chinese-ogs": Rules("positional", False, friendly_pass=True, handicap_bonus="N"),
    "aga": Rules("situational", False, friendly_pass=True, handicap_bonus="N-1"),
    "new-zealand": Rules("situational", True, friendly_pass=True),
    "japanese": Rules("simple", False, "territory"),
}
RULES |= {"chinese-kgs": RULES["chinese-ogs"], "korean": RULES["japanese"]}
RULES |= {"bga": RULES["aga"], "french": RULES["aga"]}


def handicap_moves(size: int, number: int, is_free: bool = False) -> list[int]:
    """Return where the stones of a fixed handicap lie (GTP 2, 4.1.1), or raise ValueError.

    Of a free one there may be fewer: as many as there are places.
    """
    most = 0 if size < 7 else 4 if size == 7 or size % 2 == 0 else 9
    if is_free and 0 < most < number < size * size:
        number = most
    if not 2 <= number <= most:
        raise ValueError(f"invalid number of stones {number}")
    low = 3 if size >= 13 else 2
    high, middle = size - 1 - low, size // 2
    points = [(high, low), (low, high), (low, low), (high, high)]  # row from the top, column
    points += [(middle, low), (middle, high), (low, middle), (high, middle)]
    if number > 4 and number % 2:
        points.insert(number - 1, (middle, middle))
    return [row * size + column for row, column in points[:number]]


class SearchConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How a position is searched; the constants of the formulas are in `_tree.pyx`."""

    root: Literal["puct", "gumbel"] = "puct"  # AlphaZero's, or that of Danihelka et al. 2022
    simulations: Visits = 64  # added per move, whatever visits the tree kept from earlier ones
    leaves: Positive = 1  # evaluated at once inside one tree, kept apart by virtual loss
    num_considered: Annotated[int, Meta(ge=2, le=1 << 30)] = 16  # moves that halving starts from
    score_utility: Share = 0.1  # share of utility that is points, not winning (KataGo's is dynamic)


class SelfplayConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How the games that train the network are played."""

    # Processes, each pinned to a core, that make room for the learner; 0: one per core, with a GPU
    # two less; 1: none, the learner plays itself, in turn with learning: a run repeats exactly.
    workers: Count = 0
    games_at_once: Positive = 64  # of a worker, a leaf of each in a batch; with a GPU twice that
    # Of a full search at the end of the run, growing linearly from search.simulations (progressive
    # simulation, Wu et al. 2024); 0: it doesn't grow.
    simulations_end: Visits = 0
    # Share of moves with a full search, which become data (KataGo, 3.1), and simulations of the
    # others; 0: every move gets the full one. On 9x9 others cost 95 Elo (selfplay/LOG.md).
    full_frac: Annotated[float, Meta(ge=0.01, le=1)] = 0.25
    cheap_simulations: Visits = 0
    # First moves drawn from the raw policy: exponential's mean, rounded down (KataGo, Appendix D)
    opening_moves: Weight = 4.0
    halflife: Annotated[float, Meta(ge=0.01)] = 9.0  # of the temperature, in moves: N (KataGo: 19)
    max_moves_per_point: Annotated[float, Meta(ge=0.01)] = 1.75  # a game is counted at that * N * N


class TrainConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Losses and schedule of training; what no recipe sets is in `train.py`."""

    batch_size: Positive = 128  # positions; with Muon better than 256 (selfplay/LOG.md)
    learning_rate: Weight = 0.008  # at the start, after warm-up
    reply_weight: Weight = 0.15  # opponent's reply (KataGo, 3.4); the policy's is 1
    value_weight: Weight = 1.5
    ownership_weight: Weight = 1.5  # mean over points
    score_weight: Weight = 0.02  # Huber loss in points
    compile: bool = False  # torch.compile it: needs a C++ compiler; pays in bfloat16


class PlayConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How `minigo gtp` plays, with the help for its options (`cli.py`)."""

    checkpoint: Annotated[str | None, "path or shipped name; default: by board size"] = None
    visits: Annotated[Visits | None, "per move at most"] = None
    time_s: Annotated[Annotated[float, Meta(ge=0.01, le=1e6)] | None, "seconds per move"] = None
    level: Annotated[int, Meta(ge=0, le=9), "1 to 9: like a person, visits too; 0: its best"] = 0
    rank: str | None = None  # of the people that it plays like
    resign: Annotated[float, Meta(ge=0, lt=1), "chance below which it resigns; 0: never"] = 0.02
    ponder: Annotated[bool, "think while the opponent does"] = False
    device: Annotated[Device, "of the networks"] = "auto"
    threads: Annotated[int, Meta(ge=1, le=256), "of each network"] = 1
    seed: Count | None = None  # of people's moves; None: others in each session


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """One run: `minigo train RECIPE` does what it says, from `start` to `minutes`."""

    size: Size = 9
    # Of several board sizes, each with its share of the playing time; (): all is for `size`.
    shares: tuple[tuple[Size, Weight], ...] = ()
    first_size: Size | None = None  # smaller board that a run from zero begins on: games are short
    first_games: Count = 1_500  # so many of its games
    start: Literal["zero", "imitation"] = "zero"  # random weights, or those of `start_from`
    start_from: str = ""  # checkpoint that start = "imitation" begins with, whoever taught it
    network: str = "b6c64"  # of a run from zero; one from imitation has that of `start_from`
    grow_to: str = ""  # larger network that takes its place during the run; "": none
    grow_games: Count = 20_000  # after so many games, in a run's first half (KataGo's grew, too)
    device: Device = "auto"
    seed: Count = 1
    minutes: Annotated[float, Meta(ge=0, le=1e9)] = 10.0  # of the run, all sittings together
    cycles: Count = 0  # stop after so many instead; 0: by time
    games_per_cycle: Positive = 256  # between published networks; it learns as they come
    samples_per_position: Weight = 4.0  # how often each new position is trained on, on average
    window_min: Positive = 20_000  # positions; below it the window is everything (KataGo: 250,000)
    rate_every: Count = 0  # cycles between ratings on a ladder; 0: never
    rules: Rules = Rules()
    search: SearchConfig = SearchConfig()
    selfplay: SelfplayConfig = SelfplayConfig()
    training: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        if self.shares and not dict(self.shares).get(self.size):
            raise ValueError(f"shares = {self.shares} leave nothing for size = {self.size}")
        if self.start == "imitation" and not self.start_from:
            raise ValueError('start = "imitation" needs start_from = "CHECKPOINT"')

    @property
    def sizes(self) -> list[int]:
        """Return the board sizes of the run, the smallest first."""
        first = self.first_size if self.begins_small else self.size
        return sorted({first, self.size, *dict(self.shares)})

    @property
    def begins_small(self) -> bool:
        """Tell whether the first games are on another board."""
        return self.start == "zero" and self.first_size is not None


def check(kind: type[Config], values: dict) -> Config:
    """Build a configuration from nested dictionaries. Raises ValueError with the key and value."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        if not path:
            raise ValueError(reason) from None
        path = path.partition("[")[0].rstrip("`")
        value = reduce(lambda table, key: table[key], path.split("."), values)
        raise ValueError(f"{path} = {value!r}: {reason}") from None


def change(config: Config, **values: object) -> Config:
    """Return a copy with other values, as `check` takes them."""
    return check(type(config), msgspec.structs.asdict(config) | values)


def load_recipe(path: str | Path, overrides: list[str] = ()) -> Recipe:
    """Read a TOML recipe; `overrides` are "key=value" with values in TOML's or plain text."""
    import tomllib

    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise ValueError(f"--set {override!r} is not key=value")
            with suppress(tomllib.TOMLDecodeError):
                value = tomllib.loads(f"value = {value}")["value"]
            *tables, name = key.strip().split(".")
            try:
                reduce(lambda table, key: table.setdefault(key, {}), tables, values)[name] = value
            except (AttributeError, TypeError):  # a number or a text has no keys
                raise ValueError(f"unknown key {key.strip()}") from None
        return check(Recipe, values)
    except (ValueError, RecursionError) as error:  # TOML's and Unicode's are the former, too
        raise ValueError(f"{path}: {error}") from None

"""Every number that changes a result, as frozen dataclasses; recipes in TOML and `--set key=value`.

An unknown key, a wrong type or a value out of range is a ValueError that names it.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from .coords import check_size


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} = {value!r} is not one of {', '.join(choices)}")


def _at_least(config: object, low: float, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= low:
            raise ValueError(f"{name} = {getattr(config, name)} is less than {low}")


@dataclass(frozen=True)
class Rules:
    """The rules of one game; the default is Tromp-Taylor."""

    ko: str = "positional"  # "simple", "positional" or "situational" superko
    suicide: bool = True  # may a move take its own chain off the board?
    scoring: str = "area"  # "area", or "territory" (only for the count at the end of a GTP game)
    komi: float = 7.0  # points for White; 7 is the fair value of 9x9 under area scoring

    def __post_init__(self):
        _choice("rules.ko", self.ko, ("simple", "positional", "situational"))
        _choice("rules.scoring", self.scoring, ("area", "territory"))
        if not (abs(self.komi) <= 1000 and self.komi * 2 == int(self.komi * 2)):
            raise ValueError(f"komi {self.komi} is not a whole or half number")


# As KataGo names them: https://lightvector.github.io/KataGo/rules.html
RULES = {
    "tromp-taylor": Rules("positional", True),
    "chinese": Rules("simple", False),
    "aga": Rules("situational", False),
    "new-zealand": Rules("situational", True),
    "japanese": Rules("simple", False, "territory"),
}


@dataclass(frozen=True)
class SearchConfig:
    """How a position is searched."""

    root: str = "puct"  # "puct" (AlphaZero) or "gumbel" (Danihelka et al. 2022)
    simulations: int = 64  # per move
    leaves: int = 1  # evaluated at once inside one tree, kept apart by virtual loss
    c_puct: float = 1.1  # exploration at few visits (KataGo's cpuctExploration, rounded)
    c_puct_log: float = 0.45  # its growth with log visits (KataGo's cpuctExplorationLog)
    c_puct_base: float = 500.0  # visits at which the growth sets in (KataGo)
    fpu_reduction: float = 0.2  # first-play value = Q - this * sqrt(visited prior) (KataGo)
    noise_frac: float = 0.25  # share of Dirichlet noise in a noised root's prior (AlphaZero)
    noise_alpha: float = 10.83  # spread over the legal moves (KataGo, section 3)
    forced_playouts: float = 2.0  # k of sqrt(k P N) at a noised root (KataGo, 3.2); 0: off
    num_considered: int = 16  # root moves that Gumbel's sequential halving starts from
    c_visit: float = 50.0  # Gumbel's sigma(q) = (c_visit + max N) * c_scale * q
    c_scale: float = 1.0
    score_utility: float = 0.1  # share of utility that is points, not winning (KataGo's is dynamic)

    def __post_init__(self):
        _choice("search.root", self.root, ("puct", "gumbel"))
        _at_least(self, 0, "simulations", "noise_frac", "noise_alpha", "forced_playouts")
        _at_least(self, 1, "leaves")
        _at_least(self, 2, "num_considered")


@dataclass(frozen=True)
class SelfplayConfig:
    """How the games that train the network are played."""

    workers: int = 0  # processes, each pinned to a core; 0: one per core
    play_on: int = 0  # workers that go on while the learner trains, on the other cores; 0: none,
    # and one worker's run then repeats exactly
    games_at_once: int = 64  # in lockstep per worker: the evaluator's batch
    simulations_end: int = 0  # of a full search at the end of the run, growing linearly from
    # search.simulations (progressive simulation, Wu et al. 2024); 0: it doesn't grow
    full_frac: float = 0.25  # share of moves with a full search, which become data (KataGo, 3.1)
    cheap_simulations: int = 0  # of the other moves; 0: every move gets the full search
    opening_moves: float = 4.0  # mean of the exponential that says how many first moves are drawn
    # from the raw policy, rounded down (KataGo, Appendix D)
    temperature: float = 1.0  # of the move choice in the opening, but for a Gumbel root;
    # halves every `halflife` moves
    temperature_end: float = 0.2  # what it falls to
    halflife: float = 9.0  # moves, N of the board (KataGo's chosenMoveTemperatureHalflife is 19)
    komi_spread: float = 1.0  # standard deviation of komi around the recipe's, in points
    max_moves_per_point: float = 1.75  # a game ends, and is counted, at this times N * N moves
    end_settled: bool = True  # ends it once every point is pass-alive (KataGo does the like)

    def __post_init__(self):
        _at_least(self, 0, "workers", "play_on", "simulations_end", "cheap_simulations")
        _at_least(self, 0, "opening_moves", "komi_spread")
        _at_least(self, 1, "games_at_once")
        _at_least(self, 0.01, "full_frac", "temperature_end", "halflife", "max_moves_per_point")


@dataclass(frozen=True)
class TrainConfig:
    """Losses, optimiser and schedule of one training phase."""

    batch_size: int = 128  # positions; with Muon better than 256 (selfplay/LOG.md)
    optimizer: str = "muon"  # "muon", or "sgd": momentum, as in the papers; its rate: 0.05
    learning_rate: float = 0.008  # at the start, after warm-up
    learning_rate_end: float = 0.0008  # at the end, after a cosine
    warmup_steps: int = 100  # linear
    momentum: float = 0.95
    weight_decay: float = 0.01  # times the rate is what weights lose a step; AlphaGo Zero: 1e-4
    ema_decay: float = 0.995  # of the averaged weights that play, per step
    grad_clip: float = 4.0  # largest norm of the gradient
    policy_weight: float = 1.0
    reply_weight: float = 0.15  # opponent's reply (KataGo, 3.4)
    value_weight: float = 1.5
    ownership_weight: float = 1.5  # mean over points
    score_weight: float = 0.02  # Huber loss in points
    bfloat16: bool = True  # where the device is fast at it, else float32
    compile: bool = False  # torch.compile the network, which on a CPU needs a C++ compiler

    def __post_init__(self):
        _choice("training.optimizer", self.optimizer, ("muon", "sgd"))
        _at_least(self, 1, "batch_size")
        _at_least(self, 0, "learning_rate", "learning_rate_end", "warmup_steps", "weight_decay")


@dataclass(frozen=True)
class PlayConfig:
    """How `minigo gtp` plays."""

    checkpoint: str = "9x9"  # path or shipped name
    visits: int | None = None  # per move at most
    time_s: float | None = None  # per move at most, whatever the clock allows
    level: int = 0  # 1 to 9: weaker, and like a person; 0: as strong as it can
    resign: float = 0.02  # chance of winning below which it resigns; 0: never
    ponder: bool = False  # think while the opponent does
    device: str = "auto"
    threads: int = 1
    seed: int | None = None  # of a level's moves; None: other moves in each session

    def __post_init__(self):
        for name, low, high in (
            ("visits", 0, 1 << 30),
            ("time_s", 0.01, 1e6),
            ("level", 0, 9),
            ("resign", 0, 0.999999),
            ("threads", 1, 256),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} {value} is not between {low:g} and {high:g}")


@dataclass(frozen=True)
class Recipe:
    """One run: `minigo train RECIPE` does what it says, from `start` to `minutes`."""

    size: int = 9
    min_size: int = 0  # of smaller boards that are played and learned from, too; 0: only `size`
    start: str = "zero"  # "zero": random weights; "imitation": from `start_from`
    start_from: str = ""  # checkpoint trained on human games, for start = "imitation"
    network: str = "b6c64"  # of a run from zero; one from imitation has that of `start_from`
    grow_to: str = ""  # larger network that takes its place during a run from zero; "": none
    grow_at: float = 0.5  # after this share of the run, as KataGo's grew from b6c96 to b20c256
    device: str = "auto"  # "auto", "cpu" or "cuda"
    seed: int = 1
    minutes: float = 10.0  # of self-play and training, all sittings together
    cycles: int = 0  # stop after so many instead; 0: by time
    games_per_cycle: int = 256
    samples_per_position: float = 4.0  # how often each new position is trained on, on average
    window_min: int = 20_000  # positions; below it the window is everything (KataGo: 250,000)
    window_exponent: float = 0.75  # the window grows as this power of all positions (KataGo)
    window_scale: float = 0.4  # slope of that growth at window_min (KataGo)
    rate_every: int = 0  # cycles between ratings on a ladder, by `loop.rate_cycle`; 0: never
    rate_games: int = 100  # of each rating
    rules: Rules = field(default_factory=Rules)
    search: SearchConfig = field(default_factory=SearchConfig)
    selfplay: SelfplayConfig = field(default_factory=SelfplayConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self):
        if not 2 <= (self.min_size or check_size(self.size)) <= check_size(self.size):
            raise ValueError(f"min_size = {self.min_size} is not a size up to {self.size}")
        _choice("start", self.start, ("zero", "imitation"))
        _choice("device", self.device, ("auto", "cpu", "cuda"))
        _at_least(self, 1, "games_per_cycle", "window_min", "rate_games")
        _at_least(self, 0, "cycles", "minutes", "seed", "samples_per_position", "rate_every")
        _at_least(self, 0.01, "window_exponent")
        if self.start == "imitation" and not self.start_from:
            raise ValueError('start = "imitation" needs start_from = "CHECKPOINT"')

    @property
    def sizes(self) -> range:
        """Return the board sizes of the run, the smallest first."""
        return range(self.min_size or self.size, self.size + 1)


def parse_config(cls: type, values: dict, prefix: str = ""):
    """Build the dataclass `cls` from nested dictionaries, checking every key and type."""
    types = {f.name: f.type for f in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"unknown key {prefix}{key}; there are {', '.join(types)}")
        values = values | {key: _convert(value, types[key], prefix + key)}
    return cls(**values)


def _convert(value, wanted: type, name: str):
    if dataclasses.is_dataclass(wanted):
        if not isinstance(value, dict):
            raise ValueError(f"{name} = {value!r} is not a table")
        return parse_config(wanted, value, name + ".")
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{name} = {value!r} is not of type {wanted.__name__}")
    return value


def load_recipe(path: str | Path, overrides: list[str] = ()) -> Recipe:
    """Read a TOML recipe; `overrides` are "key=value" with values in TOML's or plain text."""
    import tomllib

    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        for override in overrides:
            _apply_override(values, override)
        return parse_config(Recipe, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _apply_override(values: dict, override: str) -> None:
    import tomllib

    key, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"--set {override!r} is not key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, name = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ValueError(f"unknown key {key.strip()}")
    values[name] = value

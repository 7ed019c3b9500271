"""Recipes: what is read, what is refused, and that the message names it."""

from pathlib import Path

import msgspec
import pytest

from minigo import config
from minigo.config import Recipe, Rules, SearchConfig, SelfplayConfig, check, load_recipe

RECIPES = Path(__file__).parents[1] / "selfplay"
DEFAULTS = (Rules(), SearchConfig(), SelfplayConfig(), config.TrainConfig(), Recipe())


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_states_only_what_differs(tmp_path):
    path = write(
        tmp_path,
        """
        size = 5
        minutes = 3          # a whole number is a float here
        rules = {ko = "simple", komi = 24}
        [search]
        root = "gumbel"
        simulations = 16
        [training]
        compile = true
    """,
    )
    recipe = load_recipe(path)
    assert recipe == Recipe(
        size=5,
        minutes=3.0,
        rules=Rules(ko="simple", komi=24.0),
        search=SearchConfig(root="gumbel", simulations=16),
        training=config.TrainConfig(compile=True),
    )
    assert type(recipe.minutes) is float and type(recipe.rules.komi) is float


KINDS = {"size = 9.5": "`int`", "network = 6": "`str`", "search = 5": "`object`"}
KINDS |= {"training.compile = 1": "`bool`", "size = 1": "`int` >= 2", "size = 26": "`int` <= 19"}
KINDS |= {"games_per_cycle = 0": "`int` >= 1", "search.simulations = -1": "`int` >= 0"}
KINDS |= {"minutes = -1": "`float` >= 0"}
OUT_OF_BOUNDS = ["start = 'human'", "device = 'tpu'", "minutes = nan", "rules.komi = nan"]
OUT_OF_BOUNDS += ["rules.ko = 'super'", "rules.scoring = 'stone'", "rules.komi = 2000"]
OUT_OF_BOUNDS += ["rules.komi = inf", "search.root = 'mcts'", "search.score_utility = 1.5"]
OUT_OF_BOUNDS += ["search.leaves = 0", "search.num_considered = 1", "selfplay.games_at_once = 0"]
OUT_OF_BOUNDS += ["selfplay.full_frac = 0", "training.batch_size = 0"]
OUT_OF_BOUNDS += ["training.learning_rate = -0.1", "search.simulations = 3000000000"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise = 9", "unknown field `sise`"),
        ("[serach]\nsimulations = 3", "unknown field `serach`"),
        ("[rules.more]\nko = 'simple'", "unknown field `more`"),
        ('size = "9"', "size = '9': Expected `int`, got `str`"),
        ("size = true", "size = True: Expected `int`, got `bool`"),
        ("minutes = true", "minutes = True: Expected `float`"),
        ("[training]\nbatch_size = [1]", "training.batch_size"),
        ("seed = 9999999999999999999", "seed = 9999999999999999999: Expected `int` <= "),
        ('start = "imitation"', "start_from"),
        ("size 9", "line 1"),
        ("size = 9\nsize = 7", "recipe.toml"),
        *((text, f"{text}: Expected {kind}") for text, kind in KINDS.items()),
        *((text, f"{text}: ") for text in OUT_OF_BOUNDS),
        ("size = " + "[" * 5000, "recursion"),
    ],
)
def test_a_bad_recipe_is_refused_by_file_and_key(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as error:
        load_recipe(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfsize = 5\r\n[rules]\r\nkomi = 7.25\r\n")
    assert load_recipe(path) == Recipe(size=5, rules=Rules(komi=7.25))


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "garbage.toml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="garbage.toml"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [(" size = 5 ", Recipe(size=5)), ("minutes=0.5", Recipe(minutes=0.5))]
    + [("network=b4c32", Recipe(network="b4c32")), ('network="b4c32"', Recipe(network="b4c32"))]
    + [("start_from=a=b.safetensors", Recipe(start_from="a=b.safetensors"))]
    + [("search.simulations=100", Recipe(search=SearchConfig(simulations=100)))]
    + [("rules.suicide=false", Recipe(rules=Rules(suicide=False)))]
    + [("rules={komi=0.5}", Recipe(rules=Rules(komi=0.5)))],
)
def test_set_overrides_one_key(tmp_path, override, expected):
    assert load_recipe(write(tmp_path, ""), [override]) == expected


def test_the_last_set_wins_over_the_file_and_earlier_ones(tmp_path):
    path = write(tmp_path, "size = 7\n[search]\nsimulations = 9\nleaves = 2")
    recipe = load_recipe(path, ["search.simulations=10", "search.simulations=11"])
    assert recipe == Recipe(size=7, search=SearchConfig(simulations=11, leaves=2))
    assert load_recipe(path).search.simulations == 9


@pytest.mark.parametrize(
    ("override", "message"),
    [("size", "'size' is not key=value"), ("search.visits=5", "unknown field `visits`")]
    + [("size.more=5", "size"), ("size.more.still=5", "size"), ("=5", "unknown field ``")]
    + [("size=five", "size = 'five': Expected `int`"), ("size=", "size = '': Expected `int`")]
    + [("", "is not key=value")],
)
def test_a_bad_set_is_refused_and_named(tmp_path, override, message):
    with pytest.raises(ValueError) as error:
        load_recipe(write(tmp_path, "size = 9"), [override])
    assert message in str(error.value)


def test_defaults_are_within_their_bounds_and_a_recipe_survives_a_dictionary():
    search = SearchConfig(score_utility=0.5)
    recipe = Recipe(size=13, rules=config.RULES["chinese"], search=search)
    for value in (*DEFAULTS, config.PlayConfig(), recipe):
        assert check(type(value), msgspec.to_builtins(value)) == value


def test_configs_are_values():
    assert hash(Recipe()) == hash(Recipe())
    for value in DEFAULTS:
        with pytest.raises(AttributeError):
            setattr(value, value.__struct_fields__[0], None)


def test_it_does_not_resign_what_is_won():
    with pytest.raises(ValueError, match="resign = 1.0: Expected `float` < 1.0"):
        check(config.PlayConfig, {"resign": 1.0})


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_the_recipes_that_ship_are_valid(path):
    recipe = load_recipe(path)
    assert recipe.start == "zero" and recipe != Recipe()

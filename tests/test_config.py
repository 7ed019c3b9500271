"""Recipes: what is read, what is refused, and that the message names it."""

from pathlib import Path

import msgspec
import pytest

from minigo.config import (
    RULES,
    PlayConfig,
    Recipe,
    Rules,
    SearchConfig,
    SelfplayConfig,
    TrainConfig,
    check,
    load_recipe,
)

RECIPES = Path(__file__).parents[1] / "selfplay"


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_recipe_states_only_what_differs(recipe_file):
    path = recipe_file("""
        size = 5
        minutes = 3          # a whole number is a float here
        rules = {ko = "simple", komi = 24}
        [search]
        root = "gumbel"
        simulations = 16
        [training]
        compile = true
    """)
    recipe = load_recipe(path)
    assert recipe == Recipe(
        size=5,
        minutes=3.0,
        rules=Rules(ko="simple", komi=24.0),
        search=SearchConfig(root="gumbel", simulations=16),
        training=TrainConfig(compile=True),
    )
    assert type(recipe.minutes) is float and type(recipe.rules.komi) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise = 9", "unknown field `sise`"),
        ("[serach]\nsimulations = 3", "unknown field `serach`"),
        ("[rules.more]\nko = 'simple'", "unknown field `more`"),
        ('size = "9"', "size = '9': Expected `int`, got `str`"),
        ("size = 9.5", "size = 9.5: Expected `int`"),
        ("size = true", "size = True: Expected `int`, got `bool`"),
        ("minutes = true", "minutes = True: Expected `float`"),
        ("network = 6", "network = 6: Expected `str`"),
        ("search = 5", "search = 5: Expected `object`"),
        ("[training]\ncompile = 1", "training.compile = 1: Expected `bool`"),
        ("[training]\nbatch_size = [1]", "training.batch_size"),
        ("size = 1", "size = 1: Expected `int` >= 2"),
        ("size = 26", "size = 26: Expected `int` <= 19"),
        ("seed = 9999999999999999999", "seed = 9999999999999999999: Expected `int` <= "),
        ('start = "human"', "start = 'human': "),
        ('start = "imitation"', "start_from"),
        ('device = "tpu"', "device = 'tpu': "),
        ("games_per_cycle = 0", "games_per_cycle = 0: Expected `int` >= 1"),
        ("minutes = -1", "minutes = -1: Expected `float` >= 0"),
        ("minutes = nan", "minutes = nan"),
        ("[rules]\nko = 'super'", "rules.ko = 'super': "),
        ("[rules]\nscoring = 'stone'", "rules.scoring = 'stone': "),
        ("[rules]\nkomi = 2000", "rules.komi = 2000: "),
        ("[rules]\nkomi = nan", "rules.komi = nan: "),
        ("[rules]\nkomi = inf", "rules.komi = inf: "),
        ("[search]\nroot = 'mcts'", "search.root = 'mcts': "),
        ("[search]\nsimulations = -1", "search.simulations = -1: Expected `int` >= 0"),
        ("[search]\nleaves = 0", "search.leaves = 0: "),
        ("[search]\nscore_utility = 1.5", "search.score_utility = 1.5: "),
        ("[search]\nnum_considered = 1", "search.num_considered = 1: "),
        ("[selfplay]\ngames_at_once = 0", "selfplay.games_at_once = 0: "),
        ("[selfplay]\nfull_frac = 0", "selfplay.full_frac = 0: "),
        ("[training]\nbatch_size = 0", "training.batch_size = 0: "),
        ("[training]\nlearning_rate = -0.1", "training.learning_rate = -0.1: "),
        ("size 9", "line 1"),
        ("size = 9\nsize = 7", "recipe.toml"),
        ("size = " + "[" * 5000, "recursion"),
    ],
)
def test_a_bad_recipe_is_refused_by_file_and_key(recipe_file, text, message):
    path = recipe_file(text)
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
    [
        (" size = 5 ", Recipe(size=5)),
        ("minutes=0.5", Recipe(minutes=0.5)),
        ("network=b4c32", Recipe(network="b4c32")),
        ('network="b4c32"', Recipe(network="b4c32")),
        ("start_from=a=b.safetensors", Recipe(start_from="a=b.safetensors")),
        ("search.simulations=100", Recipe(search=SearchConfig(simulations=100))),
        ("rules.suicide=false", Recipe(rules=Rules(suicide=False))),
        ("rules={komi=0.5}", Recipe(rules=Rules(komi=0.5))),
    ],
)
def test_set_overrides_one_key(recipe_file, override, expected):
    assert load_recipe(recipe_file(""), [override]) == expected


def test_the_last_set_wins_over_the_file_and_earlier_ones(recipe_file):
    path = recipe_file("size = 7\n[search]\nsimulations = 9\nleaves = 2")
    recipe = load_recipe(path, ["search.simulations=10", "search.simulations=11"])
    assert recipe == Recipe(size=7, search=SearchConfig(simulations=11, leaves=2))
    assert load_recipe(path).search.simulations == 9


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size", "'size' is not key=value"),
        ("search.visits=5", "unknown field `visits`"),
        ("size.more=5", "size"),
        ("size.more.still=5", "size"),
        ("size=five", "size = 'five': Expected `int`"),
        ("size=", "size = '': Expected `int`"),
        ("=5", "unknown field ``"),
        ("", "is not key=value"),
    ],
)
def test_a_bad_set_is_refused_and_named(recipe_file, override, message):
    with pytest.raises(ValueError) as error:
        load_recipe(recipe_file("size = 9"), [override])
    assert message in str(error.value)


def test_a_recipe_survives_a_dictionary():
    recipe = Recipe(size=13, rules=RULES["chinese"], search=SearchConfig(score_utility=0.5))
    assert check(Recipe, msgspec.to_builtins(recipe)) == recipe


def test_configs_are_values():
    assert hash(Recipe()) == hash(Recipe())
    for config in (Rules(), SearchConfig(), SelfplayConfig(), TrainConfig(), Recipe()):
        with pytest.raises(AttributeError):
            setattr(config, config.__struct_fields__[0], None)


def test_every_default_is_within_its_own_bounds():
    for cls in (Rules, SearchConfig, SelfplayConfig, TrainConfig, Recipe, PlayConfig):
        assert check(cls, msgspec.to_builtins(cls())) == cls()


def test_it_does_not_resign_what_is_won():
    with pytest.raises(ValueError, match="resign = 1.0: Expected `float` < 1.0"):
        check(PlayConfig, {"resign": 1.0})


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_the_recipes_that_ship_are_valid(path):
    recipe = load_recipe(path)
    assert recipe.start == "zero" and recipe != Recipe()

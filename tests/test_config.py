"""Recipes: what is read, what is refused, and that the message names it."""

import dataclasses
from pathlib import Path

import pytest

from minigo.config import (
    RULES,
    Recipe,
    Rules,
    SearchConfig,
    SelfplayConfig,
    TrainConfig,
    load_recipe,
    parse_config,
)

RECIPES = Path(__file__).parents[1] / "selfplay"


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_an_empty_recipe_is_the_default(recipe_file):
    assert load_recipe(recipe_file("")) == Recipe()


def test_a_recipe_states_only_what_differs(recipe_file):
    recipe = load_recipe(
        recipe_file("""
            size = 5
            minutes = 3          # a whole number is a float here
            [rules]
            ko = "simple"
            komi = 24
            [search]
            root = "gumbel"
            simulations = 16
            [selfplay]
            games_at_once = 8
            [training]
            compile = true
        """)
    )
    assert recipe == Recipe(
        size=5,
        minutes=3.0,
        rules=Rules(ko="simple", komi=24.0),
        search=SearchConfig(root="gumbel", simulations=16),
        selfplay=SelfplayConfig(games_at_once=8),
        training=TrainConfig(compile=True),
    )
    assert type(recipe.minutes) is float and type(recipe.rules.komi) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise = 9", "unknown key sise"),
        ("[search]\nvisits = 3", "unknown key search.visits"),
        ("[serach]\nsimulations = 3", "unknown key serach"),
        ("[rules.more]\nko = 'simple'", "unknown key rules.more"),
        ('size = "9"', "size = '9' is not of type int"),
        ("size = 9.0", "size = 9.0 is not of type int"),
        ("size = true", "size = True is not of type int"),
        ("minutes = true", "minutes = True is not of type float"),
        ("network = 6", "network = 6 is not of type str"),
        ("search = 5", "search = 5 is not a table"),
        ("[training]\ncompile = 1", "training.compile = 1 is not of type bool"),
        ("[training]\nbatch_size = [1]", "training.batch_size"),
        ("size = 1", "board size 1 "),
        ("size = 26", "board size 26 "),
        ("size = -9", "board size -9 "),
        ('start = "human"', "start = 'human' is not one of"),
        ('start = "imitation"', "start_from"),
        ('device = "tpu"', "device = 'tpu' is not one of"),
        ("games_per_cycle = 0", "games_per_cycle = 0 is less than 1"),
        ("minutes = -1", "minutes = -1.0 is less than 0"),
        ("minutes = nan", "minutes = nan"),
        ("[rules]\nko = 'super'", "rules.ko = 'super' is not one of"),
        ("[rules]\nscoring = 'stone'", "rules.scoring = 'stone' is not one of"),
        ("[rules]\nkomi = 7.25", "komi 7.25 "),
        ("[rules]\nkomi = 2000", "komi 2000.0 "),
        ("[rules]\nkomi = nan", "komi nan "),
        ("[rules]\nkomi = inf", "komi inf "),
        ("[search]\nroot = 'mcts'", "search.root = 'mcts' is not one of"),
        ("[search]\nsimulations = -1", "simulations = -1 is less than 0"),
        ("[search]\nleaves = 0", "leaves = 0 is less than 1"),
        ("[search]\nnoise_frac = -0.5", "noise_frac = -0.5 is less than 0"),
        ("[search]\nnum_considered = 1", "num_considered = 1 is less than 2"),
        ("[selfplay]\ngames_at_once = 0", "games_at_once = 0 is less than 1"),
        ("[selfplay]\nfull_frac = 0", "full_frac = 0.0 is less than"),
        ("[training]\nbatch_size = 0", "batch_size = 0 is less than 1"),
        ("[training]\noptimizer = 'adam'", "training.optimizer = 'adam' is not one of"),
        ("[training]\nlearning_rate = -0.1", "learning_rate = -0.1 is less than 0"),
        ("size 9", "line 1"),
        ("size = 9\nsize = 7", "recipe.toml"),
    ],
)
def test_a_bad_recipe_is_refused_by_file_and_key(recipe_file, text, message):
    path = recipe_file(text)
    with pytest.raises(ValueError) as error:
        load_recipe(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "garbage.toml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="garbage.toml"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("size=5", Recipe(size=5)),
        (" size = 5 ", Recipe(size=5)),
        ("minutes=2", Recipe(minutes=2.0)),
        ("minutes=0.5", Recipe(minutes=0.5)),
        ("network=b4c32", Recipe(network="b4c32")),
        ('network="b4c32"', Recipe(network="b4c32")),
        ("start_from=a=b.pt", Recipe(start_from="a=b.pt")),
        ("search.simulations=100", Recipe(search=SearchConfig(simulations=100))),
        ("search.root=gumbel", Recipe(search=SearchConfig(root="gumbel"))),
        ("rules.suicide=false", Recipe(rules=Rules(suicide=False))),
        ("rules={komi=0.5}", Recipe(rules=Rules(komi=0.5))),
        ("training.weight_decay=1e-3", Recipe(training=TrainConfig(weight_decay=1e-3))),
    ],
)
def test_set_overrides_one_key(recipe_file, override, expected):
    assert load_recipe(recipe_file(""), [override]) == expected


def test_the_last_set_wins_over_the_file_and_earlier_ones(recipe_file):
    path = recipe_file("size = 7\n[search]\nsimulations = 9\nleaves = 2")
    recipe = load_recipe(path, ["search.simulations=10", "search.simulations=11"])
    assert recipe == Recipe(size=7, search=SearchConfig(simulations=11, leaves=2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("size", "'size' is not key=value"),
        ("sise=5", "unknown key sise"),
        ("search.visits=5", "unknown key search.visits"),
        ("size.more=5", "size"),
        ("size.more.still=5", "size"),
        ("size=five", "size = 'five' is not of type int"),
        ("size=", "size = '' is not of type int"),
        ("size=1", "board size 1 "),
        ("search.simulations=-1", "simulations = -1 is less than 0"),
        ("search=5", "search = 5 is not a table"),
        ("=5", "unknown key"),
        ("", "is not key=value"),
    ],
)
def test_a_bad_set_is_refused_and_named(recipe_file, override, message):
    with pytest.raises(ValueError) as error:
        load_recipe(recipe_file("size = 9"), [override])
    assert message in str(error.value)


def test_set_does_not_change_the_next_recipe(recipe_file):
    path = recipe_file("[search]\nleaves = 2")
    load_recipe(path, ["search.leaves=3"])
    assert load_recipe(path).search.leaves == 2


def test_a_recipe_survives_a_dictionary():
    recipe = Recipe(size=13, rules=RULES["chinese"], search=SearchConfig(c_puct=2.0))
    assert parse_config(Recipe, dataclasses.asdict(recipe)) == recipe


def test_configs_are_values():
    assert hash(Recipe()) == hash(Recipe())
    for config in (Rules(), SearchConfig(), SelfplayConfig(), TrainConfig(), Recipe()):
        name = dataclasses.fields(config)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, None)


def test_every_number_of_a_recipe_is_of_its_declared_type():
    for cls in (Rules, SearchConfig, SelfplayConfig, TrainConfig, Recipe):
        for field in dataclasses.fields(cls):
            assert type(getattr(cls(), field.name)) is field.type, field.name


@pytest.mark.parametrize(
    ("name", "ko", "suicide", "scoring"),
    [
        ("tromp-taylor", "positional", True, "area"),
        ("chinese", "simple", False, "area"),
        ("aga", "situational", False, "area"),
        ("new-zealand", "situational", True, "area"),
        ("japanese", "simple", False, "territory"),
    ],
)
def test_named_rules(name, ko, suicide, scoring):
    rules = RULES[name]
    assert (rules.ko, rules.suicide, rules.scoring) == (ko, suicide, scoring)
    assert Rules() == RULES["tromp-taylor"]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_the_recipes_that_ship_are_valid(path):
    recipe = load_recipe(path)
    assert recipe.start == "zero" and recipe != Recipe()

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drelu_cli.core.errors import RecipeError
from drelu_cli.core.grid import expanded, merged, nested, parse_toml, with_field
from drelu_cli.core.recipe import Recipe

names = st.sampled_from(["drelu", "relu", "srelu"])
positive = st.floats(min_value=1e-6, max_value=100, allow_nan=False)
recipes = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries(
            {"name": st.sampled_from(["digits", "mnist"])},
            optional={"train_samples": st.integers(1, 10**6)},
        ),
        "model": st.fixed_dictionaries(
            {"name": st.sampled_from(["dense", "shallow_cnn"])},
            optional={"width": st.integers(1, 512), "placement": st.sampled_from(["head", "all"])},
        ),
        "activation": st.fixed_dictionaries({"name": names}, optional={"cap": positive}),
        "phase": st.lists(
            st.fixed_dictionaries(
                {"scheme": st.sampled_from(["natural", "madry"])},
                optional={"epochs": st.integers(0, 50), "lr": positive, "eps": positive},
            ),
            min_size=1,
            max_size=3,
        ),
        "penalty": st.fixed_dictionaries({}, optional={"lambda": positive}),
        "attack": st.fixed_dictionaries({}, optional={"eps": st.lists(positive, min_size=1)}),
        "report": st.fixed_dictionaries({}, optional={"label": st.text(max_size=8)}),
    },
)


@given(recipes)
def test_a_recipe_survives_being_written(mapping):
    recipe = Recipe.from_mapping(mapping)
    assert Recipe.from_mapping(recipe.as_mapping()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@given(recipes)
def test_a_recipe_survives_toml(mapping):
    import tomli_w

    recipe = Recipe.from_mapping(mapping)
    text = tomli_w.dumps(recipe.as_mapping())
    assert Recipe.from_mapping(parse_toml(text, where="t")) == recipe


def test_the_key_leaves_out_label_attack_and_path():
    base = Recipe.from_mapping({"activation": "drelu"})
    same = Recipe.from_mapping(
        {
            "activation": "drelu",
            "report": {"label": "mine"},
            "attack": {"suite": "whitebox"},
            "data": {"path": "somewhere.npz"},
        }
    )
    assert base.key("data") == same.key("data")
    assert base.key("data") != base.key("other data")


def test_keys_are_stable_across_releases():
    # Stored results are found by this key: a change here orphans every user's store.
    assert Recipe().key("0" * 64) == (
        "8b87f9d287050ef31a3ba9673611e6a822489fd0ea03723f4925d86382293728"
    )


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"trian": {}}, ["trian", "did you mean train"]),
        ({"train": {"batch": "x"}}, ["train.batch", "integer", "'x' (str)"]),
        ({"penalty": {"lamda": 1}}, ["penalty.lamda", "did you mean lambda"]),
        ({"penalty": {"lambda": float("nan")}}, ["penalty.lambda", "finite"]),
        ({"penalty": {"lambda": -1}}, ["penalty.lambda", "greater than or equal to 0"]),
        ({"attack": {"eps": "8/0"}}, ["8/0", "divides by zero"]),
        ({"attack": {"samples": 0}}, ["attack.samples", "got 0"]),
        ({"phase": [{"epochs": -1}]}, ["phase.0.epochs"]),
        ({"model": {"placement": "heads"}}, ["model.placement", "heads"]),
    ],
)
def test_errors_name_file_key_expected_and_got(mapping, words):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_mapping(mapping, where="mine.toml")
    text = f"{caught.value.message} {caught.value.hint}"
    for word in ["mine.toml", *words]:
        assert word in text


def test_what_is_not_toml_is_named_with_its_line():
    with pytest.raises(RecipeError, match=r"mine.toml is not TOML.*line 2"):
        parse_toml("a = 1\nb = = 2", where="mine.toml")


def test_merging_replaces_values_and_drops_a_replaced_part_s_options():
    low = {"activation": {"name": "drelu", "cap": 10.0}, "train": {"batch": 32, "lr": 0.1}}
    assert merged(low, {"train": {"lr": 0.2}})["train"] == {"batch": 32, "lr": 0.2}
    assert merged(low, {"activation": "relu"})["activation"] == {"name": "relu"}
    assert merged(low, {"activation": {"name": "drelu"}})["activation"]["cap"] == 10.0
    placed = {"model": {"name": "dense", "placement": "stem", "normalize": True, "width": 4}}
    assert merged(placed, {"model": "resnet18"})["model"] == {
        "name": "resnet18",
        "placement": "stem",
        "normalize": True,
    }


def test_dotted_fields():
    assert nested("a.b.c", 1) == {"a": {"b": {"c": 1}}}
    two = {"phase": [{"scheme": "natural"}, {"scheme": "madry"}]}
    assert with_field(two, "phase.1.epochs", 3)["phase"][1] == {"scheme": "madry", "epochs": 3}
    assert with_field(two, "phase.1.epochs", 3)["phase"][0] == {"scheme": "natural"}
    with pytest.raises(RecipeError, match=r"phase.2"):
        with_field(two, "phase.2.epochs", 3)


def test_the_grid_is_a_cartesian_product_and_tables_name_their_own_fields():
    grid = {
        "train.seed": [0, 1],
        "treatment": [{"scheme": "at"}, {"activation": "drelu", "penalty.lambda": 0.1}],
    }
    found = list(expanded({"train": {"batch": 8}}, grid))
    assert len(found) == 4
    mapping, coordinates = found[3]
    assert mapping["penalty"] == {"lambda": 0.1}
    assert mapping["train"] == {"batch": 8, "seed": 1}
    assert coordinates == {"train.seed": 1, "activation": "drelu", "penalty.lambda": 0.1}


@pytest.mark.parametrize("axis", [3, [], "ab"])
def test_an_axis_is_a_list_with_values(axis):
    with pytest.raises(RecipeError, match="train.seed"):
        list(expanded({}, {"train.seed": axis}))


@pytest.mark.parametrize("section", ["data", "train", "attack", "penalty"])
def test_one_value_for_a_whole_section_is_refused_before_another_option_replaces_it(section):
    with pytest.raises(RecipeError, match=f"{section}: expected a table, got 'mnist'") as caught:
        with_field({}, section, "mnist")
    assert f"{section}.FIELD" in caught.value.hint
    assert with_field({}, "activation", "relu")["activation"] == {"name": "relu"}
    assert with_field({}, "data", {"name": "mnist"})["data"] == {"name": "mnist"}

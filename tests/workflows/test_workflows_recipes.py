import pytest

from drelu_cli.core.errors import BadValue, RecipeError, UnknownName
from drelu_cli.workflows.effective import effective, label_of, name_of, scheme_of
from drelu_cli.workflows.recipes import members, read_source


def one(*options, recipe=None, preset="fast"):
    (found,) = members(read_source(recipe), preset=preset, options=options)
    return effective(found[0])


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_nothing_given_is_drelu_on_digits():
    recipe = one()
    assert (recipe.data.name, recipe.model.name, recipe.activation.name) == (
        "digits", "dense", "drelu",
    )  # fmt: skip
    assert (recipe.train.batch, recipe.phase[0].epochs) == (32, 50)
    assert (recipe.activation.options["cap"], recipe.phase[0].cap_lr) == (10.0, 0.05)
    assert recipe.penalty.lambda_ == 1.0


def test_the_data_set_chooses_batch_epochs_lambda_and_eps():
    recipe = one(("data.name", "mnist"), ("scheme", "madry"))
    assert (recipe.train.batch, recipe.phase[0].epochs) == (128, 15)
    assert recipe.penalty.lambda_ == 0.1
    assert recipe.phase[0].options["eps"] == 0.1
    assert one(("data.name", "cifar10"), ("scheme", "madry")).phase[0].options["eps"] == 0.01


def test_precedence_data_set_preset_recipe_recipe_preset_options(tmp_path):
    path = written(
        tmp_path,
        "[train]\nbatch = 16\nepochs = 7\n[activation]\nname = 'drelu'\ncap = 3\n"
        "[presets.paper.train]\nepochs = 9\n",
    )
    fast = one(recipe=path)
    assert (fast.train.batch, fast.phase[0].epochs) == (16, 7)
    assert fast.activation.options["cap"] == 3.0
    paper = one(recipe=path, preset="paper")
    assert (paper.phase[0].epochs, paper.phase[0].cap_lr) == (9, 1e-3)
    assert one(("train.epochs", 2), recipe=path, preset="paper").phase[0].epochs == 2


def test_the_presets_say_what_they_must():
    paper = one(preset="paper")
    assert (paper.activation.options["cap"], paper.phase[0].cap_lr) == (100.0, 1e-3)
    assert paper.phase[0].epochs == 2000
    tiny = one(preset="tiny")
    assert (tiny.phase[0].epochs, tiny.data.train_samples) == (1, 256)
    assert tiny.attack.max_steps == 2


def test_tiny_cuts_what_a_recipe_asks_for_and_options_stand_above_it(tmp_path):
    path = written(
        tmp_path,
        "[data]\ntrain_samples = 9000\n[[phase]]\nscheme = 'at'\nepochs = 20\n"
        '[grid]\n"train.seed" = [0, 1, 2]\n',
    )
    recipe = one(recipe=path, preset="tiny")
    assert recipe.data.train_samples == 256
    assert [phase.epochs for phase in recipe.phase] == [1, 1]
    assert one(("data.train_samples", 300), recipe=path, preset="tiny").data.train_samples == 300


def test_at_is_natural_then_ten_epochs_of_madry():
    recipe = one(("scheme", "at"), ("activation", "relu"), ("train.epochs", 4))
    assert [(phase.scheme, phase.epochs) for phase in recipe.phase] == [
        ("natural", 4),
        ("madry", 10),
    ]
    assert scheme_of(recipe) == "natural+madry"


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ([], "D-ReLU-1"),
        ([("penalty.lambda", 0.1)], "D-ReLU-0.1"),
        ([("activation", "relu")], "ReLU"),
        ([("activation", "srelu:cap=0.5")], "S-ReLU-0.5"),
        ([("activation", "relu6")], "ReLU6"),
        ([("activation", "relu"), ("scheme", "at")], "AT"),
        ([("activation", "relu"), ("scheme", "madry")], "Madry"),
        ([("activation", "relu"), ("scheme", "trades:beta=1")], "TRADES-1"),
        ([("scheme", "trades")], "TRADES-6 + D-ReLU-1"),
        ([("model.placement", "stem")], "D-ReLU-1 (stem)"),
        ([("report.label", "Mine")], "Mine"),
    ],
)
def test_labels(options, label):
    assert label_of(one(*options)) == label


def test_names_are_readable():
    recipe = one(("activation", "relu"), ("scheme", "trades"), ("train.seed", 3))
    assert name_of(recipe) == "digits-dense-trades-6-s3"


def test_numbers_typed_or_written_give_the_same_key():
    typed = one(("activation", "drelu:cap=5"), ("scheme", "trades:beta=6"))
    written_ = one(("activation.cap", 5.0), ("phase", [{"scheme": "trades", "beta": 6}]))
    assert typed.key("d") == written_.key("d")


def test_a_rate_of_caps_that_are_not_there_changes_no_key():
    fast = one(("activation", "relu"), ("train.cap_lr", 0.05))
    slow = one(("activation", "relu"), ("train.cap_lr", 0.01))
    assert fast.key("d") == slow.key("d")
    assert one(("train.cap_lr", 0.05)).key("d") != one(("train.cap_lr", 0.01)).key("d")


def test_what_changes_the_weights_changes_the_key():
    base = one().key("d")
    changes = [
        ("train.seed", 1), ("train.batch", 16), ("train.lr", 1e-4), ("penalty.lambda", 2),
        ("activation.cap", 9), ("model.placement", "all"), ("model", "dense:width=8"),
        ("train.epochs", 3), ("data.train_samples", 100), ("train.validation", False),
        ("scheme", "madry"),
    ]  # fmt: skip
    keys = [one(change).key("d") for change in changes]
    assert len({base, *keys}) == len(changes) + 1


def test_options_stand_above_the_grid(tmp_path):
    path = written(tmp_path, '[grid]\n"train.seed" = [0, 1, 2]\n"penalty.lambda" = [0.1, 1]\n')
    found = list(members(read_source(path), preset="fast"))
    assert len(found) == 6
    cut = list(members(read_source(path), preset="fast", options=[("train.seed", 1)]))
    assert len(cut) == 2
    assert {recipe.train.seed for recipe, _ in cut} == {1}


def test_table1_is_the_paper_s_grid():
    found = [effective(r) for r, _ in members(read_source("table1"), preset="fast")]
    assert len(found) == 2 * 8 * 3
    assert {r.model.name for r in found} == {"dense", "shallow_cnn"}
    labels = {label_of(r) for r in found}
    assert {"AT", "TRADES-1", "TRADES-6", "D-ReLU-0.001", "D-ReLU-1", "ReLU"} <= labels


def test_errors_of_recipes_name_the_file(tmp_path):
    path = written(tmp_path, "[trian]\nbatch = 3\n")
    with pytest.raises(RecipeError, match=r"mine.toml: unknown key 'trian'"):
        one(recipe=path)
    path = written(tmp_path, "grid = 3\n")
    with pytest.raises(RecipeError, match=r"mine.toml: grid: expected a table"):
        one(recipe=path)
    path = written(tmp_path, "[presets.fats]\n")
    with pytest.raises(UnknownName, match="fats"):
        one(recipe=path)


def test_a_penalty_without_caps_is_refused():
    with pytest.raises(BadValue, match="nothing to act on"):
        one(("activation", "relu"), ("penalty.lambda", 0.1))
    assert one(("activation", "relu"), ("penalty.lambda", 0.0)).penalty.lambda_ == 0.0


def test_a_list_names_only_values_that_an_axis_of_tables_has(tmp_path):
    rows = '{ "train.seed" = 1, "train.lr" = 0.1 }, { "train.seed" = 2, "train.lr" = 0.2 }'
    source = read_source(written(tmp_path, f"[grid]\nboth = [{rows}]\n"))
    found = list(members(source, preset="fast", options=[("train.seed", [2, 1])]))
    assert [recipe.train.lr for recipe, _ in found] == [0.1, 0.2]
    with pytest.raises(RecipeError, match="train.seed: 3 is not on the axis both") as caught:
        list(members(source, preset="fast", options=[("train.seed", [1, 3])]))
    assert caught.value.hint == "it has 1, 2"

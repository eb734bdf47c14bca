"""The packaged recipes: every one is valid under every preset, and none trains twice."""

from functools import cache

import pytest

from drelu_cli.core.errors import RecipeError, UnknownName
from drelu_cli.published.tables import published_table
from drelu_cli.workflows.effective import effective, label_of, name_of
from drelu_cli.workflows.jobs import wanted_of
from drelu_cli.workflows.plan import tasks_for
from drelu_cli.workflows.presets import PRESETS
from drelu_cli.workflows.recipes import members, read_source, recipe_names

NAMES = recipe_names()
TABLES = [f"table{number}" for number in range(1, 10)]
FIGURES = [f"fig{number}" for number in range(11, 28)]
GENERATED = {"table6", "table7", "table8", "table9", *(f"fig{number}" for number in range(19, 25))}
# Options that make an attack long.
LENGTHS = ("steps", "max_steps", "search_steps", "queries")


def of(name, preset="fast", options=()):
    found = members(read_source(name), preset=preset, options=options)
    return [effective(recipe) for recipe, _ in found]


packaged = cache(of)


def identities(recipes):
    """What determines the weights, the data set by its name."""
    return {str(recipe.identity(recipe.data.name)) for recipe in recipes}


def test_the_whole_paper_and_the_other_sources_are_there():
    others = ["srelu-mnist", "sensitivity-mnist", "overfitting-cifar10", "overfitting-stl10"]
    assert set(NAMES) >= {*TABLES, *FIGURES, *others, "smoke", "demo"}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", NAMES)
def test_every_member_is_effective_and_has_a_name_of_its_own(name, preset):
    recipes = packaged(name, preset)
    trainings = {str(one.identity(one.data.name)): name_of(one) for one in recipes}
    assert len(set(trainings.values())) == len(trainings)


@pytest.mark.parametrize("name", NAMES)
def test_tiny_is_tiny(name):
    recipes = packaged(name, "tiny")
    assert len({one.model.name for one in recipes}) == 1
    assert len({one.train.seed for one in recipes}) == 1
    for one in recipes:
        assert one.data.train_samples <= 256
        assert all(phase.epochs <= 1 for phase in one.phase)
        assert one.train.hops <= 1
        assert one.attack.samples <= 32
        tasks = tasks_for(one.data.name, wanted_of(one))
        assert tasks
        for task in tasks:
            lengths = {name: task.bound.effective.get(name, 0) for name in LENGTHS}
            assert max(lengths.values()) <= 2, (task.bound.name, lengths)


BLACK_BOX = {"table5", "table9", "fig16", "fig17", "fig18", "fig22", "fig23", "fig24"}
OVER_EPS = {"fig25", "fig26", "fig27"}


@pytest.mark.parametrize("name", [*TABLES, *FIGURES])
def test_paper_is_as_printed(name):
    for one in packaged(name, "paper"):
        assert one.phase[0].epochs == 2000
        assert one.data.train_samples is None
        assert one.attack.samples == 1000
        if one.activation.name == "drelu":
            assert one.activation.options["cap"] == 100.0
            assert {phase.cap_lr for phase in one.phase} == {1e-3}
        deep = one.model.name not in ("dense", "shallow_cnn")
        assert one.model.pretrained == ("imagenet" if deep else None)
        assert (one.data.generated is not None) == (name in GENERATED)
        assert one.attack.norm == "linf"
        radii = {
            (task.threat.norm, task.threat.eps) for task in tasks_for(one.data.name, wanted_of(one))
        }
        linf = 0.1 if one.data.name == "mnist" else 0.01
        if name in OVER_EPS:
            assert {("linf", linf)} < radii
            assert one.attack.attacks == ("apgd_ce",)
        else:
            assert radii == {("linf", linf), *([] if name in BLACK_BOX else [("l2", 18.0)])}
            assert one.attack.suite == ("blackbox" if name in BLACK_BOX else "paper")
    assert {one.train.seed for one in packaged(name, "paper")} == {0, 1, 2}


@pytest.mark.parametrize("number", range(1, 5))
def test_the_lambdas_that_the_paper_selected_are_trained(number):
    frame = published_table(f"published:table{number}")
    printed = set(frame[frame["training"] == "D-ReLU"]["param"].dropna())
    swept = {
        r.penalty.lambda_
        for r in packaged(f"table{number}", "paper")
        if r.activation.name == "drelu"
    }
    assert printed
    assert printed <= swept


@pytest.mark.parametrize("number", range(1, 10))
@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_every_published_treatment_of_a_table_is_trained(number, preset):
    frame = published_table(f"published:table{number}")
    labels = {
        label_of(one).removesuffix(" + generated") for one in packaged(f"table{number}", preset)
    }
    for training in frame["training"].unique():
        assert any(label.startswith(training) for label in labels), training


@pytest.mark.parametrize("preset", ["fast", "paper", "tiny"])
@pytest.mark.parametrize(
    ("figure", "table"),
    [("fig11", "table1"), ("fig12", "table2"), ("fig14", "table3"), ("fig15", "table4"),
     ("fig19", "table6"), ("fig20", "table7"), ("fig21", "table8")],
)  # fmt: skip
def test_a_figure_over_lambda_shares_its_tables_trainings(figure, table, preset):
    own = [one for one in packaged(figure, preset) if one.activation.name == "drelu"]
    zero = [one for one in own if one.penalty.lambda_ == 0]
    assert zero
    rest = [one for one in own if one.penalty.lambda_ != 0]
    assert identities(rest) <= identities(packaged(table, preset))


@pytest.mark.parametrize("preset", ["fast", "paper", "tiny"])
@pytest.mark.parametrize(
    ("later", "first"),
    [("fig16", ["fig12"]), ("fig17", ["fig14"]), ("fig18", ["fig15"]), ("fig22", ["fig19"]),
     ("fig23", ["fig20"]), ("fig24", ["fig21"]), ("fig25", ["table2"]), ("fig26", ["table3"]),
     ("fig27", ["table4"]), ("table5", ["table2", "table3", "table4"]),
     ("table9", ["table6", "table7", "table8"])],
)  # fmt: skip
def test_nothing_is_trained_twice(later, first, preset):
    known = set().union(*(identities(packaged(name, preset)) for name in first))
    assert identities(packaged(later, preset)) <= known


def test_generated_images_are_70_or_80_percent():
    shares = {one.data.name: one.data.generated_share for one in packaged("table9")}
    assert shares == {"cifar10": 0.7, "cifar100": 0.7, "tiny_imagenet": 0.8}


def test_a_recipe_stands_above_the_one_it_extends(tmp_path):
    low, high = tmp_path / "low.toml", tmp_path / "high.toml"
    low.write_text(
        "[train]\nepochs = 3\nbatch = 16\n[grid]\n'train.seed' = [0, 1]\n"
        "'penalty.lambda' = [1.0]\n[presets.paper.train]\nepochs = 9\n"
        "[presets.paper.grid]\n'train.seed' = [7]\n"
    )
    high.write_text(
        f"extends = '{low}'\n[train]\nepochs = 4\n[grid]\n'penalty.lambda' = [0.1, 0.2]\n"
        "[presets.paper.train]\nbatch = 8\n"
    )
    fast = of(str(high))
    assert {(one.train.epochs, one.train.batch) for one in fast} == {(4, 16)}
    assert {(one.penalty.lambda_, one.train.seed) for one in fast} == {
        (0.1, 0), (0.2, 0), (0.1, 1), (0.2, 1),
    }  # fmt: skip
    paper = of(str(high), "paper")
    assert {(one.train.epochs, one.train.batch, one.train.seed) for one in paper} == {(9, 8, 7)}


def test_what_a_recipe_extends_lies_beside_it_and_stands_below_its_fields(tmp_path):
    (tmp_path / "low.toml").write_text("[grid]\n'train.seed' = [0, 1]\n'penalty.lambda' = [1.0]\n")
    (tmp_path / "high.toml").write_text("extends = 'low.toml'\n[penalty]\nlambda = 0.5\n")
    found = of(str(tmp_path / "high.toml"))
    assert [(one.penalty.lambda_, one.train.seed) for one in found] == [(0.5, 0), (0.5, 1)]


def test_extending_in_a_circle_or_nothing_is_refused(tmp_path):
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text(f"extends = '{two}'\n")
    two.write_text(f"extends = '{one}'\n")
    with pytest.raises(RecipeError, match="circle"):
        read_source(str(one))
    one.write_text("extends = 3\n")
    with pytest.raises(RecipeError, match="expected a recipe"):
        read_source(str(one))
    one.write_text("extends = 'tabel2'\n")
    with pytest.raises(UnknownName, match="tabel2") as caught:
        read_source(str(one))
    assert "table2" in str(caught.value.hint)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["table1", "table2"])
def test_the_number_of_training_images_can_be_set_over_every_layer(name, preset):
    """table1 has it in its axis of architectures, table2 in its preset."""
    found = of(name, preset, [("data.train_samples", 300)])
    assert len(found) == len(packaged(name, preset))
    assert {one.data.train_samples for one in found} == {300}


def test_an_option_with_a_list_narrows_an_axis():
    options = [("model.name", ["dense", "resnet50"]), ("train.seed", [0])]
    chosen = of("table2", "paper", options)
    assert {one.model.name for one in chosen} == {"dense", "resnet50"}
    # An axis' own entry may set other fields, too.
    assert {one.model.pretrained for one in chosen if one.model.name == "resnet50"} == {"imagenet"}
    assert {one.model.pretrained for one in chosen if one.model.name == "dense"} == {None}


def test_a_list_chooses_among_tables_and_leaves_those_without_the_field():
    options = [("penalty.lambda", [0.1, 1.0]), ("model.name", "dense"), ("train.seed", 0)]
    labels = [label_of(one) for one in of("table1", options=options)]
    assert labels == ["ReLU", "AT", "TRADES-1", "TRADES-6", "D-ReLU-0.1", "D-ReLU-1"]


def test_an_axis_that_an_option_names_is_not_cut_by_tiny():
    seeds = {one.train.seed for one in of("table1", "tiny", [("train.seed", [7, 8])])}
    assert seeds == {7, 8}


def test_no_radii_are_refused():
    with pytest.raises(RecipeError, match="at least one radius"):
        of("fig25", options=[("attack.eps", [])])


def test_an_option_chooses_among_tables_that_all_set_its_field():
    dense = of("table1", options=[("model.name", "dense")])
    assert {(one.model.name, one.data.train_samples) for one in dense} == {("dense", None)}
    capped = of("table1", options=[("activation", "drelu"), ("model.name", "dense")])
    assert {one.penalty.lambda_ for one in capped} == {0.001, 0.01, 0.1, 1.0}
    # What no table has stands above all of them.
    assert {one.model.name for one in of("table1", options=[("model.name", "resnet18")])} == {
        "resnet18"
    }

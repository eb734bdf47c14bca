"""The points of a plot are what is stored: the right nets, one threat, seeds averaged."""

import io
import re
import shutil
import statistics
from dataclasses import replace

import pandas as pd
import pytest

from drelu_cli.core.errors import BadValue, StoreError, UnknownName
from drelu_cli.core.records import MASKED, NO_FAILURE, Examination, ThreatModel
from drelu_cli.report.figures import POINT_COLUMNS
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.plot import plot
from drelu_cli.workflows.points_groups import groups_of, value_of
from drelu_cli.workflows.points_training import _whole
from drelu_cli.workflows.train import train
from drelu_cli.workflows.verdicts import examination_of

N = 40
NETS = (
    {"activation": "relu"},
    {"activation": "drelu", "penalty.lambda": 0.0},
    {"activation": "drelu", "penalty.lambda": 0.1},
    {"activation": "drelu", "penalty.lambda": 0.1, "train.seed": 1},
    {"activation": "drelu", "penalty.lambda": 1.0, "model.placement": "stem"},
)
QUICK = (("train.epochs", 1), ("train.batch", 256))
RADII = (0.05, 0.1, 0.2)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """Five nets of an epoch with FGSM and PGD; the court has found one of them masked."""
    context = Context(store=tmp_path_factory.mktemp("plotted") / "runs", device="cpu")
    for fields in NETS:
        train(options=[*fields.items(), *QUICK], context=context)
    attack(wanted=wanted("fgsm", "pgd"), context=context)
    attack(["digits-dense-relu-s0"], wanted=wanted("pgd", curve=RADII), context=context)
    attack(["digits-dense-d-relu-0-s0"], wanted=wanted("pgd", eps=RADII), context=context)
    with open_store(context.store) as store:
        for record in store.models():
            word = MASKED if record.label == "D-ReLU-0" else NO_FAILURE
            store.add_examination(examined(store, record, word))
    return context


def wanted(*attacks, **fields):
    fields = {"samples": N, "remedy": False, "eps": None, **fields}
    return Wanted(None, attacks, "linf", **fields)


def examined(store, record, word) -> Examination:
    rows = (store.sample_order(record.dataset_digest) or ())[:N]
    empty = examination_of(record, ThreatModel("linf", 0.2), 0, rows, word)
    return replace(empty, complete=True)


@pytest.fixture
def drawn(context, tmp_path):
    def run(*words, **fields):
        return plot(*words, out=tmp_path / "figure", context=context, **fields)

    return run


def row(points, **values):
    for name, value in values.items():
        points = points[points[name] == value]
    (found,) = points.to_dict("records")
    return found


def cell(context, training, attack):
    table = compare(context=context).table.cells
    here = table[(table["training"] == training) & (table["attack"] == attack)]
    return here[here["eps"].isin([0.0, 0.2])].iloc[0]


def test_points_over_lambda_are_the_cells_of_compare(drawn, context):
    points = drawn(over="lambda").points
    head = points[points["group"] == "D-ReLU"]
    for label, x in (("D-ReLU-0", 0.0), ("D-ReLU-0.1", 0.1)):
        for name in ("clean", "fgsm", "pgd"):
            found, expected = row(head, x=x, series=name), cell(context, label, name)
            assert found["mean"] == pytest.approx(expected["mean"])
            assert found["n_seeds"] == expected["n_seeds"]
            assert found["treatment"] == label
            assert found["n_samples"] == N


def test_seeds_have_a_standard_deviation_and_one_seed_wilsons_interval(drawn, context):
    points = drawn(over="lambda").points
    expected = cell(context, "D-ReLU-0.1", "pgd")
    several = row(points, x=0.1, series="pgd")
    assert several["interval"] == "std"
    assert several["high"] - several["mean"] == pytest.approx(expected["std"])
    one = row(points, x=0.0, series="pgd")
    assert one["interval"] == "wilson95"
    assert one["low"] < one["mean"] < one["high"]


def test_verdicts_and_the_adaptive_column(drawn):
    points = drawn(over="lambda").points
    assert row(points, x=0.0, series="pgd")["verdict"] == MASKED
    assert row(points, x=0.1, series="pgd")["verdict"] == "no failure found 2/2"
    assert row(points, x=0.0, series="clean")["verdict"] == ""
    adaptive, pgd = (row(points, x=0.0, series=name) for name in ("adaptive", "pgd"))
    assert adaptive["mean"] <= pgd["mean"]


def test_other_treatments_stay_out_and_the_twin_comes_in(drawn):
    report = drawn(over="lambda")
    assert set(report.points["group"]) == {"D-ReLU"}  # the stem net stands alone
    assert any("with a single lambda" in note and "stem" in note for note in report.notes)
    twin = row(report.points, mark="reference")
    assert twin["treatment"] == "ReLU"
    assert twin["series"] == "adaptive"


def test_what_is_not_stored_is_named(drawn):
    (note,) = [one for one in drawn(over="lambda").notes if one.startswith("not stored")]
    assert note == "not stored, so not drawn: APGD-CE, APGD-DLR, CW-L2, Square"


def test_one_attack(drawn):
    points = drawn(over="lambda", attacks=["fgsm"]).points
    assert set(points["series"]) == {"clean", "fgsm", "adaptive"}
    with pytest.raises(UnknownName, match="fgms") as error:
        drawn(over="lambda", attacks=["fgms"])
    assert "did you mean fgsm" in error.value.hint


def test_curves_and_full_runs_over_eps(drawn, context):
    points = drawn(over="eps", attacks=["pgd"]).points
    pgd = points[points["series"] == "pgd"]
    curve, full = pgd[pgd["treatment"] == "ReLU"], pgd[pgd["treatment"] == "D-ReLU-0"]
    assert curve["x"].tolist() == full["x"].tolist() == [0.0, *RADII]
    assert curve["survivors"].tolist() == [False, False, True, False]
    assert not full["survivors"].any()
    with open_store(context.store) as store:
        record = store.find_model("digits-dense-relu-s0")
        reported = attack([record.key], wanted=wanted("pgd", curve=RADII), context=context).curves[
            0
        ]["points"]
    step = row(curve, x=0.1)
    assert step["mean"] == pytest.approx(reported[1]["robust_accuracy"])
    clean = drawn(over="lambda").points
    assert row(full, x=0.0)["mean"] == row(clean, x=0.0, series="clean")["mean"]
    assert curve["mean"].is_monotonic_decreasing


def test_one_radius_is_drawn_and_the_others_are_named(drawn):
    (note,) = [one for one in drawn(over="lambda").notes if "are stored, too" in one]
    assert note == (
        "digits is drawn at Linf 0.2; 0.05, 0.1 are stored, too "
        "(--where eps=0.05; --over eps draws them all)"
    )
    chosen = drawn(over="lambda", where={"eps": "0.05"})
    assert set(chosen.points["eps"].dropna()) == {0.05}
    assert not [one for one in chosen.notes if "are stored, too" in one]
    assert not [one for one in drawn(over="eps").notes if "are stored, too" in one]


def test_results_of_attacks_that_are_not_drawn_are_not_missed(context, tmp_path):
    own = Context(store=shutil.copytree(context.store, tmp_path / "runs"), device="cpu")
    few = replace(wanted("cw_l2:max_steps=2"), samples=10)
    attack(["digits-dense-relu-s0"], wanted=few, context=own)
    attack(["digits-dense-d-relu-0-s0"], wanted=wanted("cw_l2:max_steps=2"), context=own)

    def missed(*attacks):
        out = tmp_path / "figure"
        notes = plot(over="lambda", attacks=attacks, samples=N, out=out, context=own).notes
        return [note for note in notes if note.startswith("left out, since")]

    assert missed("pgd") == []
    (note,) = missed()
    assert note == f"left out, since they do not cover {N} samples: digits-dense-relu-s0"


def test_adaptive_over_eps_where_the_court_was(drawn):
    points = drawn(over="eps", attacks=["pgd"]).points
    court = points[points["series"] == "adaptive"]
    assert set(court["x"]) == {0.2}
    assert set(court["treatment"]) >= {"ReLU", "D-ReLU-0", "D-ReLU-0.1"}


def test_a_dotted_field_and_the_seed(drawn, context):
    with open_store(context.store, create=False) as store:
        record = store.find_model("digits-dense-d-relu-0.1-s1")
    assert value_of(record, "train.seed") == 1.0
    assert value_of(record, "phase.0.epochs") == 1.0
    assert value_of(record, "phase.7.epochs") is None
    assert value_of(record, "weight") is None
    assert value_of(record, "m") is None
    assert value_of(record, "cap") == 10.0
    report = drawn(over="train.seed")
    assert row(report.points, x=1.0, series="pgd")["n_seeds"] == 1


def test_placements_are_words_in_the_order_of_the_net(drawn, context):
    points = drawn(over="placement").points
    assert set(points["x"]) == {"head", "stem"}
    assert "train_samples" not in " ".join(points["group"])


def test_groups_that_share_a_label_are_told_apart(context):
    from drelu_cli.workflows.points import results

    with open_store(context.store, create=False) as store:
        found, _ = results(
            store, samples=None, where={}, attack_seed=0, models=None, attacks=["pgd"]
        )
        key, record = next(
            (key, one) for key, one in found.records.items() if one.label == "D-ReLU-0"
        )
        recipe = {**record.recipe, "data": {"name": "digits", "train_samples": 100}}
        other = replace(record, key="other", recipe=recipe)
        records, datasets = {**found.records, "other": other}, {**found.datasets, "other": "digits"}
        more = replace(
            found, records=records, datasets=datasets,
            labels={**found.labels, "other": found.labels[key]},
        )  # fmt: skip
        names = {group.name for group in groups_of(more, "lambda")}
    assert {"D-ReLU, train_samples 100", "D-ReLU, train_samples None"} <= names


def test_files_and_their_csv(drawn, tmp_path):
    report = drawn(over="lambda")
    assert [path.name for path in report.files] == ["figure.png", "figure.svg", "figure.csv"]
    assert all(path.stat().st_size > 300 for path in report.files)
    again = pd.read_csv(io.StringIO((tmp_path / "figure.csv").read_text()))
    assert tuple(again.columns) == POINT_COLUMNS
    assert again["mean"].tolist() == report.points["mean"].tolist()
    document = report.document["points"]
    assert statistics.fmean(one["mean"] for one in document) == pytest.approx(again["mean"].mean())


def test_the_ending_of_out_decides_nothing(context, tmp_path):
    report = plot(over="lambda", out=tmp_path / "v1.2.svg", context=context)
    assert {path.name for path in report.files} == {"v1.2.png", "v1.2.svg", "v1.2.csv"}


@pytest.fixture
def recipe(tmp_path):
    """A grid of which the store has all but lambda 0.5, and how to plot it."""
    file = tmp_path / "mine.toml"
    file.write_text(
        "[train]\nepochs = 1\nbatch = 256\n[attack]\nattacks = ['pgd']\nsamples = 40\n"
        "[grid]\n'penalty.lambda' = [0.0, 0.1, 0.5]\n[report]\ntitle = 'Mine'\nplot = 'lambda'\n"
    )
    return str(file)


def test_a_recipe_draws_its_own_trainings(recipe, context, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = plot(recipe, context=context)
    assert (report.name, report.title, report.over) == ("mine", "Mine", "lambda")
    assert (tmp_path / "mine.png").is_file()
    assert set(report.points["x"]) == {0.0, 0.1}
    assert set(report.points["series"]) == {"clean", "pgd", "adaptive"}
    assert set(report.points["mark"]) == {""}  # ReLU is not in its grid
    assert row(report.points, x=0.1, series="pgd")["n_seeds"] == 1  # nor is seed 1
    assert any("2 of 3 trainings are stored" in note for note in report.notes)


def test_a_recipe_without_trainings_says_what_to_do(recipe, context):
    with pytest.raises(UnknownName, match="none of the 3 trainings of mine") as error:
        plot(recipe, options=[("train.epochs", 3)], context=context)
    assert error.value.hint == f"drelu sweep {recipe}, with the same --preset and --set"


@pytest.mark.parametrize(
    ("words", "fields", "kind", "message"),
    [
        ((), {}, BadValue, "plot over what"),
        ((), {"over": "lamda"}, UnknownName, "unknown axis 'lamda'"),
        ((), {"over": "lambda", "options": [("train.seed", 1)]}, BadValue, "belongs to a recipe"),
        (("smoke",), {}, BadValue, "does not say what to plot over"),
        (("smok",), {"over": "lambda"}, UnknownName, "smok"),
        ((), {"over": "weight"}, UnknownName, "no stored model has a place on the axis weight"),
        ((), {"over": "epoch"}, UnknownName, "no stored model has a place on the axis epoch"),
        ((), {"over": "lambda", "where": {"dataset": "mnist"}}, UnknownName, "no stored results"),
        ((), {"over": "lambda", "samples": 300}, UnknownName, "300 samples"),
    ],
)
def test_errors_say_what_is_missing(drawn, words, fields, kind, message):
    with pytest.raises(kind, match=message):
        drawn(*words, **fields)


def test_without_a_store(tmp_path):
    with pytest.raises(StoreError):
        plot(over="lambda", context=Context(store=tmp_path / "none"))


def test_without_a_folder(context, tmp_path):
    with pytest.raises(BadValue, match="there is no folder"):
        plot(over="lambda", out=tmp_path / "no" / "figure.png", context=context)


@pytest.fixture
def moments(context, tmp_path):
    """The store with three weights of D-ReLU-0.1 registered as moments of its training."""
    own = Context(store=shutil.copytree(context.store, tmp_path / "runs"), device="cpu")
    with open_store(own.store) as store:
        parent = store.find_model("digits-dense-d-relu-0.1-s0")
        for number in (1, 2, 3):
            record = replace(
                parent, key=f"{number:064x}", name=f"{parent.name}-e{number}",
                label=f"{parent.label} epoch {number}",
                summary={
                    "parent": parent.key, "epoch": number, "train_accuracy": 0.5 + number / 10,
                    "validation_accuracy": 0.5, "validation_loss": 1 / number, "hop": number,
                    "accepted": number != 2, "sensitivity": {"mean_log_width": -float(number)},
                },
            )  # fmt: skip
            weights = store.model_dir(record.key) / "weights.safetensors"
            weights.parent.mkdir(parents=True)
            shutil.copy(store.model_dir(parent.key) / weights.name, weights)
            store.add_model(record)
    names = [f"digits-dense-d-relu-0.1-s0-e{number}" for number in (1, 2, 3)]
    attack(names, wanted=wanted("pgd"), context=own)
    return own


def test_checkpoints_over_epochs(moments, tmp_path):
    points = plot(over="epoch", out=tmp_path / "f", context=moments).points
    assert set(points["group"]) == {"D-ReLU-0.1"}
    kept = points[points["mark"] == "kept"]
    assert set(kept["x"]) == {1.0}  # it was trained for one epoch
    assert {"clean", "pgd", "gap"} <= set(kept["series"])
    gap = points[(points["quantity"] == "gap") & (points["mark"] == "")]
    assert gap["x"].tolist() == [1.0, 2.0, 3.0]
    assert gap["mean"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    along = points[(points["quantity"] == "accuracy") & (points["mark"] == "")]
    assert set(along["series"]) == {"clean", "pgd"}


def test_minima_over_sensitivity(moments, tmp_path):
    points = plot(over="sensitivity", out=tmp_path / "f", context=moments).points
    assert set(points["group"]) == {"ReLU", "D-ReLU-0", "D-ReLU-0.1", "D-ReLU-1 (stem)"}
    points = points[points["treatment"].str.contains("epoch")]
    loss = points[points["quantity"] == "loss"]
    assert dict(zip(loss["x"], loss["mean"], strict=True)) == {-1.0: 1.0, -2.0: 0.5, -3.0: 1 / 3}
    assert set(points["series"]) == {"loss", "pgd"}
    assert loss["mark"].tolist() == ["accepted", "rejected", "accepted"]


def test_moments_are_no_treatments_of_their_own(moments, tmp_path):
    report = plot(over="lambda", out=tmp_path / "f", context=moments)
    assert row(report.points, x=0.1, series="pgd")["n_seeds"] == 2


@pytest.fixture
def other_rate(context, tmp_path):
    """The store with trainings of seed 0 at another rate: labels that are there already."""
    own = Context(store=shutil.copytree(context.store, tmp_path / "runs"), device="cpu")
    for fields in ({"activation": "relu"}, {"activation": "drelu", "penalty.lambda": 0.1}):
        options = [*fields.items(), *QUICK, ("train.lr", 0.01), ("train.checkpoint_every", 1)]
        train(options=options, context=own)
    train(options=[*NETS[2].items(), *QUICK, ("train.checkpoint_every", 1)], context=own)
    with open_store(own.store) as store:
        names = [record.name for record in store.models()]
    attack(names, wanted=wanted("pgd"), context=own)
    return own


def test_a_twin_of_other_settings_is_no_seed_of_the_reference(other_rate, context, tmp_path):
    alone, beside = (
        plot(over="lambda", attacks=["pgd"], out=tmp_path / "f", context=one).points
        for one in (context, other_rate)
    )
    assert row(beside, mark="reference")["n_seeds"] == 1
    assert row(beside, mark="reference")["mean"] == row(alone, mark="reference")["mean"]


def test_checkpoints_of_other_settings_are_no_seeds_of_a_regime(other_rate, tmp_path):
    points = plot(over="epoch", out=tmp_path / "f", context=other_rate).points
    groups = {name for name in points["group"] if name.startswith("D-ReLU-0.1 [")}
    assert len(groups) == 2
    assert set(points["n_seeds"]) == {1}


def test_attacks_stand_where_an_epoch_lacks_the_column_that_sums_them_up():
    place = {"dataset": "digits", "architecture": "dense", "group": "ReLU"}
    whole = [{**place, "x": x, "series": name} for x in (1, 2) for name in ("pgd", "claimed")]
    assert [one["series"] for one in _whole(whole)] == ["claimed", "claimed"]
    assert _whole(whole[:3]) == whole[:3]
    other = [{**one, "dataset": "mnist"} for one in whole if one["series"] == "pgd"]
    assert _whole([*whole, *other])[2:] == other


def test_the_minimal_norm_attack_is_drawn_at_one_radius(context, tmp_path):
    own = Context(store=shutil.copytree(context.store, tmp_path / "runs"), device="cpu")
    names = ["digits-dense-d-relu-0-s0", "digits-dense-d-relu-0.1-s0"]
    for some, eps in ((names[:1], 0.3), (names, 0.8)):
        two = Wanted(None, ("cw_l2",), "l2", eps=(eps,), samples=N, max_steps=2, remedy=False)
        attack(some, wanted=two, context=own)
    points = plot(over="lambda", out=tmp_path / "f", context=own).points
    minimal = points[points["series"].str.startswith("cw_l2") & (points["mark"] == "")]
    assert minimal["x"].tolist() == [0.0, 0.1]
    assert set(minimal["eps"]) == {0.8}


def test_a_misspelt_axis_is_said_before_any_data_is_looked_for(tmp_path):
    nowhere = Context(store=tmp_path / "runs", data_dir=tmp_path / "data", device="cpu")
    with pytest.raises(UnknownName, match="lamda"):
        plot("fig11", over="lamda", context=nowhere)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("rule", ["validation", "adaptive"])
def test_one_lambda_can_stand_for_all(rule, drawn, context):
    notes = " ".join(compare(context=context, select=rule).notes)
    (chosen,) = re.findall(r"digits dense: (D-ReLU-[\d.]+) is selected of 2 lambdas", notes)
    every = drawn(over="eps", attacks=["pgd"])
    report = drawn(over="eps", attacks=["pgd"], select=rule)
    dropped = {"D-ReLU-0", "D-ReLU-0.1"} - {chosen}
    assert set(every.points["treatment"]) - set(report.points["treatment"]) == dropped
    assert {"ReLU", "D-ReLU-1 (stem)", chosen} <= set(report.points["treatment"])
    assert any(f"{chosen} is selected of 2 lambdas" in note for note in report.notes)


def test_over_another_field_labels_are_whole_and_there_is_no_common_twin(drawn):
    points = drawn(over="train.seed", where={"lambda": "0.1"}).points
    assert set(points["group"]) == {"D-ReLU-0.1"}
    assert not (points["mark"] == "reference").any()


def test_nothing_to_select_from_is_said(drawn):
    report = drawn(over="eps", select="validation", where={"activation": "relu"})
    assert any("nothing to select from" in note for note in report.notes)


def test_a_selection_needs_a_known_rule_and_another_axis(drawn):
    with pytest.raises(UnknownName, match="validaton"):
        drawn(over="eps", select="validaton")
    with pytest.raises(BadValue, match="over lambda all are drawn"):
        drawn(over="lambda", select="validation")


SWEPT = {
    "m": ("S-ReLU (all)", "activation", ["srelu:cap=0.5", "srelu:cap=2"]),
    "weight": ("sens", "scheme", ["sensitivity:weight=0.1", "sensitivity:weight=0.3"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("over", SWEPT)
def test_the_cap_and_the_weight_are_axes(over, tmp_path):
    """Static caps everywhere: plain ReLU in the head is the same net as plain ReLU everywhere."""
    group, field, parts = SWEPT[over]
    context = Context(store=tmp_path / "runs", device="cpu")
    base = {"model.placement": "all"} if over == "m" else {}
    for part in parts:
        options = {"activation": "relu", **base, field: part}
        train(options=[*options.items(), *QUICK], context=context)
    train(options=[("activation", "relu"), *QUICK], context=context)
    attack(wanted=wanted("fgsm"), context=context)
    points = plot(over=over, out=tmp_path / "figure", context=context).points
    (panel,) = set(points["group"])
    assert panel == group
    for part in parts:
        value = float(part.partition("=")[2])
        label = f"S-ReLU-{value:g} (all)" if over == "m" else f"sens-{value:g}"
        for name in ("clean", "fgsm"):
            found, expected = row(points, x=value, series=name), cell(context, label, name)
            assert found["mean"] == pytest.approx(expected["mean"])
    twins = points[points["mark"] == "reference"]
    assert list(twins["treatment"]) == (["ReLU"] if over == "m" else [])

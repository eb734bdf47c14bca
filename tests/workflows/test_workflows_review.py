"""Two things never share a number, and one thing never has two: keys, versions, columns."""

import pytest

from drelu_cli.core.errors import BadValue, RecipeError, UnknownName
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.compare import compare
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.effective import effective
from drelu_cli.workflows.plan import Wanted, tasks_for
from drelu_cli.workflows.recipes import members, read_source
from drelu_cli.workflows.train import train


def one(path, *options, preset="fast"):
    (found,) = members(read_source(str(path)), preset=preset, options=options)
    return effective(found[0])


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_part_written_as_text_keeps_its_name_under_an_override(tmp_path):
    path = written(tmp_path, 'activation = "srelu:cap=5"\nmodel = "dense:width=64"\n')
    recipe = one(path, ("activation.cap", 3.0), ("model.placement", "stem"))
    assert (recipe.activation.name, recipe.activation.options) == ("srelu", {"cap": 3.0})
    assert (recipe.model.options["width"], recipe.model.placement) == (64, "stem")


def test_a_scheme_written_as_text_takes_phase_options(tmp_path):
    path = written(tmp_path, 'scheme = "trades:beta=6"\n')
    assert one(path, ("phase.0.beta", 1.0)).phase[0].options["beta"] == 1.0


def test_tiny_cuts_at_wherever_it_is_written(tmp_path):
    path = written(tmp_path, 'scheme = "at"\nactivation = "relu"\n')
    for recipe in (
        one(path, preset="tiny"),
        one(written(tmp_path, 'activation = "relu"\n'), ("scheme", "at"), preset="tiny"),
    ):
        assert [phase.epochs for phase in recipe.phase] == [1, 1]


@pytest.mark.parametrize(
    "text",
    ["train = 5\n", "phase = [5]\n", "[presets]\ntiny = 5\n", "[phase]\nepochs = 1\n"],
)
@pytest.mark.parametrize("preset", ["fast", "tiny"])
def test_sections_that_are_no_tables(tmp_path, text, preset):
    with pytest.raises(RecipeError, match="expected"):
        one(written(tmp_path, text), ("train.batch", 4), preset=preset)


def test_a_recipe_that_is_no_text(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="UTF-8"):
        one(path)


@pytest.mark.parametrize(
    "scheme",
    ["madry:eps=-1", "madry:steps=-3", "madry:rel_step=0", "trades:beta=-5",
     "at:adversarial_epochs=abc", "at:adversarial_epochs=-3"],
)  # fmt: skip
def test_scheme_options_have_ranges(tmp_path, scheme):
    with pytest.raises(BadValue, match=scheme.partition(":")[2].partition("=")[0]):
        one(written(tmp_path, f'scheme = "{scheme}"\n'))


def test_seeds_fit_the_store(tmp_path):
    for field in ("train.seed", "attack.seed"):
        with pytest.raises(RecipeError, match=field):
            one(written(tmp_path, ""), (field, 2**63))


def bounds(*attacks, **fields):
    wanted = Wanted(None, attacks, **{"norm": "linf", "eps": None, **fields})
    return [(t.bound.name, t.threat.norm, t.threat.eps) for t in tasks_for("digits", wanted)]


def test_a_radius_for_minimal_norm_attacks_alone_is_their_bound():
    assert bounds("cw_l2") == [("cw_l2", "l2", 0.8)]
    assert bounds("cw_l2", eps=(0.3,)) == [("cw_l2", "l2", 0.3)]
    assert bounds("cw_l2", "fgsm", eps=(0.3,)) == [("cw_l2", "l2", 0.8), ("fgsm", "linf", 0.3)]
    assert bounds("cw_l2", "fgsm", norm="l2", eps=(0.3,)) == [
        ("cw_l2", "l2", 0.3),
        ("fgsm", "l2", 0.3),
    ]


@pytest.fixture
def context(tmp_path):
    found = Context(store=tmp_path / "runs", device="cpu")
    train(options=[("train.epochs", 1), ("activation", "relu")], context=found)
    return found


def wanted(*attacks, suite=None, samples=20):
    return Wanted(suite, attacks, "linf", None, samples=samples)


def test_a_limit_beyond_the_data_is_no_other_training(context):
    options = [("train.epochs", 1), ("activation", "relu"), ("data.train_samples", 9999)]
    assert train(options=options, context=context).reused


def test_two_versions_of_an_attack_are_not_two_seeds(context, monkeypatch):
    from drelu_cli.attacks.fgsm import fgsm

    attack(wanted=wanted("fgsm"), context=context)
    monkeypatch.setattr(fgsm, "version", fgsm.version + 1)
    assert attack(wanted=wanted("fgsm"), context=context).run == 1
    cells = compare(context=context).table.cells
    assert set(cells["n_seeds"]) == {1}


def test_an_option_at_its_default_is_the_default_attack(context):
    attack(wanted=wanted("pgd:steps=40", "fgsm", "apgd_ce", "apgd_dlr"), context=context)
    report = compare(context=context)
    assert set(report.table.cells["attack"]) == {"clean", "fgsm", "pgd", "apgd_ce", "apgd_dlr"}
    assert report.table.columns["claimed"].notna().all()


def test_columns_belong_to_the_threat_not_to_the_call(context):
    attack(wanted=wanted("fgsm", "pgd", "apgd_ce"), context=context)
    (entry,) = attack(wanted=wanted("apgd_dlr"), context=context).entries
    assert entry["columns"]["claimed"] is not None
    (partial,) = attack(wanted=wanted("apgd_dlr", samples=30), context=context).entries
    assert partial["columns"]["claimed"] is None


def test_more_samples_than_any_result_has(context):
    attack(wanted=wanted("fgsm"), context=context)
    with pytest.raises(UnknownName, match="no stored result covers 300"):
        compare(context=context, samples=300)


def test_outcomes_do_not_depend_on_the_slices_they_are_stored_in(context, monkeypatch):
    import drelu_cli.workflows.court as module
    from drelu_cli.store.connect import open_store

    def outcomes(store):
        with open_store(store) as opened:
            return {one.key: str(opened.outcomes(one.key)) for one in opened.evaluations()}

    attack(wanted=wanted(suite="smoke"), context=context)
    whole = outcomes(context.store)
    other = Context(store=context.store.parent / "other", device="cpu")
    train(options=[("train.epochs", 1), ("activation", "relu")], context=other)
    monkeypatch.setattr(module, "SLICE", 7)
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    attack(wanted=wanted(suite="smoke"), context=other)
    assert outcomes(other.store) == whole


def test_weights_of_another_training_are_repaired_by_training(context):
    """The state a kill leaves between a forced training's rename and its registration."""
    from drelu_cli.models.checkpoints import read_weights, save_weights
    from drelu_cli.store.connect import open_store
    from drelu_cli.workflows.fitting import build_model
    from drelu_cli.workflows.subjects import DataCache

    with open_store(context.store) as store:
        (record,) = store.models()
        path = store.model_dir(record.key) / "weights.safetensors"
    from drelu_cli.core.recipe import Recipe

    fresh = build_model(Recipe.from_mapping(record.recipe), DataCache(context).get("digits", None))
    before, _ = read_weights(path)
    save_weights(path, fresh, metadata={})
    report = train(options=[("train.epochs", 1), ("activation", "relu")], context=context)
    assert not report.reused
    after, _ = read_weights(path)
    assert all(before[name].equal(after[name]) for name in before)
    assert attack(wanted=wanted("fgsm"), context=context).run == 1


def test_a_job_that_fails_in_any_way_does_not_stop_the_sweep(context, tmp_path, monkeypatch):
    import drelu_cli.workflows.sweep as module

    real = module.train_recipe

    def sometimes(recipe, **more):
        if recipe.train.seed == 0:
            raise ValueError("ours")
        return real(recipe, **more)

    monkeypatch.setattr(module, "train_recipe", sometimes)
    path = written(
        tmp_path,
        'activation = "relu"\ntrain = { epochs = 1 }\nattack = { attacks = "fgsm", samples = 10 }\n'
        '[grid]\n"train.seed" = [0, 1]\n',
    )
    report = module.sweep(str(path), context=context)
    assert report.failures == [{"job": "digits-dense-relu-s0", "error": "ValueError: ours"}]
    assert report.trainings.as_json() == {"planned": 2, "reused": 0, "done": 1, "failed": 1}


def test_compare_s_csv_is_read_by_stats(context, tmp_path):
    from drelu_cli.workflows.stats import stats

    train(options=[("train.epochs", 1), ("activation", "drelu")], context=context)
    attack(wanted=wanted(suite="smoke"), context=context)
    compare(out=tmp_path / "t.csv", context=context)
    document = stats(str(tmp_path / "t.csv")).document
    assert document["treatments"] == stats(store=context.store).document["treatments"]
    assert document["friedman"] == stats(store=context.store).document["friedman"]


def test_two_files_under_one_loader_are_two_data_sets(tmp_path):
    import numpy as np

    context = Context(store=tmp_path / "runs", device="cpu")
    for seed in range(2):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8), np.arange(60) % 10
        path = tmp_path / f"{seed}.npz"
        np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
        fields = [("data.name", "npz"), ("data.path", str(path)), ("train.epochs", 1)]
        train(options=[*fields, ("activation", "relu")], context=context)
    attack(wanted=wanted("fgsm"), context=context)
    report = compare(context=context)
    assert report.table.cells["dataset"].nunique() == 2
    assert set(report.table.cells["rank"]) == {1.0}
    assert sum("same 20 test images" in note for note in report.notes) == 2


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("class Bad(nn.Module):\n    def __init__(self):\n        super().__init__()\n", "failed"),
        ("def Bad(channels):\n    return 3\n", "gave a int"),
    ],
)
def test_an_activation_that_is_none_is_the_user_s_to_mend(tmp_path, monkeypatch, code, word):
    from drelu_cli.core.errors import ModelError

    name = f"acts_{word.partition(' ')[0]}"
    (tmp_path / f"{name}.py").write_text(f"from torch import nn\n{code}")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match=word):
        one(written(tmp_path, f'activation = "{name}:Bad"\n'))


def test_an_attack_that_cannot_be_called_is_refused(context, tmp_path, monkeypatch):
    (tmp_path / "own_attack.py").write_text("def fn(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadValue, match="cannot be called"):
        attack(["digits-dense-relu-s0"], wanted=wanted("own_attack:fn"), context=context)


def test_looking_makes_no_folders(tmp_path):
    from drelu_cli.workflows.sweep import sweep

    nowhere = Context(store=tmp_path / "typo", device="cpu")
    with pytest.raises(UnknownName, match="no models"):
        attack(wanted=wanted("fgsm"), context=nowhere)
    assert sweep("smoke", preset="tiny", dry_run=True, context=nowhere).trainings.planned == 2
    assert not (tmp_path / "typo").exists()

"""Saved points prove what the stored outcomes say, and `verify` needs nothing but them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import Outcome, State, ThreatModel
from drelu_cli.evaluation.proof_file import read_proof, write_proof
from drelu_cli.store.connect import open_store
from drelu_cli.workflows.adversarial import _clear
from drelu_cli.workflows.attack import attack
from drelu_cli.workflows.context import Context
from drelu_cli.workflows.plan import Wanted
from drelu_cli.workflows.subjects import Outside
from drelu_cli.workflows.verify import verify

RELU, CAPPED = "digits-dense-relu-s0", "digits-dense-d-relu-1-s0"
THREAT = ThreatModel("linf", 0.2)


@pytest.fixture
def context(small_store, tmp_path):
    return Context(store=shutil.copytree(small_store, tmp_path / "runs"), device="cpu")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "points.npz"


def wanted(*attacks, **fields):
    defaults = {"suite": None if attacks else "smoke", "norm": "linf", "eps": None, "samples": 40}
    return Wanted(attacks=attacks, **{**defaults, **fields})


def save(context, file, *attacks, model=RELU, **fields):
    report = attack(
        [model], wanted=wanted(*attacks, **fields), context=context, save_adversarial=file
    )
    assert report.saved is not None
    return report.saved


def stored_outcomes(context, model, threat=THREAT):
    """Outcomes of the first 40 samples by evaluation."""
    with open_store(context.store) as store:
        record = store.find_model(model)
        rows = store.sample_order(record.dataset_digest)[:40]
        return [
            (one.evaluation, store.outcomes(one.key, rows))
            for one in store.evaluations(model_key=record.key)
            if one.evaluation.threat == threat and one.samples >= 40
        ]


def test_the_file_proves_what_is_stored(context, file):
    attack([RELU], wanted=wanted("pgd:steps=7", seed=3), context=context)  # another seed counts
    saved = save(context, file)
    stored = stored_outcomes(context, RELU)
    broken = {o.sample for _, each in stored for o in each if o.state is State.BROKEN}
    assert len(broken) == saved.points + saved.clean_wrong
    assert saved.points > 20
    assert (saved.samples, saved.not_repeated) == (40, 0)
    proof = read_proof(file)
    assert set(proof.index) | set(proof.clean_wrong) == broken
    assert (proof.norm, proof.eps, proof.dataset, proof.model) == ("linf", 0.2, "digits", RELU)
    found = verify(file, RELU, context=context)
    assert found.checked.failures == ()
    assert found.warnings == ()
    assert found.checked.robust_accuracy_at_most == saved.robust_accuracy_at_most
    assert (proof.predicted != proof.label).all()


def test_the_cheapest_attack_that_broke_a_sample_is_repeated(context, file):
    save(context, file)
    spent = {}
    for evaluation, outcomes in stored_outcomes(context, RELU):
        name = {"fgsm": "fgsm", "pgd": "pgd:steps=10"}[evaluation.attack]
        for one in outcomes:
            if one.state is State.BROKEN and not one.clean_wrong:
                spent.setdefault(one.sample, {})[name] = one.forwards + one.backwards
    proof = read_proof(file)
    named = dict(zip(proof.index.tolist(), proof.attack.tolist(), strict=True))
    assert set(named) == set(spent)
    for sample, name in named.items():
        assert spent[sample][name] == min(spent[sample].values())


def invented(context, model, attack_name, samples, *, cost, **changes):
    """Stores that an attack broke `samples`."""
    (evaluation, outcomes), *_ = stored_outcomes(context, model)
    false = replace(evaluation, attack=attack_name, seed=77, **changes)
    label = {one.sample: one.clean_pred for one in outcomes}
    with open_store(context.store) as store:
        store.add_outcomes(
            false,
            [Outcome(s, State.BROKEN, label[s], 0, 0.1, cost, 0) for s in samples],
            seconds=0.0,
        )


def robust_and_broken(context, model):
    states = {}
    for _, outcomes in stored_outcomes(context, model):
        for one in outcomes:
            if not one.clean_wrong:
                states.setdefault(one.sample, set()).add(one.state)
    robust = [sample for sample, found in states.items() if State.BROKEN not in found]
    return robust, [sample for sample in states if sample not in robust]


@pytest.mark.parametrize("attack_name", ["transfer", "fgsm", "gone"])
def test_what_cannot_be_repeated_is_counted_and_left_out(context, file, attack_name):
    attack([CAPPED], wanted=wanted(), context=context)
    robust, broken = robust_and_broken(context, CAPPED)
    invented(context, CAPPED, attack_name, [robust[0], broken[0]], cost=1)
    with_remedy = save(context, file, model=CAPPED)
    proof = read_proof(file)
    assert broken[0] in proof.index  # the next attack that broke it
    assert with_remedy.not_repeated == (0 if robust[0] in proof.index else 1)
    assert verify(file, CAPPED, context=context).checked.failures == ()


def test_only_this_threat_counts(context, file):
    attack([RELU], wanted=wanted("pgd", eps=(0.3,)), context=context)
    saved = save(context, file, "fgsm", eps=(0.01,))
    proof = read_proof(file)
    assert (saved.points, proof.eps) == (len(proof.index), 0.01)
    assert saved.points < 20


def test_attacks_of_another_norm_are_left_out(context, file):
    save(context, file, "fgsm", "cw_l2:search_steps=1,max_steps=5")
    assert (read_proof(file).norm, read_proof(file).eps) == ("linf", 0.2)
    save(context, file, "cw_l2:search_steps=3,max_steps=50", eps=(2.0,))
    proof = read_proof(file)
    assert (proof.norm, proof.eps) == ("l2", 2.0)
    assert len(proof.index) > 0
    assert verify(file, RELU, context=context).checked.failures == ()


def test_without_any_broken_sample_clean_errors_remain(context, file):
    saved = save(context, file, "fgsm", eps=(0.0,))
    assert (saved.points, saved.clean_wrong > 0) == (0, True)
    found = verify(file, RELU, context=context).checked
    assert found.robust_accuracy_at_most == 1 - saved.clean_wrong / 40


@pytest.mark.parametrize(
    ("models", "fields", "message", "hint"),
    [
        ((), {}, "one model, and 2 would", "add one MODEL: "),
        ((RELU, CAPPED), {}, "one model, and 2 would", RELU),
        ((RELU,), {"eps": (0.05, 0.06)}, "one radius, and there are 2: 0.05, 0.06", "--eps 0.06"),
        ((RELU,), {"curve": (0.05, 0.06)}, "one radius, and there are 2", "without --curve"),
        ((RELU,), {"engine": "torchattacks"}, "not those of torchattacks", "--engine"),
    ],
)
def test_refused_before_any_attack(context, file, models, fields, message, hint):
    with open_store(context.store) as store:
        before = len(store.evaluations())
    with pytest.raises(BadValue) as problem:
        attack(models, wanted=wanted(**fields), context=context, save_adversarial=file)
    assert message in problem.value.message
    assert hint in problem.value.hint
    with open_store(context.store) as store:
        assert len(store.evaluations()) == before
    assert not file.exists()


def test_no_other_file_is_touched(context, tmp_path):
    other = tmp_path / "images.npz"
    np.savez(other, images=np.zeros(3))
    before = other.read_bytes()
    with pytest.raises(BadValue, match="is not replaced"):
        attack([RELU], wanted=wanted(), context=context, save_adversarial=other)
    assert other.read_bytes() == before
    with pytest.raises(BadValue, match="no folder"):
        attack([RELU], wanted=wanted(), context=context, save_adversarial=tmp_path / "a" / "p.npz")


def test_a_point_beside_the_boundary_is_not_clear_of_it():
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model.bias.copy_(torch.tensor([1.5, 0.5]))
    x = torch.tensor([[0.500001], [0.6], [0.4]])
    assert _clear(model, x, torch.tensor([0, 0, 0])) == [False, True, False]


def weights(context, model) -> Path:
    with open_store(context.store) as store:
        return store.model_dir(store.find_model(model).key) / "weights.safetensors"


def test_a_weights_file_needs_no_store(context, file, tmp_path):
    save(context, file)
    elsewhere = Context(store=tmp_path / "none", device="cpu")
    found = verify(file, str(weights(context, RELU)), context=elsewhere)
    assert (found.checked.failures, found.warnings) == ((), ())
    assert not elsewhere.store.exists()


def test_another_model_is_a_warning_and_its_points_are_judged(context, file):
    save(context, file)
    found = verify(file, CAPPED, context=context)
    assert "not the weights" in found.warnings[0]
    reasons = {"the point is classified correctly", "the clean image is misclassified",
               "the clean image is classified correctly"}  # fmt: skip
    assert set(found.reasons) <= reasons
    assert found.reasons
    claimed = found.document["points"] + found.document["clean_wrong"]
    assert found.checked.valid + found.checked.valid_clean_wrong == claimed - sum(
        found.reasons.values()
    )


def test_chosen_samples_and_other_data_are_warned_of(context, file):
    save(context, file)
    proof = read_proof(file)
    chosen = np.sort(np.concatenate([proof.index, proof.clean_wrong]))
    write_proof(file, replace(proof, list=chosen, dataset_digest="other"))
    found = verify(file, RELU, context=context)
    assert found.checked.failures == ()
    assert [text.split()[:2] for text in found.warnings] == [["this", "digits"], ["the", "list"]]


def test_images_of_another_size_are_refused(context, file):
    save(context, file)
    proof = read_proof(file)
    halves = replace(proof, clean=proof.clean[..., :4], x_adv=proof.x_adv[..., :4])
    write_proof(file, halves)
    with pytest.raises(BadValue, match=r"images of 8x4x1, digits has 8x8x1"):
        verify(file, RELU, context=context)


def test_options_of_outside_models_do_not_fit_names_of_the_registry(context, file):
    save(context, file)
    with pytest.raises(BadValue, match="only for models from outside"):
        verify(file, RELU, outside=Outside(architecture="dense"), context=context)

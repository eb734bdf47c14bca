import pytest

from drelu_cli.core.errors import BadValue
from drelu_cli.core.records import Evaluation, ThreatModel, cascade_text


def evaluation(**changes):
    fields = {
        "model_key": "m",
        "weights_digest": "w",
        "dataset": "digits",
        "dataset_digest": "d",
        "attack": "pgd",
        "given": {},
        "effective": {"steps": 40},
        "identity": {"name": "pgd", "options": {"steps": 40}},
        "version": 1,
        "norm": "linf",
        "eps": 0.1,
        "seed": 0,
    }
    return Evaluation(**{**fields, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"model_key": "n"},
        {"weights_digest": "v"},
        {"dataset_digest": "e"},
        {"identity": {"name": "pgd", "options": {"steps": 41}}},
        {"version": 2},
        {"norm": "l2"},
        {"eps": 0.2},
        {"seed": 1},
        {"engine": "torchattacks"},
        {"cascade": "standard"},
    ],
)
def test_what_determines_outcomes_is_in_the_key(change):
    assert evaluation(**change).key != evaluation().key


@pytest.mark.parametrize(
    "change", [{"given": {"steps": 40}}, {"warnings": ("x",)}, {"provenance": {"a": 1}}]
)
def test_what_does_not_is_not(change):
    assert evaluation(**change).key == evaluation().key


@pytest.mark.parametrize("eps", [-1.0, float("nan"), float("inf")])
def test_radii(eps):
    with pytest.raises(BadValue, match="eps"):
        ThreatModel("linf", eps)


def test_norms():
    with pytest.raises(BadValue, match="l3"):
        ThreatModel("l3", 0.1)


def test_what_an_evaluation_was_part_of():
    digest = "0123456789abcdef"
    assert cascade_text("", digest) is None
    left = cascade_text("apgd_ce, apgd_t", digest)
    assert left == "after apgd_ce, apgd_t [0123456789ab]"
    assert cascade_text("", "", "f" * 64) == "samples ffffffffffff"
    both = cascade_text("eps 0.1", digest, "f" * 64)
    assert both == "after eps 0.1 [0123456789ab]; samples ffffffffffff"
    found = [evaluation(cascade=text).survivors_only for text in (None, "samples f", left, both)]
    assert found == [False, False, True, True]

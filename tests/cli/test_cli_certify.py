"""`drelu attack --certify`: one line, one column, and exit 1 where an attack contradicts it."""

import pytest

from drelu_cli.certify import METHOD, VERSION
from drelu_cli.core.records import State
from drelu_cli.store.connect import open_store

NET = "digits-dense-relu-s0"
ATTACK = ("attack", NET, "--attack", "fgsm", "--eps", "0.01", "--samples", "40")


def test_the_line_the_column_and_compare(drelu, own_store):
    ran = drelu(*ATTACK, "--certify", "--store", own_store)
    assert ran.code == 0, ran.err
    (line,) = [line for line in ran.out.splitlines() if line.startswith("certified ")]
    document = drelu(*ATTACK, "--store", own_store, "--json").document
    (entry,) = document["evaluations"]
    proven = entry["certificate"]["proven"]
    share = entry["columns"]["certified"]
    assert line == f"certified {proven} of 40 ({100 * share:.1f} %) by CROWN at linf 0.01"
    rows = drelu("compare", "--store", own_store, "--json").document["columns"]
    assert share in [row["certified"] for row in rows if row["eps"] == 0.01]


def test_l2_is_a_note_and_no_error(drelu, own_store):
    ran = drelu(
        "attack", NET, "--attack", "fgsm", "--norm", "l2", "--certify", "--store", own_store
    )
    assert ran.code == 0
    assert "there are certificates for linf only" in ran.err
    assert "certified " not in ran.out


def test_a_model_without_bounds_is_attacked_all_the_same(drelu, tmp_path, monkeypatch):
    (tmp_path / "skipping.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(64, 10)\n"
        "        self.layer.weight.data = torch.eye(10, 64)\n"
        "        self.layer.bias.data = torch.zeros(10)\n"
        "        self.eval()\n"
        "    def forward(self, x):\n"
        "        return self.layer(x.flatten(1))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = drelu("attack", "skipping:Net", *ATTACK[2:], "--certify")
    assert ran.code == 0, ran.err
    assert "no certificate: no bounds are known for model, a Net" in ran.err
    assert "warning: no certificate" in ran.out


@pytest.mark.parametrize("engine", ["drelu", "other 1.0"])
def test_a_broken_certificate_is_a_bug_that_fails_both_commands(drelu, own_store, engine):
    words = ("attack", NET, "--attack", "pgd:steps=10", "--eps", "0.3", "--samples", "40")
    assert drelu(*words, "--store", own_store).code == 0
    with open_store(own_store) as store:
        record = store.find_model(NET)
        (found,) = [one for one in store.evaluations() if one.evaluation.eps == 0.3]
        broken = [one for one in store.outcomes(found.key) if one.state is State.BROKEN]
        if engine != "drelu":
            from dataclasses import replace

            other = replace(found.evaluation, engine=engine, attack="their_attack")
            store.add_outcomes(other, broken[:1], seconds=0.0)
        sample = broken[0].sample
        of = (record.key, record.weights_digest, record.dataset_digest, 0.3, METHOD)
        store.add_certificate(*of, [sample], [True], 1.0, version=VERSION)
    for command in (words, ("compare",)):
        ran = drelu(*command, "--store", own_store)
        assert ran.code == 1
        for part in (NET, f"sample {sample}", "PGD at linf 0.3", "by CROWN", "please report it"):
            assert part in ran.err
        if engine != "drelu":
            assert "their_attack of other 1.0 at linf 0.3" in ran.err
        document = drelu(*command, "--store", own_store, "--json").document
        assert sample in document["violations"][0]["samples"]

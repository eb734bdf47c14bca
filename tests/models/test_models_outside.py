import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from drelu_cli.activations import ACTIVATIONS
from drelu_cli.core.errors import DreluError, ModelError, UnknownName
from drelu_cli.models.build import build, check_input
from drelu_cli.models.outside import architecture_digest, from_factory, wrap_normalised

SOURCE = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.out = nn.Linear(64, width)

        def forward(self, x):
            return self.out(x.flatten(1))

    def wide():
        return Net(width=7)

    def broken():
        return 1 / 0

    def number():
        return 3

    def needy(width):
        return Net(width)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module beside the user, imported afresh."""
    (tmp_path / "users_nets.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / "users_typo.py").write_text("def net(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "users_nets", raising=False)
    return "users_nets"


def test_a_module_beside_the_user_is_found(module):
    assert check_input(from_factory(f"{module}:wide"), (1, 8, 8)) == 7
    assert check_input(from_factory(f"{module}:Net"), (1, 8, 8)) == 4


@pytest.mark.parametrize(
    ("reference", "kind", "words"),
    [
        ("users_nets", ModelError, "package.module:factory"),
        ("users_nets:broken", ModelError, "ZeroDivisionError"),
        ("users_nets:number", ModelError, "returned a int"),
        ("users_nets:needy", ModelError, "width"),
        ("users_nets:wied", UnknownName, "wied"),
        ("users_netz:wide", DreluError, "cannot be imported"),
        ("users_typo:net", ModelError, "SyntaxError"),
    ],
)
def test_what_fails_is_named(module, reference, kind, words):
    with pytest.raises(kind) as caught:
        from_factory(reference)
    assert words in caught.value.message


def net(**options):
    return build(
        "dense",
        shape=(1, 8, 8),
        classes=3,
        activation=ACTIVATIONS.bind("srelu", cap=options.pop("cap", 1.0)),
        placement=options.pop("placement", "head"),
        mean=[0.5],
        std=[0.5],
        options=options,
    )


def test_the_digest_sees_structure_and_not_weights():
    assert architecture_digest(net()) == architecture_digest(net())
    variants = [net(), net(width=8), net(depth=1), net(cap=2.0), net(placement="all")]
    assert len({architecture_digest(variant) for variant in variants}) == len(variants)


def test_the_digest_sees_the_source_of_a_users_class(module, tmp_path):
    code = (
        "from drelu_cli.models.outside import architecture_digest as d, from_factory as f\n"
        f"print(d(f('{module}:Net')))"
    )

    def digest():
        command = [sys.executable, "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    first = digest()
    assert digest() == first
    file = tmp_path / "users_nets.py"
    file.write_text(file.read_text().replace("x.flatten(1)", "x.flatten(1) * 2"))
    assert digest() != first


def test_normalisation_can_be_put_in_front():
    inner = nn.Flatten()
    model = wrap_normalised(inner, [0.5], [0.25])
    assert model(torch.full((1, 1, 2, 2), 0.75)).tolist() == [[1.0, 1.0, 1.0, 1.0]]

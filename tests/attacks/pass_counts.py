"""How many passes each attack makes on three fixed problems, in float64.

    python tests/attacks/pass_counts.py      # writes pass_counts.json

Pass counts are what speed can be guarded by: they do not depend on how busy a machine is.
"""

import json
from pathlib import Path

import torch
from torch import nn

from drelu_cli.activations.capped import srelu
from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.conformance_models import curved_problem
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream, seeded_initialisation

FILE = Path(__file__).with_suffix(".json")
IMAGE = (1, 6, 6)
SAMPLES = 40
# Short runs: rounding differs between processors, and long ones would carry it far.
OPTIONS = {
    "cw_l2": {"search_steps": 4, "max_steps": 60, "patience": 20},
    "fab_t": {"steps": 20},
    "square": {"queries": 200},
    "apgd_t": {"steps": 30},
    "apgd_guided": {"steps": 30, "warm": 30},
    "apgd_restarts": {"passes": 150, "steps": 30},
    "nes": {"steps": 10, "draws": 10},
    "uniform_draws": {"draws": 20},
}
EPS = {"linf": 0.02, "l2": 0.15}


def plain():
    """A random net: some samples break, some stand."""
    return curved_problem(IMAGE, SAMPLES)


def masked():
    """A capped net: most of its gradients are exactly zero."""
    with seeded_initialisation("pass counts"):
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(36, 24), srelu(24, cap=0.02), nn.Linear(24, 5)
        )
    return labelled(model.double().eval())


def convolutional():
    """A small convolutional net."""
    with seeded_initialisation("pass counts"):
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(54, 5),
        )
        with torch.no_grad():
            model[-1].weight.mul_(3.0)
    return labelled(model.double().eval())


def labelled(model):
    """The model, images and the model's own predictions for them."""
    stream = Stream(1, torch.arange(SAMPLES))
    x = stream.uniform("images", IMAGE, dtype=torch.float64)
    with torch.no_grad():
        return model, x, model(x).argmax(dim=1)


PROBLEMS = {"plain": plain, "masked": masked, "convolutional": convolutional}


def counted(name):
    """{problem and norm: [forwards, backwards] of all samples together} of one attack."""
    found = {}
    for problem, make in PROBLEMS.items():
        model, x, y = make()
        attack = ATTACKS.bind(name, **OPTIONS.get(name, {}))
        for norm in attack.target.norms:
            threat = ThreatModel(norm, EPS[norm])
            result = attack(model, x, y, threat, Stream(0, torch.arange(SAMPLES)))
            passes = [int(result.forwards.sum()), int(result.backwards.sum())]
            found[f"{problem}, {norm}"] = passes
    return found


if __name__ == "__main__":
    counts = {name: counted(name) for name in ATTACKS.builtin_names()}
    lines = (f'  "{name}": {json.dumps(found)}' for name, found in counts.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")

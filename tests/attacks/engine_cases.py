"""What the tests of both adapters share."""

import torch
from torch import nn

from drelu_cli.attacks import ATTACKS
from drelu_cli.attacks.engine_autoattack import TABLE as AUTOATTACK
from drelu_cli.attacks.engine_torchattacks import TABLE as TORCHATTACKS
from drelu_cli.attacks.engines import ENGINES
from drelu_cli.core.records import ThreatModel
from drelu_cli.runtime.streams import Stream, seeded_initialisation

TABLES = {"autoattack": AUTOATTACK, "torchattacks": TORCHATTACKS}
CASES = [(engine, *case) for engine, table in TABLES.items() for case in table]
SHORT = {
    "pgd": {"steps": 5},
    "apgd_ce": {"steps": 5},
    "apgd_dlr": {"steps": 5},
    "apgd_t": {"steps": 5},
    "fab_t": {"steps": 5},
    "square": {"queries": 20},
    "cw_l2": {"max_steps": 30},
}
RADII = {"linf": 0.1, "l2": 0.8}
CLASSES = 5


def engine_of(name):
    return ENGINES.resolve(name)()


def short(name, **options):
    return ATTACKS.bind(name, **{**SHORT.get(name, {}), **options})


def net(dtype=torch.float32):
    """A net in evaluation mode with modules that behave otherwise in training mode."""
    with seeded_initialisation("engine tests"):
        layers = (
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(32, CLASSES),
        )
    return nn.Sequential(*layers).to(dtype).eval()


def images(model, count=12, dtype=torch.float32):
    """x (count, 1, 8, 8) and the labels that `model` gives them."""
    x = Stream(3, torch.arange(count)).uniform("x", (1, 8, 8), dtype=dtype)
    with torch.no_grad():
        return x, model(x).argmax(dim=1)


def attacked(engine, name, norm, *, seed=0, eps=None, model=None, count=12, **options):
    model = net() if model is None else model
    dtype = next(model.parameters()).dtype
    # Of a fresh net: `model` may be in training mode, where it draws random numbers.
    x, y = images(net(dtype), count, dtype)
    threat = ThreatModel(norm, RADII[norm] if eps is None else eps)
    return x, y, engine_of(engine).attack(model, x, y, short(name, **options), threat, seed)

"""Attacks by registered name. Importing this room imports no torch."""

from __future__ import annotations

from drelu_cli.core.registry import Registry

ATTACKS = Registry(
    "attack",
    {
        "fgsm": "drelu_cli.attacks.fgsm:fgsm",
        "pgd": "drelu_cli.attacks.pgd:pgd",
        "apgd_ce": "drelu_cli.attacks.apgd:apgd_ce",
        "apgd_dlr": "drelu_cli.attacks.apgd:apgd_dlr",
        "apgd_margin": "drelu_cli.attacks.apgd_margin:apgd_margin",
        "apgd_ce_rescaled": "drelu_cli.attacks.apgd_margin:apgd_ce_rescaled",
        "apgd_t": "drelu_cli.attacks.apgd_targeted:apgd_t",
        "fab_t": "drelu_cli.attacks.fab:fab_t",
        "cw_l2": "drelu_cli.attacks.cw:cw_l2",
        "square": "drelu_cli.attacks.square:square",
        "apgd_guided": "drelu_cli.attacks.guided:apgd_guided",
        "apgd_restarts": "drelu_cli.attacks.restarts:apgd_restarts",
        "nes": "drelu_cli.attacks.nes:nes",
        "uniform_draws": "drelu_cli.attacks.draws:uniform_draws",
    },
    group="drelu.attacks",
    open_names=True,
)

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
        "cw_l2": "drelu_cli.attacks.cw:cw_l2",
        "square": "drelu_cli.attacks.square:square",
    },
    group="drelu.attacks",
    open_names=True,
)

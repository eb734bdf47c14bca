"""Checks of the court by registered name. Importing this room imports no torch."""

from __future__ import annotations

from drelu_cli.core.registry import Registry

_HERE = "drelu_cli.evaluation.evidence"

EVIDENCE = Registry(
    "evidence check",
    {
        "zero_gradient": f"{_HERE}.gradients:zero_gradient",
        "saturation": f"{_HERE}.layers:saturation_of_layers",
        "order": f"{_HERE}.order:pgd_below_fgsm",
        "blackbox": f"{_HERE}.order:blackbox_stronger",
        "zero_gradient_float64": f"{_HERE}.gradients:zero_gradient_float64",
        "loss_scale": f"{_HERE}.order:loss_scale",
        "ties": f"{_HERE}.order:walk_with_ties",
        "transfer": f"{_HERE}.order:transfer_stronger",
        "effort": f"{_HERE}.order:twice_the_effort",
        "random_draws": f"{_HERE}.order:random_draws",
        "large_radius": f"{_HERE}.radius:large_radius",
        "loss_noise": f"{_HERE}.noise:loss_noise",
        "binarisation": f"{_HERE}.binarisation:binarisation",
    },
    group="drelu.evidence",
)

"""What the speed table holds: one row per attack and network, with its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from drelu_cli.core.records import Norm

Mode = Literal["attack", "curve", "suite"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        group: what `--rows` names.
        net: a name from `speed_nets`.
        attack: a registered attack.
        target: ratio to the fastest peer that is to be reached.
        samples: images, all of them classified correctly.
        rounds: paired rounds that count; one more comes before them.
        norm: of the threat; its radius is the net's.
        options: of the attack.
        mode: one attack; ten radii of one attack; or the suite `whitebox` attack by attack.
        note: what the reader must know.
    """

    group: str
    net: str
    attack: str
    target: float
    samples: int
    rounds: int = 3
    norm: Norm = "linf"
    options: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "attack"
    note: str = ""

    @property
    def name(self) -> str:
        """The row's name in files and tables."""
        return f"{self.group}, {self.net}"


FOUR = ("dense", "dense AT", "CNN", "CNN AT")
SHARES = tuple(number / 10 for number in range(1, 11))
"""The ten radii of a curve, as shares of the net's eps."""


def _on_four(
    group: str, attack: str, targets: tuple[float, ...], samples: int, rounds: int
) -> list[Row]:
    """The four networks; the dense ones are fast enough for more images and rounds."""
    return [
        Row(group, net, attack, target, *((1000, 5) if "dense" in net else (samples, rounds)))
        for net, target in zip(FOUR, targets, strict=True)
    ]


def _square(net: str, target: float, samples: int, rounds: int) -> Row:
    return Row("square", net, "square", target, samples, rounds, options={"queries": 1000})


def _cw(group: str, net: str, target: float, samples: int, **options: Any) -> Row:
    return Row(group, net, "cw_l2", target, samples, 3, norm="l2", options=options)


ROWS = [
    *_on_four("fgsm", "fgsm", (1.0,) * 4, 1000, 5),
    *_on_four("pgd", "pgd", (4.0, 1.5, 1.3, 1.0), 200, 3),
    *_on_four("apgd_ce", "apgd_ce", (5.0, 1.3, 1.2, 1.0), 128, 3),
    *_on_four("apgd_dlr", "apgd_dlr", (4.0, 1.3, 1.1, 1.0), 128, 3),
    _square("dense", 2.5, 500, 3),
    _square("CNN", 3.0, 100, 3),
    _square("resnet18", 1.2, 4, 1),
    _cw("cw_l2 bound", "dense", 3.0, 100),
    _cw("cw_l2 bound", "dense AT", 3.0, 100),
    _cw("cw_l2 exact", "dense", 1.1, 100, exact=True),
    Row("curve", "dense AT", "pgd", 2.0, 1000, 3, mode="curve"),
    Row("curve", "dense", "pgd", 4.0, 1000, 3, mode="curve"),
    Row("whitebox", "dense D-ReLU", "whitebox", 8.0, 100, 3, mode="suite"),
]

"""Rules on accuracies that an honest evaluation cannot give: signs of gradient masking."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drelu_cli.stats.audit.findings import (
    LINF_WHITE_BOX,
    Finding,
    NotChecked,
    finding,
    need,
    need_attacks,
    place_of,
    rows_by_attack,
)

if TYPE_CHECKING:
    import pandas as pd

# Largest L2 distance from a test image to the nearest image of another class, pixels in [0, 1].
# Measured: MNIST over 1,000 test images, CIFAR-10 over 500. At any larger bound an attack
# that replaces the image succeeds always, so the true robust accuracy is 0.
NEAREST_OTHER_CLASS = {"mnist": 9.2, "cifar10": 16.2}


def adversarial_above_clean(frame: pd.DataFrame) -> list[Finding]:
    """Any attack above the row's own clean value; one per row.

    An attack may return the clean image, so robust accuracy is at most clean accuracy.
    Source: Carlini et al. 2019 (arXiv 1902.06705), section 4.
    """
    need_attacks(frame, "clean")
    rows = rows_by_attack(frame)
    attacks = [name for name in dict.fromkeys(frame["attack"]) if name != "clean"]
    found = []
    for row in rows.to_dict("records"):
        above = [name for name in attacks if row[name] > row["clean"]]
        if not above:
            continue
        worst = max(above, key=lambda name: row[name])
        listed = ", ".join(f"{name} {row[name]:.2f}" for name in above)
        found.append(
            finding(
                "adversarial-above-clean",
                "error",
                {**place_of(row), "attack": worst},
                f"accuracy under attack ({listed}) above the clean {row['clean']:.2f}",
                printed=row[worst],
                recomputed=row["clean"],
            )
        )
    return found


def iterative_weaker_than_single_step(frame: pd.DataFrame) -> list[Finding]:
    """PGD above FGSM; one per row.

    Source: Athalye et al. 2018 (arXiv 1802.00420), section 3.1: one-step attacks that beat
    iterative ones are a sign of masked gradients.
    """
    need_attacks(frame, "fgsm", "pgd")
    return [
        finding(
            "iterative-weaker-than-single-step",
            "warning",
            {**place_of(row), "attack": "pgd"},
            f"PGD leaves {row['pgd']:.2f}, FGSM only {row['fgsm']:.2f}",
            printed=row["pgd"],
            recomputed=row["fgsm"],
        )
        for row in rows_by_attack(frame).to_dict("records")
        if row["pgd"] > row["fgsm"]
    ]


def blackbox_stronger_than_whitebox(frame: pd.DataFrame) -> list[Finding]:
    """Square below the lowest Linf white-box value of the same configuration; one per row.

    Same configuration: data set, model, training and training images; the white-box row may
    stand in another table. Source: Athalye et al. 2018, section 3.1; Carlini et al. 2019,
    section 4.
    """
    need_attacks(frame, "square")
    white = [name for name in LINF_WHITE_BOX if name in set(frame["attack"])]
    if not white:
        raise NotChecked("the table has no Linf white-box column")
    rows = rows_by_attack(_with_images(frame))
    rows["images"] = (
        _with_images(frame)
        .drop_duplicates(["table", "dataset", "model", "training"])["data"]
        .to_list()
    )
    lowest = rows.assign(lowest=rows[white].min(axis=1)).dropna(subset=["lowest"])
    best = {
        key: (group["lowest"].min(), group["clean"].iloc[0] if "clean" in group else math.nan)
        for key, group in lowest.groupby(["dataset", "model", "training", "images"])
    }
    return [
        _blackbox_finding(row, *best[row["dataset"], row["model"], row["training"], row["images"]])
        for row in rows.dropna(subset=["square"]).to_dict("records")
        if row["square"]
        < best.get((row["dataset"], row["model"], row["training"], row["images"]), (-math.inf, 0))[
            0
        ]
    ]


def _blackbox_finding(row: Mapping[Any, Any], lowest: float, clean: float) -> Finding:
    message = (
        f"Square leaves {row['square']:.2f}, the best Linf white-box attack {lowest:.2f}: "
        f"{lowest - row['square']:.2f} points less without gradients"
    )
    own = row.get("clean", math.nan)
    if own != clean and not math.isnan(own) and not math.isnan(clean):
        message += f" (the clean values of the two rows differ: {own:.2f} and {clean:.2f})"
    return finding(
        "blackbox-stronger-than-whitebox",
        "warning",
        {**place_of(row), "attack": "square"},
        message,
        printed=row["square"],
        recomputed=lowest,
    )


def impossible_at_bound(frame: pd.DataFrame) -> list[Finding]:
    """Accuracy above 0 under an L2 bound beyond the nearest image of another class; one per cell.

    Needs the columns `norm` and `eps`, and a data set whose largest such distance is known.
    Source: the distances in `NEAREST_OTHER_CLASS`, measured; Carlini et al. 2019, section 4 (at
    an unbounded distortion an attack must reach 100 % success).
    """
    need(frame, "norm", "eps")
    distances = frame["dataset"].map(
        lambda name: NEAREST_OTHER_CLASS.get(re.sub(r"[^a-z0-9]", "", str(name).lower()))
    )
    if distances.isna().all():
        raise NotChecked("the largest distance between classes is not known for these data sets")
    wrong = frame[
        (frame["norm"] == "l2") & (frame["eps"] > distances.astype(float)) & (frame["accuracy"] > 0)
    ]
    return [
        finding(
            "impossible-at-bound",
            "error",
            cell,
            f"{cell['accuracy']:.2f} % left at an L2 bound of {cell['eps']:g}, though an image of "
            f"another class lies within {distances[index]:g}: the attack failed",
            printed=cell["accuracy"],
            recomputed=0.0,
        )
        for index, cell in zip(wrong.index, wrong.to_dict("records"), strict=True)
    ]


def _with_images(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a `data` column; tables that name none trained all on the same images."""
    return frame if "data" in frame.columns else frame.assign(data="")

"""How plots look: colours that colour-blind readers tell apart, markers, marks of verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drelu_cli.core.records import MASKED, NO_FAILURE, NOT_EXAMINED, SUSPICIOUS
from drelu_cli.report.layout import CLEAN, attack_name, eps_text

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

ADAPTIVE = "adaptive"
REFERENCE = "reference"
GREY = "#767676"
DASHED = (0, (4, 1.5))
CLEAN_LINE = {"linestyle": (0, (1, 1.2)), "linewidth": 1.0}

# Okabe & Ito 2008, "Color Universal Design"; their yellow is too pale for lines on white.
BLACK = "#000000"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#5B5B5B")
MARKERS = ("o", "s", "^", "v", "D", ">", "p", "<", "h", "8")

# Series keep their colour and marker from figure to figure.
_SERIES = {
    CLEAN: ("#009E73", "o"),
    "fgsm": ("#E69F00", "v"),
    "pgd": ("#0072B2", "s"),
    "apgd_ce": ("#D55E00", "^"),
    "apgd_dlr": ("#CC79A7", "D"),
    "cw_l2": ("#7A6A00", "p"),
    "square": ("#56B4E9", ">"),
    "claimed": ("#0072B2", "s"),
    "standard": ("#56B4E9", "^"),
    ADAPTIVE: (BLACK, "d"),
}
_OTHERS = ("#5B5B5B", "#8C510A", "#44AA99", "#882255")

_NAMES = {
    "claimed": "claimed (white box)",
    ADAPTIVE: "adaptive (the court)",
    "gap": "train - validation",
    "loss": "validation loss",
}
_SMALL_SIZE = 3.6
SMALL = "small"  # filled, but small: nobody has looked
VERDICT_MARKS = {
    MASKED: ("none", "masked: not to be believed"),
    SUSPICIOUS: ("left", "suspicious"),
    NO_FAILURE: ("full", "no failure found"),
    NOT_EXAMINED: (SMALL, "not examined"),
}
AXIS_LABELS = {
    "lambda": "weight of the cap penalty, lambda",
    "cap": "cap m (learnable caps: where it starts)",
    "m": "static cap m",
    "weight": "weight of the sensitivity term",
    "placement": "place of the activation",
    "epoch": "epoch",
    "sensitivity": "sensitivity: mean log-width of the output box",
}
ACCURACY = "accuracy (%)"


def style() -> AbstractContextManager[None]:
    """Settings under which figures are made and written: the user's own change nothing."""
    import matplotlib
    from matplotlib import rc_context

    fixed: dict[Any, Any] = {
        "svg.hashsalt": "drelu",
        "svg.fonttype": "none",
        "font.family": ["DejaVu Sans"],
        "font.size": 8.5,
        "axes.titlesize": 9,
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E2E2E2",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.2,
        "lines.markersize": 5.5,
    }
    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k in _SETTABLE}
    context: AbstractContextManager[None] = rc_context({**defaults, **fixed})
    return context


# What a user's matplotlibrc may set that would change the picture.
_SETTABLE = frozenset(
    {
        "axes.facecolor", "axes.edgecolor", "axes.labelcolor", "axes.linewidth", "axes.prop_cycle",
        "figure.facecolor", "figure.dpi", "lines.linestyle", "lines.markeredgewidth",
        "savefig.bbox", "savefig.facecolor", "savefig.pad_inches", "savefig.transparent",
        "text.color", "text.usetex", "xtick.color", "ytick.color", "legend.frameon",
    }
)  # fmt: skip


def look_of(series: str, place: int = 0) -> tuple[str, str]:
    """Colour and marker of a series; `place` among those that have none of their own."""
    known = _SERIES.get(series)
    if known is not None:
        return known
    return _OTHERS[place % len(_OTHERS)], MARKERS[-1 - place % len(MARKERS)]


def name_of_series(series: str) -> str:
    """How a legend writes a series."""
    return _NAMES.get(series) or attack_name(series)


def fill_of(series: str, verdict: Any) -> str:
    """The marker's filling: open where an attack's number belongs to a masked net.

    The clean and the adaptive column do not rest on the gradients that a verdict is about.
    """
    if series in (CLEAN, ADAPTIVE):
        return "full"
    return VERDICT_MARKS.get(word_of(verdict), ("full", ""))[0]


def marker_of(fill: str) -> dict[str, Any]:
    """Line2D's properties of a filling."""
    if fill == SMALL:
        return {"markersize": _SMALL_SIZE, "markeredgewidth": 0.0}
    common: dict[str, Any] = {"fillstyle": fill, "markeredgewidth": 1.2}
    if fill == "none":
        return {**common, "markerfacecolor": "white"}
    return {**common, "markerfacecoloralt": "white"}


def word_of(verdict: Any) -> str:
    """`masked` of `masked 2/3`; '' where there is none."""
    text = verdict if isinstance(verdict, str) else ""
    return next((word for word in VERDICT_MARKS if text.startswith(word)), "")


def threat_words(norm: str, eps: float) -> str:
    """`Linf 0.1` as axis titles write it."""
    return f"{'Linf' if norm == 'linf' else norm.upper()} {eps_text(eps)}"

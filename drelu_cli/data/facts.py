"""What each data set declares: shape, classes, threat, training defaults. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """Defaults of one data set.

    Attributes:
        eps: Linf radius in pixel units.
        l2_bound: bound at which CW-L2 is reported in `whitebox`.
        epochs: default length of a training phase.
        batch: default batch size.
        lambda_: default weight of the cap penalty.
        generated_share: part of an epoch that is drawn from generated images, where there are any.
        normalize: whether nets bring each channel to mean 0 and standard deviation 1.
    """

    eps: float
    l2_bound: float
    epochs: int
    batch: int
    lambda_: float = 0.1
    generated_share: float = 0.7
    normalize: bool = True


# Source: the source paper for eps (0.1 MNIST family, 0.01 others) and the share of generated
# images; the l2 bounds and lengths are drelu's own choices, docs/concepts.md gives the
# measurements behind them. Nets of the MNIST family see pixels in [0, 1] as they are, the usual
# choice there; what normalising them changes is measured in docs/benchmarks/court.md.
FACTS = {
    "digits": Facts(eps=0.2, l2_bound=0.8, epochs=50, batch=32, lambda_=1.0),
    "mnist": Facts(eps=0.1, l2_bound=1.5, epochs=15, batch=128, normalize=False),
    "fashion_mnist": Facts(eps=0.1, l2_bound=1.5, epochs=15, batch=128, normalize=False),
    "cifar10": Facts(eps=0.01, l2_bound=0.5, epochs=30, batch=128),
    "cifar100": Facts(eps=0.01, l2_bound=0.5, epochs=30, batch=128),
    "tiny_imagenet": Facts(eps=0.01, l2_bound=0.5, epochs=30, batch=64, generated_share=0.8),
    "stl10": Facts(eps=0.01, l2_bound=0.5, epochs=30, batch=64),
}
OTHERS = Facts(eps=0.01, l2_bound=0.5, epochs=30, batch=64)


def facts(name: str) -> Facts:
    """The defaults of the data set `name`; unknown names get those of `others`."""
    return FACTS.get(name, OTHERS)

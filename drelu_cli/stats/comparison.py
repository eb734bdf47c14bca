"""Every test on one set of blocks, in one record."""

from __future__ import annotations

from dataclasses import dataclass

from drelu_cli.core.errors import BadValue, UnknownName
from drelu_cli.stats.anova import Anova, RepeatedAnova, one_way_anova, repeated_measures_anova
from drelu_cli.stats.bayes import BayesPair, bayes_pairs
from drelu_cli.stats.blocks import Blocks
from drelu_cli.stats.dependence import Dependence, dependence
from drelu_cli.stats.distributions import alpha_levels
from drelu_cli.stats.friedman import Friedman, friedman
from drelu_cli.stats.pairwise import PairTest, pair_tests, smallest_signed_rank_p
from drelu_cli.stats.posthoc import BonferroniDunn, Nemenyi, bonferroni_dunn, nemenyi

ROPE = 1.0  # percentage points of accuracy: Benavoli et al. 2017, section 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tests on one table.

    Attributes:
        dependence: of the blocks tested.
        smallest_p: smallest p of the exact signed-rank test with this many blocks.
        smallest_p_holm: the same after Holm over all pairs; above alpha no pair can be told
            apart whatever the accuracies are.
    """

    blocks: Blocks
    alpha: float
    ranks: str
    control: str | None
    rope: float
    dependence: Dependence
    anova: Anova
    rm_anova: RepeatedAnova
    friedman: Friedman
    nemenyi: Nemenyi
    bonferroni_dunn: BonferroniDunn
    pairs: tuple[PairTest, ...]
    bayes: tuple[BayesPair, ...]
    smallest_p: float
    smallest_p_holm: float

    @property
    def underpowered(self) -> bool:
        """No outcome whatever could be significant at `alpha` after Holm."""
        return self.smallest_p_holm > self.alpha


def compare_treatments(
    blocks: Blocks,
    *,
    seed: int,
    alpha: float = 0.05,
    control: str | None = None,
    ranks: str = "recomputed",
    rope: float = ROPE,
) -> Comparison:
    """All tests on `blocks`.

    Args:
        blocks: complete blocks.
        seed: of the Bayesian test's draws.
        alpha: level of the sentences; tables print .10, .05 and .01 too.
        control: the treatment that Bonferroni-Dunn compares with all others.
        ranks: `recomputed` from the accuracies, or `printed` as the table has them.
        rope: half width of practical equivalence, percentage points.

    Raises:
        BadValue: alpha, rope or ranks out of range; no printed ranks.
        UnknownName: a control that is no treatment.
    """
    _check(blocks, alpha, control, ranks, rope)
    levels = alpha_levels(alpha)
    n, names = len(blocks.names), blocks.treatments
    test = friedman(
        blocks.values,
        printed_ranks=blocks.printed_ranks if ranks == "printed" else None,
        alphas=levels,
    )
    pairs = pair_tests(names, blocks.values)
    smallest = smallest_signed_rank_p(n)
    return Comparison(
        blocks=blocks,
        alpha=alpha,
        ranks=ranks,
        control=control,
        rope=rope,
        dependence=dependence(blocks.values, blocks.networks, blocks.columns),
        anova=one_way_anova(blocks.values, levels),
        rm_anova=repeated_measures_anova(blocks.values, levels),
        friedman=test,
        nemenyi=nemenyi(names, test.average_ranks, n, levels),
        bonferroni_dunn=bonferroni_dunn(names, test.average_ranks, n, control, levels),
        pairs=pairs,
        bayes=bayes_pairs(names, blocks.values, rope=rope, seed=seed),
        smallest_p=smallest,
        smallest_p_holm=min(1.0, smallest * len(pairs)),
    )


def _check(blocks: Blocks, alpha: float, control: str | None, ranks: str, rope: float) -> None:
    if not 0 < alpha < 1:
        raise BadValue(f"--alpha {alpha:g} is outside (0, 1)", hint="write --alpha 0.05")
    if not 0 <= rope < 100:
        raise BadValue(f"--rope {rope:g} is outside 0 .. 100", hint="percentage points, e.g. 1")
    if ranks not in ("recomputed", "printed"):
        raise BadValue(f"--ranks '{ranks}' is unknown", hint="known: recomputed, printed")
    if ranks == "printed" and blocks.printed_ranks is None:
        raise BadValue(
            "this table has no printed ranks for these blocks",
            hint="use --ranks recomputed; printed ranks belong to --blocks cell",
        )
    if control is not None and control not in blocks.treatments:
        raise UnknownName.among("control", control, blocks.treatments)

"""The rules of the audit by code. Importing this room imports no pandas.

A rule is a function of one prepared frame that returns findings; its docstring names its source.
"""

from __future__ import annotations

from drelu_cli.core.registry import Registry

AUDIT_RULES = Registry(
    "audit rule",
    {
        "rank-mismatch": "drelu_cli.stats.audit.ranks:rank_mismatch",
        "tie-printed-as-order": "drelu_cli.stats.audit.ranks:tie_printed_as_order",
        "adversarial-above-clean": "drelu_cli.stats.audit.masking:adversarial_above_clean",
        "iterative-weaker-than-single-step": (
            "drelu_cli.stats.audit.masking:iterative_weaker_than_single_step"
        ),
        "blackbox-stronger-than-whitebox": (
            "drelu_cli.stats.audit.masking:blackbox_stronger_than_whitebox"
        ),
        "same-configuration-differs": (
            "drelu_cli.stats.audit.consistency:same_configuration_differs"
        ),
        "off-grid": "drelu_cli.stats.audit.consistency:off_grid",
        "correlated-blocks": "drelu_cli.stats.audit.design:correlated_blocks",
        "underpowered": "drelu_cli.stats.audit.design:underpowered",
        "impossible-at-bound": "drelu_cli.stats.audit.masking:impossible_at_bound",
    },
    group="drelu.audit_rules",
)

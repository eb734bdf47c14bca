"""Proven bounds of a network's outputs over a ball: interval and CROWN-type.

`certify.interval.interval_bounds`, `certify.crown.crown_margins`, `certify.decision.certified`.
"""

from __future__ import annotations

from typing import Final

METHOD: Final = "crown"
"""The method whose certificates are stored: what cheaper bounds prove, it proves too."""
VERSION = 1
"""Of what the methods prove; raised when they prove something else. Stored with certificates."""

"""Proven bounds of a network's outputs over a ball: interval and CROWN-type.

`certify.interval.interval_bounds`, `certify.crown.crown_margins`, `certify.decision.certified`.
"""

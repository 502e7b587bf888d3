"""What neighbours in the survey may say about each other's masks."""

from typing import Literal

MosaicRule = Literal[
    "empty_below_caps",
    "extrude_vertical",
    "extrude_almost_vertical",
    "fill_between",
    "extrude_both_ways",
    "extrude_semi_vertical",
    "empty_below_predicted_caps",
    "extrude_predicted",
    "interpolate_empty",
]
"""The rules of `predict/mosaic_rules.py`, where each says what it does and who had it."""

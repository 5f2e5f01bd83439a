"""Avalanche plugins, usable on any strategy whose model has what their docstrings ask for."""

from avalanche_care.plugins.alignment import ClassifierAlignmentPlugin
from avalanche_care.plugins.class_counts import ClassCounts
from avalanche_care.plugins.ema import SharedExpertEMAPlugin
from avalanche_care.plugins.expansion import ExpansionPlugin, TripletExpansionPlugin
from avalanche_care.plugins.progress import ProgressPlugin
from avalanche_care.plugins.silent import silent_evaluator

__all__ = [
    "ClassCounts",
    "ClassifierAlignmentPlugin",
    "ExpansionPlugin",
    "ProgressPlugin",
    "SharedExpertEMAPlugin",
    "TripletExpansionPlugin",
    "silent_evaluator",
]

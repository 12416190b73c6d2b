"""Prompt travel: prompts that change over a clip. Three syntaxes are parsed into one kind of prompt schedule."""
from __future__ import annotations

from animatediff.travel.convert import SYNTAXES, changes, convert
from animatediff.travel.fizz import weights
from animatediff.travel.parse import Options, both, schedule, syntax_of
from animatediff.travel.schedule import EASINGS, INTERPOLATIONS, Key, Mix, Schedule
from animatediff.travel.table import table
from animatediff.travel.template import NAMES

__all__ = ["EASINGS", "INTERPOLATIONS", "NAMES", "SYNTAXES", "Key", "Mix", "Options", "Schedule", "both", "changes",
           "convert", "schedule", "syntax_of", "table", "weights"]

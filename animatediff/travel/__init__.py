"""Prompt travel: prompts that change over a clip, in three syntaxes that become one schedule."""
from __future__ import annotations

from .convert import SYNTAXES, convert
from .fizz import weights
from .parse import both, schedule, syntax_of
from .schedule import EASINGS, INTERPOLATIONS, Key, Mix, Schedule
from .table import table

__all__ = ["EASINGS", "INTERPOLATIONS", "SYNTAXES", "Key", "Mix", "Schedule", "both", "convert", "schedule",
           "syntax_of", "table", "weights"]

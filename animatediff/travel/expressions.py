"""Expressions in prompts, such as `0.5 + sin(t/max_f)`. They are compiled once and evaluated per frame in float64.

An expression may contain numbers, names, + - * / // % **, comparisons, `a if b else c`, and functions of Python's math
and of numexpr, which FizzNodes uses. Functions that both have work under both names. Each operation takes constant
time, because no value is larger than a float can hold. `audio(bass)` is a level of the clip's sound: see Follow.
"""
from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from animatediff.errors import SettingsError, quoted

AUDIO = "audio"
LONGEST, DEEPEST = 1000, 100  # characters; nesting levels
LEVELS = ("bass", "mid", "treble", "loudness", "onset")  # of a sound
SLOWEST = 60.0  # seconds of attack and decay


@dataclass(frozen=True)
class Follow:
    """`audio(LEVEL, attack, decay)`: a level of the sound, 0 to 1, in each frame. attack, decay: the seconds in which
    it covers about two thirds of a way up and down."""

    level: str
    attack: float = 0.0
    decay: float = 0.0

    def __str__(self) -> str:
        times = "".join(f", {seconds:g}" for seconds in (self.attack, self.decay)) if self.attack or self.decay else ""
        return f"audio({self.level}{times})"


Levels = Callable[[Follow], Sequence[float]]  # of each frame
Values = Mapping[str, float]  # of names, and of each Follow by its text
_Compute = Callable[[Values], float]


def _power(a: float, b: float) -> float:
    value = operator.pow(a, b)
    if isinstance(value, complex):
        raise ValueError("a negative number has no such power")
    return value


_ARC = {f"arc{name[1:]}": getattr(math, name) for name in ("asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh")}
FUNCTIONS: dict[str, Callable[..., float]] = {name: getattr(math, name) for name in (
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "exp",
    "expm1", "log", "log2", "log10", "log1p", "sqrt", "floor", "ceil", "trunc", "fmod", "hypot", "copysign",
)} | _ARC | {"abs": abs, "min": min, "max": max, "round": lambda x: round(x),
             "minimum": min, "maximum": max, "sign": lambda x: (x > 0) - (x < 0),
             "where": lambda condition, a, b: a if condition else b}  # fmt: skip
_OF_TWO = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: _power,
    ast.BitAnd: lambda a, b: bool(a) and bool(b), ast.BitOr: lambda a, b: bool(a) or bool(b),
}  # fmt: skip
_COMPARED = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
             ast.Eq: operator.eq, ast.NotEq: operator.ne}
_OF_ONE = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.not_}


@dataclass(frozen=True)
class Expression:
    """A compiled expression."""

    text: str
    names: tuple[str, ...]  # variables that it may use
    where: str  # the place that errors name
    follows: tuple[Follow, ...]  # levels of a sound that it needs
    _compute: _Compute = field(compare=False, repr=False)

    @classmethod
    def read(cls, text: str, names: tuple[str, ...], where: str) -> Expression:
        """Compile `text`. Raise SettingsError if it is not a valid expression."""
        try:
            if len(text) > LONGEST:
                raise _Unknown(f"it has more than {LONGEST} characters")
            tree = ast.parse(text.strip(), mode="eval").body
            compute = _compiled(tree, names, DEEPEST)
        except (_Unknown, SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as error:
            raise _refused(text, names, where, error) from None
        follows = tuple(dict.fromkeys(_follow(node) for node in ast.walk(tree) if _is_follow(node)))
        return cls(text.strip(), names, where, follows, compute)

    def at(self, frame: int, values: Values, levels: Levels | None) -> float:
        """Its value in a frame. levels: of the sound, None where there is none, which is a SettingsError for an
        expression that follows it."""
        if self.follows:
            if levels is None:
                raise SettingsError(f"{self.follows[0]} follows a sound, but there is none", where=self.where,
                                    remedy="Give a sound file with audio.")
            known = {str(each): levels(each) for each in self.follows}
            values = {**values, **{name: found[min(frame, len(found) - 1)] for name, found in known.items()}}
        return self(values)

    def __call__(self, values: Values) -> float:
        """Return the expression's value for these variables.

        Raise SettingsError if there is no finite value, for example after a division by 0.
        """
        try:
            result = float(self._compute(values))
            if not math.isfinite(result):
                raise OverflowError
            return result
        except (ArithmeticError, ValueError, TypeError) as error:
            raise _refused(self.text, self.names, self.where, error) from None


class _Unknown(Exception):
    """An expression contains something that is not supported."""


def _refused(text: str, names: tuple[str, ...], where: str, error: Exception) -> SettingsError:
    why = "a function has the wrong number of arguments" if isinstance(error, TypeError) else \
        "the value is too large" if isinstance(error, OverflowError) else \
        "it is nested too deeply" if isinstance(error, (MemoryError, RecursionError)) else \
        error.msg if isinstance(error, SyntaxError) else str(error)
    return SettingsError(f"{quoted(text)} cannot be computed: {why}", where=where,
                         remedy=f"Use numbers, + - * / % **, comparisons, {', '.join([*names, *FUNCTIONS])}, {AUDIO}.")


def _compiled(node: ast.expr, names: tuple[str, ...], depth: int) -> _Compute:
    if not depth:
        raise RecursionError

    def part(node: ast.expr) -> _Compute:
        return _compiled(node, names, depth - 1)

    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            number = float(value)
            return lambda values: number
        case ast.Name(id=name) if name in names:
            return lambda values: values[name]
        case ast.UnaryOp(op=op, operand=operand):
            one, of = _OF_ONE[type(op)], part(operand)
            return lambda values: one(of(values))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OF_TWO:
            two, a, b = _OF_TWO[type(op)], part(left), part(right)
            return lambda values: two(a(values), b(values))
        case ast.BoolOp(op=op, values=parts):
            every, all_of = isinstance(op, ast.And), [part(each) for each in parts]
            return lambda values: (all if every else any)(each(values) for each in all_of)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARED for op in ops):
            return _comparison([_COMPARED[type(op)] for op in ops], [part(each) for each in (left, *others)])
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, a, b = part(test), part(body), part(orelse)
            return lambda values: a(values) if condition(values) else b(values)
        case ast.Call() if _is_follow(node):
            key = str(_follow(node))
            return lambda values: values[key]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            function, arguments = FUNCTIONS[name], [part(each) for each in args]
            return lambda values: function(*(float(each(values)) for each in arguments))
    raise _unknown(node)


def _unknown(node: ast.expr) -> _Unknown:
    match node:
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            return _Unknown(f"{quoted(name)} is not a known name")
    return _Unknown("it contains something that cannot be computed here")


def _is_follow(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == AUDIO


def _follow(node: ast.AST) -> Follow:
    match node:
        case ast.Call(args=[ast.Name(id=level), *times], keywords=named) if level in LEVELS and len(times) < 3:
            seconds = dict(zip(("attack", "decay"), times)) | {str(each.arg): each.value for each in named}
            if len(seconds) == len(times) + len(named) and seconds.keys() <= {"attack", "decay"}:
                return Follow(level, **{name: _seconds(value) for name, value in seconds.items()})
    raise _Unknown(f"after {AUDIO} stands one of {', '.join(LEVELS)}, and the seconds of attack and decay, such as "
                   f"{AUDIO}(bass) or {AUDIO}(onset, 0, 0.3)")


def _seconds(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value) if 0 <= value <= SLOWEST:
            return float(value)
    raise _Unknown(f"attack and decay are numbers of seconds from 0 to {SLOWEST:g}")


def _comparison(compare: list[Callable[[float, float], bool]], parts: list[_Compute]) -> _Compute:
    def compared(values: Values) -> bool:
        found = [each(values) for each in parts]
        return all(holds(a, b) for holds, a, b in zip(compare, found, found[1:]))

    return compared

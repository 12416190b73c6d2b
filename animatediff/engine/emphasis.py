"""The WebUI's prompt grammar: brackets with weights, BREAK, and chunks of 75 tokens that are cut at commas.

`(word)` has the weight 1.1, `[word]` 1/1.1, and `(word:1.3)` 1.3. Weights of nested brackets are multiplied. `\\(` is a
literal bracket. A bracket that is not closed extends to the end of the prompt.

One difference from the WebUI is intended: BREAK also works inside brackets. The WebUI reads it there as a word with
negative weight.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

CHUNK = 75  # tokens of text in a chunk, between its start and end tokens
BACKTRACK = 20  # a full chunk is cut at its last comma if that is within this many tokens of its end

_ROUND, _SQUARE = 1.1, 1 / 1.1
_CLOSERS = {")": ("(", _ROUND), "]": ("[", _SQUARE)}
_WEIGHT = re.compile(r":\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)")
_BREAK = re.compile(r"\bBREAK\b")
_OTHER_SYNTAX = (
    (re.compile(r"<\w{1,40}:[^<>]*>"), "the command line supports only motion LoRAs in the prompt"),
    (re.compile(r"\[[^\[\]]*:\s*[\d.]+\s*\]"), "prompt editing is not supported on the command line yet"),
    (re.compile(r"\[[^\[\]|]*\|[^\[\]]*\]"), "alternating words are not supported on the command line yet"),
    (re.compile(r"\bAND\b"), "AND is not supported on the command line yet"),
)


class Piece(NamedTuple):
    """A part of a prompt with a single weight."""

    text: str | None  # None: a BREAK
    weight: float = 1.0


class Chunk(NamedTuple):
    """The input of one pass of the text encoder."""

    tokens: tuple[int, ...]  # CHUNK + 2 ids: start token, text, end token, padding
    weights: tuple[float, ...]  # one for each token


def parse(prompt: str) -> list[Piece]:
    """Return the pieces of a prompt in order, without empty ones. Neighbours with equal weights are joined, so that
    they are tokenized as one text."""
    pieces: list[Piece] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # for each open bracket the index of its first piece
    spans: dict[str, list[_Span]] = {"(": [], "[": []}
    run: list[str] = []

    def flush() -> None:
        pieces.extend(_split("".join(run)))
        run.clear()

    def close(opener: str, factor: float) -> None:
        flush()
        spans[opener].append(_Span(opened[opener].pop(), len(pieces), factor))

    at = 0
    while at < len(prompt):
        char, step = prompt[at], 1
        if char == "\\":  # escapes a bracket or a backslash; elsewhere it is dropped
            if (escaped := prompt[at + 1 : at + 2]) and escaped in "()[]\\":
                run.append(escaped)
                step = 2
        elif char in opened:
            flush()
            opened[char].append(len(pieces))
        elif char == ":" and opened["("] and (weight := _WEIGHT.match(prompt, at)):
            close("(", float(weight[1]))
            step = weight.end() - at
        elif char in _CLOSERS and opened[_CLOSERS[char][0]]:
            close(*_CLOSERS[char])
        else:
            run.append(char)
        at += step
    flush()
    for opener, factor in (("(", _ROUND), ("[", _SQUARE)):
        while opened[opener]:
            close(opener, factor)
    return _joined(_weighted(pieces, spans.values()))


def _weighted(pieces: Sequence[Piece], spans: Iterable[Iterable[_Span]]) -> Iterator[Piece]:
    """The pieces with the weights of the round and of the square brackets around them."""
    weights = [a * b for a, b in zip(*(_products(each, len(pieces)) for each in spans))]
    return (Piece(p.text, 1.0 if p.text is None else weight) for p, weight in zip(pieces, weights))


def _split(text: str) -> Iterator[Piece]:
    """The text's parts, with a BREAK between two."""
    first, *others = _BREAK.split(text)
    yield Piece(first.rstrip() if others else first)
    for number, part in enumerate(others, 1):
        yield Piece(None)
        yield Piece(part.strip() if number < len(others) else part.lstrip())


class _Span(NamedTuple):
    """The pieces inside a pair of brackets."""

    start: int  # index of the first piece
    end: int  # index after the last piece
    factor: float  # weight of the brackets


def _products(spans: Iterable[_Span], count: int) -> list[float]:
    """Return for each of `count` pieces the product of the factors of all spans around it.

    spans: nested or disjoint.
    """
    waiting = sorted(spans, key=lambda span: (-span.start, span.end))  # the next span is last; of several, the widest
    around, products = [_Span(0, count, 1.0)], []
    for place in range(count):
        while around[-1].end <= place:
            around.pop()
        while waiting and waiting[-1].start == place:
            span = waiting.pop()
            if span.end > place:
                around.append(span._replace(factor=around[-1].factor * span.factor))
        products.append(around[-1].factor)
    return products


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    result: list[Piece] = []
    for weight, together in groupby((p for p in pieces if p.text != ""), key=lambda p: p.text is not None and p.weight):
        alike = list(together)
        result += alike if weight is False else [Piece("".join(p.text or "" for p in alike), alike[0].weight)]
    return result


def chunks(pieces: Iterable[tuple[Sequence[int] | None, float]], *, start: int, end: int, comma: int | None,
           length: int = CHUNK, backtrack: int = BACKTRACK) -> tuple[list[Chunk], int]:
    """Return the chunks of a prompt, at least one, and its number of tokens.

    A full chunk is cut after its last comma if that is within `backtrack` tokens of its end, so that a phrase stays
    whole. Tokens are counted as in the WebUI: every chunk except the last counts as full.

    pieces: token ids with their weight; None is a BREAK.
    start, end, comma: ids of the start token, the end token and the comma. comma None: the vocabulary has none.
    length: tokens of text in a chunk.
    """
    done: list[list[tuple[int, float]]] = []
    current: list[tuple[int, float]] = []
    last_comma: int | None = None

    def close(rest: Sequence[tuple[int, float]] = ()) -> None:
        nonlocal current, last_comma
        done.append(current)
        # The next chunk is not cut at a comma that is carried over, as in the WebUI.
        current, last_comma = list(rest), None

    for ids, weight in pieces:
        if ids is None:
            close()
            continue
        for token in ids:
            if token == comma:
                last_comma = len(current)
            elif len(current) == length and last_comma is not None and length - last_comma <= backtrack:
                rest = current[last_comma + 1 :]
                del current[last_comma + 1 :]
                close(rest)
            if len(current) == length:
                close()
            current.append((token, weight))
    count = len(done) * length + len(current)
    if current or not done:
        close()
    return [_padded(row, start, end, length) for row in done], count


def empty_chunk(*, start: int, end: int, length: int = CHUNK) -> Chunk:
    """Return the chunk of an empty prompt, which pads shorter prompts."""
    return _padded([], start, end, length)


def _padded(row: Sequence[tuple[int, float]], start: int, end: int, length: int) -> Chunk:
    filling = length - len(row) + 1
    return Chunk(
        (start, *(token for token, _ in row), *[end] * filling), (1.0, *(weight for _, weight in row), *[1.0] * filling)
    )


def notices(prompt: str) -> list[str]:
    """Return a note for each part of the prompt that is syntax in a WebUI and is read as words here."""
    found = ((match[0], fact) for rule, fact in _OTHER_SYNTAX for match in rule.finditer(prompt))
    return [f"{text}: {fact}; it is read as words" for text, fact in found]

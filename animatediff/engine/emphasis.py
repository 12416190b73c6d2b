"""The WebUI's prompt grammar, pure: brackets that weigh words, BREAK, and chunks of 75 tokens that break at commas.

`(word)` weighs 1.1, `[word]` 1/1.1, `(word:1.3)` what is written; they nest by multiplying; `\\(` is a bracket that is
meant; what is left open reaches to the end. One thing differs from the WebUI on purpose: BREAK inside brackets breaks
there too (the WebUI reads it as a word with negative weight).
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

CHUNK = 75  # tokens of text in one pass of the encoder, between its start and end tokens
BACKTRACK = 20  # how far before a chunk's end a comma may lie for the text behind it to move to the next chunk

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
    """A stretch of text of one weight; `text` None is a BREAK."""

    text: str | None
    weight: float = 1.0


class Chunk(NamedTuple):
    """One pass of the encoder: CHUNK + 2 token ids with start, end and padding, and a weight for each."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


def parse(prompt: str) -> list[Piece]:
    """Pieces in order. Neighbours of equal weight are joined, to be tokenized as one text; empty text is left out."""
    pieces: list[Piece] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # where each open bracket's first piece is, or will be
    spans: dict[str, list[_Span]] = {"(": [], "[": []}
    run: list[str] = []

    def flush() -> None:
        pieces.extend(_split("".join(run)))
        run.clear()

    def close(opener: str, factor: float) -> None:
        spans[opener].append(_Span(opened[opener].pop(), len(pieces), factor))

    at = 0
    while at < len(prompt):
        char, step = prompt[at], 1
        if char == "\\":  # before a bracket or another one it makes it literal, elsewhere it vanishes
            if (escaped := prompt[at + 1 : at + 2]) and escaped in "()[]\\":
                run.append(escaped)
                step = 2
        elif char in opened:
            flush()
            opened[char].append(len(pieces))
        elif char == ":" and opened["("] and (weight := _WEIGHT.match(prompt, at)):
            flush()
            close("(", float(weight[1]))
            step = weight.end() - at
        elif char in _CLOSERS and opened[_CLOSERS[char][0]]:
            flush()
            close(*_CLOSERS[char])
        else:
            run.append(char)
        at += step
    flush()
    for opener, factor in (("(", _ROUND), ("[", _SQUARE)):
        while opened[opener]:
            close(opener, factor)
    weights = [a * b for a, b in zip(*(_products(each, len(pieces)) for each in spans.values()))]
    return _joined(Piece(p.text, 1.0 if p.text is None else weight) for p, weight in zip(pieces, weights))


def _split(text: str) -> Iterator[Piece]:
    """The text's parts, with a BREAK between two."""
    first, *others = _BREAK.split(text)
    yield Piece(first.rstrip() if others else first)
    for number, part in enumerate(others, 1):
        yield Piece(None)
        yield Piece(part.strip() if number < len(others) else part.lstrip())


class _Span(NamedTuple):
    """The pieces between a bracket and the one that closes it, from `start` to before `end`."""

    start: int
    end: int
    factor: float


def _products(spans: Iterable[_Span], count: int) -> list[float]:
    """The product of the factors of all spans around each of `count` pieces. Spans lie in or beside each other."""
    waiting = sorted(spans, key=lambda span: (-span.start, span.end))  # the next one, and of those the widest, is last
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
    """Cut weighted token ids (None is a BREAK) into chunks, at least one.

    A full chunk is cut behind its last comma where that lies within `backtrack` tokens of the end, so that a phrase
    stays whole. Also returns the number of tokens as the WebUI counts it: every chunk but the last counts as full.
    """
    done: list[list[tuple[int, float]]] = []
    current: list[tuple[int, float]] = []
    last_comma: int | None = None

    def close(rest: Sequence[tuple[int, float]] = ()) -> None:
        nonlocal current, last_comma
        done.append(current)
        # A comma that is carried over, or opens a chunk, is no place to cut: the WebUI forgets it as well.
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
    """The chunk of an empty prompt: what shorter prompts are padded with."""
    return _padded([], start, end, length)


def _padded(row: Sequence[tuple[int, float]], start: int, end: int, length: int) -> Chunk:
    filling = length - len(row) + 1
    return Chunk(
        (start, *(token for token, _ in row), *[end] * filling), (1.0, *(weight for _, weight in row), *[1.0] * filling)
    )


def notices(prompt: str) -> list[str]:
    """What a WebUI reads as more than words and this engine does not: one line a finding, for the caller to show."""
    found = ((match[0], fact) for rule, fact in _OTHER_SYNTAX for match in rule.finditer(prompt))
    return [f"{text}: {fact}; it is read as words" for text, fact in found]

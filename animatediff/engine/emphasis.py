"""The WebUI's prompt grammar, pure: brackets that weigh words, BREAK, and chunks of 75 tokens that break at commas.

`(word)` weighs 1.1, `[word]` 1/1.1, `(word:1.3)` what is written; they nest by multiplying; `\\(` is a bracket that is
meant; what is left open reaches to the end. One thing differs from the WebUI on purpose: BREAK inside brackets breaks
there too (the WebUI reads it as a word with negative weight).
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

CHUNK = 75  # tokens of text in one pass of the encoder, between its start and end tokens
BACKTRACK = 20  # how far before a chunk's end a comma may lie for the text behind it to move to the next chunk

_ROUND, _SQUARE = 1.1, 1 / 1.1
_CLOSERS = {")": ("(", _ROUND), "]": ("[", _SQUARE)}
_WEIGHT = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_OTHER_SYNTAX = (
    (re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>"), "of extra networks the standalone engine takes motion LoRAs in "
     "the prompt alone"),
    (re.compile(r"\[[^\[\]]*:\s*[\d.]+\s*\]"), "prompt editing is not supported by the standalone engine yet"),
    (re.compile(r"\[[^\[\]]*\|[^\[\]]*\]"), "alternating words are not supported by the standalone engine yet"),
    (re.compile(r"\bAND\b"), "AND is not supported by the standalone engine yet"),
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
    run: list[str] = []

    def flush() -> None:
        first, *others = _BREAK.split("".join(run))
        run.clear()
        pieces.append(Piece(first))
        for text in others:
            pieces.extend((Piece(None), Piece(text)))

    def scale(start: int, factor: float) -> None:
        pieces[start:] = [p if p.text is None else Piece(p.text, p.weight * factor) for p in pieces[start:]]

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
            scale(opened["("].pop(), float(weight[1]))
            step = weight.end() - at
        elif char in _CLOSERS and opened[_CLOSERS[char][0]]:
            flush()
            opener, factor = _CLOSERS[char]
            scale(opened[opener].pop(), factor)
        else:
            run.append(char)
        at += step
    flush()
    for starts, factor in ((opened["("], _ROUND), (opened["["], _SQUARE)):
        for start in starts:
            scale(start, factor)
    return _joined(pieces)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    result: list[Piece] = []
    for piece in pieces:
        if piece.text == "":
            continue
        last = result[-1] if result else None
        if last and last.text is not None and piece.text is not None and last.weight == piece.weight:
            result[-1] = Piece(last.text + piece.text, piece.weight)
        else:
            result.append(piece)
    return result


def chunks(
    pieces: Iterable[tuple[Sequence[int] | None, float]],
    *,
    start: int,
    end: int,
    comma: int | None,
    length: int = CHUNK,
    backtrack: int = BACKTRACK,
) -> tuple[list[Chunk], int]:
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
    return [f"{text}: {fact}, it is read as words" for text, fact in found]

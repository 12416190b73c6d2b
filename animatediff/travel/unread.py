"""Notes on text that looks like a key frame, a LoRA tag or a pasted infotext but is read as words."""
from __future__ import annotations

import re
from collections.abc import Iterator

from animatediff.errors import quoted
from animatediff.travel.characters import plain
from animatediff.travel.reading import Script

# A number at the start of a line in the forms that people write instead of "8: ".
_NUMBERED = re.compile(r"""\s*[\[("'<{#*-]{0,3}\s{0,3}(?:(?:key\s?)?frames?|at|f|t|from)?\s{0,3}[#=:]?\s{0,3}
    (?P<number>[+-]?\d{1,9})(?:[.,:/-]\d{1,9}){0,4}(?:e[+-]?\d{1,3})?\s{0,3}(?:%|ms|s|secs?|seconds?|f|frames?|st|nd|rd|th)?["')\]}>]{0,3}
    (?:\s{0,3}(?::(?!\d)|[=;|)>\]→➜]|->|[.–—-](?=\s)))""", re.VERBOSE | re.IGNORECASE)
_COUNT = re.compile(r"\s*(?P<number>\d{1,6})\s+(?!(?:mm|cm|k|px|fps|bit)\b)[^\W\d]")  # "8 blue", but "2 cats" as well
COUNTED = range(1, 5)  # a single line such as "2 cats" is likely a plain prompt
_RATIO = re.compile(r"\s*\d+(?:\.\d+)?\s*[:/]\s*\d+(?:\.\d+)?\s*(?:[,;\s]|$)")
_SURE = re.compile(r"""\s*(?:[{\[]{1,2}\s*["']\w | ["']\s*[+-]?\d{1,6}\s*%?\s*["']\s*[^\w\s] |
    (?:key\s?)?frame\s*\#?\s*\d+\s*[:=])""", re.VERBOSE | re.IGNORECASE)
_INSIDE = re.compile(r"[,;|/]\s*(?P<key>[\"']?-?\d{1,6}\s?%?[\"']?\s?:)(?!\d)")
_INFOTEXT = re.compile(r"\s*(?:Negative prompt\s*:|Steps\s*:\s*\d+\s*,|\S[^\n]{0,4000}?,\s*Sampler\s*:)", re.IGNORECASE)
_TAG = re.compile(r"<\w{1,40}:[^<>]+>")
_SEEMS_TAG = re.compile(r"(?<!\w)(?:lora|lyco|lycoris|locon|loha|hypernet)\s{0,3}:\s{0,3}[^\s,:][^\n]{0,40}"
                        r"|<\s{0,3}(?:lora|lyco)\b[^\n]{0,40}", re.IGNORECASE)
_SEEMS_CYCLIC = re.compile(r"\{\s*@")


def notes(script: Script, prompt: str, where: str) -> Iterator[str]:
    """Yield a note for each part of the prompt that looks like syntax but is read as words."""
    yield from _of_lines(script, prompt, where)
    for key in script.keys if script.syntax != "plain" else ():
        if found := _INSIDE.search(plain(key.text)):
            yield (f"{where}, line {key.line}: {found['key']} is inside the prompt of key frame {key.frame} and is "
                   "read as words; a key frame begins a line")
    for line, text in enumerate(prompt.splitlines(), 1):
        if _INFOTEXT.match(plain(text)):
            yield (f"{where}, line {line}: {quoted(text.strip())} looks like a picture's pasted parameters and is read "
                   "as words; take it out of the prompt")
        rest = plain(_TAG.sub("", text))
        if found := _SEEMS_TAG.search(rest):
            yield (f"{where}, line {line}: {quoted(found[0])} looks like a LoRA and is not read as one; "
                   "write <lora:NAME:WEIGHT>")
        if any(text[found.start():found.end()] != "{@" for found in _SEEMS_CYCLIC.finditer(plain(text))):
            yield f"{where}, line {line}: this looks like cyclic options and is not read as such; write {{@a|b|c}}"


def _of_lines(script: Script, prompt: str, where: str) -> Iterator[str]:
    travels = script.syntax != "plain"
    lines = [(each.line, each.text, each.behind) for each in script.loose] if travels else \
        [(number, line, True) for number, line in enumerate(prompt.splitlines(), 1)]
    last = max((key.frame for key in script.keys), default=0) if travels else -1
    found, ratios = [], []
    for number, line, behind in lines:
        text = plain(line).lstrip(" ,;")
        sure, count = _SURE.match(text), _COUNT.match(text)
        if _RATIO.match(text):
            ratios.append((number, line, False))
        elif sure or _NUMBERED.match(text) or (count and behind and int(count["number"]) > last):
            last = int(count["number"]) if count else last
            found.append((number, line, bool(sure or not count or last not in COUNTED)))
    found += ratios if len(ratios) > 1 else []  # one is an aspect ratio, 16:9; several may be times, 0:08
    if travels or len(found) > 1 or any(sure for _, _, sure in found):
        for number, line, _ in found[:5]:
            yield (f"{where}, line {number}: {quoted(line.strip())} looks like a key frame and is read as words; "
                   "write FRAME: TEXT, such as 8: a blue circle")

"""Sentences with values in them, in another language.

The host's localization replaces texts that are exactly a key, such as labels. What is written at run time is put
into another language here, by templates in sentences/LANGUAGE.json:

    "{} is out of range": "{}は範囲外です"
    "interrupted after {} of {} {}": "{1}{2}のうち{0}で中断されました"

A value is translated too, if it is a key or fits a template. Full stops at the end are left out.
"""
from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from animatediff.errors import AnimateDiffError

FOLDER = Path(__file__).parent / "sentences"
PLACE = re.compile(r"\{(#?)\}")  # of any value, or of a number
SENTENCES = re.compile(r"(?<=[^.…])\. (?=\S)")
COLON = "："


class Translation:
    """texts: by the English ones."""

    def __init__(self, texts: Mapping[str, str]):
        self.texts = texts
        templates = sorted(filter(PLACE.search, texts), key=lambda key: -len(PLACE.sub("", key)))
        self.templates = [(PLACE.split(key), texts[key], _says_much(key)) for key in templates]

    @classmethod
    def of(cls, language: str, labels: Path) -> Translation | None:
        """None for a language that there is not. labels: the folder of the host's localizations."""
        own, host = FOLDER / f"{language}.json", labels / f"{language}.json"
        if language != Path(language).name or not (own.is_file() and host.is_file()):
            return None
        return cls(json.loads(host.read_text("utf-8")) | json.loads(own.read_text("utf-8")))

    def error(self, error: AnimateDiffError) -> str:
        """An error's message; its parts are translated one by one."""
        where = f"{self.text(error.where)}{COLON}" if error.where else ""
        what = self.text(error.what)
        what = self.value(what) if what == error.what else what
        return f"{where}{_ended(what)}{_ended(self.text(error.remedy))}"

    def value(self, english: str) -> str:
        """A name or a number with its unit; what is not known stays as it is."""
        found = self._whole(english, of_values=True)
        return english if found is None else found

    def text(self, english: str) -> str:
        """A sentence or several of them."""
        found = self._whole(english)
        if found is not None:
            return found
        sentences = SENTENCES.split(english)
        if len(sentences) > 1:
            return "".join(_ended(self.text(sentence)) for sentence in sentences)
        where, colon, what = english.partition(": ")
        found = self._whole(what) if colon else None
        return english if found is None else f"{self.text(where)}{COLON}{found}"

    def _whole(self, english: str, *, of_values: bool = False) -> str | None:
        """of_values: by templates of little text, too, which many sentences would fit, such as "{} and {}"."""
        if english in self.texts:
            return self.texts[english]
        bare = english.rstrip(".")
        if bare in self.texts:
            return self.texts[bare]
        for template, text, says_much in self.templates:
            if (says_much or of_values) and (values := _values(template, bare)):
                return text.format(*map(self.value, values))
        return None


def _says_much(template: str) -> bool:
    return template[0].isalpha() or len(re.sub("[^A-Za-z]", "", template)) > 5


def _values(template: Sequence[str], english: str) -> list[str] | None:
    """What stands in the places of a template, each at least one character; None where the text does not fit. The
    texts between places are looked up one behind the other, in time in proportion to the text, which a regular
    expression would not promise. template: text, mark, text, …, as PLACE splits it."""
    first, *between = template[::2]
    if not english.startswith(first):
        return None
    values, at = [], len(first)
    for number, (mark, text) in enumerate(zip(template[1::2], between), 1):
        end = english.find(text, at + 1)
        if number == len(between):
            end = len(english) - len(text) if english.endswith(text) else -1
        if end <= at or (mark and not english[at:end].isdecimal()):
            return None
        values.append(english[at:end])
        at = end + len(text)
    return values


def _ended(sentence: str) -> str:
    sentence = sentence.rstrip(".")
    return f"{sentence}。" if sentence and sentence[-1] not in "。！？" else sentence

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
from collections.abc import Mapping
from pathlib import Path

from animatediff.errors import AnimateDiffError

FOLDER = Path(__file__).parent / "sentences"
PLACE = "{}"
SENTENCES = re.compile(r"(?<=[^.…])\. (?=\S)")
COLON = "："


class Translation:
    """texts: by the English ones."""

    def __init__(self, texts: Mapping[str, str]):
        self.texts = texts
        templates = sorted((key for key in texts if PLACE in key), key=lambda key: -len(key.replace(PLACE, "")))
        self.templates = [(re.compile("(.+?)".join(map(re.escape, key.split(PLACE))), re.DOTALL), texts[key])
                          for key in templates]

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
        return f"{where}{_ended(self.text(error.what))}{_ended(self.text(error.remedy))}"

    def value(self, english: str) -> str:
        """A name or a number with its unit; what is not known stays as it is."""
        found = self._whole(english)
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

    def _whole(self, english: str) -> str | None:
        if english in self.texts:
            return self.texts[english]
        bare = english.rstrip(".")
        if bare in self.texts:
            return self.texts[bare]
        for pattern, text in self.templates:
            if match := pattern.fullmatch(bare):
                return text.format(*map(self.value, match.groups()))
        return None


def _ended(sentence: str) -> str:
    sentence = sentence.rstrip(".")
    return f"{sentence}。" if sentence and sentence[-1] not in "。！？" else sentence

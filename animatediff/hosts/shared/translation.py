"""Translation of sentences that contain values.

The host's localization replaces texts that equal a key, such as labels. Texts composed at run time are translated here,
with templates from sentences/LANGUAGE.json:

    "{} is out of range": "{}は範囲外です"
    "interrupted after {} of {} {}": "{1}{2}のうち{0}で中断されました"

A value is translated too, if it is a key or matches a template. Full stops at the end are left out of the keys.
"""
from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from animatediff.errors import AnimateDiffError

FOLDER = Path(__file__).parent / "sentences"
PLACE = re.compile(r"\{(#?)\}")  # {}: any value; {#}: a number
SENTENCES = re.compile(r"(?<=[^.…])\. (?=\S)")
COLON = "："


class Translation:
    """The translations of one language. texts: English text or template -> translation."""

    def __init__(self, texts: Mapping[str, str]):
        self.texts = texts
        templates = sorted(filter(PLACE.search, texts), key=lambda key: -len(PLACE.sub("", key)))
        self.templates = [(PLACE.split(key), texts[key], _says_much(key)) for key in templates]

    @classmethod
    def of(cls, language: str, labels: Path) -> Translation | None:
        """Return the translations of a language, or None if there are none. labels: folder of the host's localizations.
        """
        own, host = FOLDER / f"{language}.json", labels / f"{language}.json"
        if language != Path(language).name or not (own.is_file() and host.is_file()):
            return None
        return cls(json.loads(host.read_text("utf-8")) | json.loads(own.read_text("utf-8")))

    def error(self, error: AnimateDiffError) -> str:
        """Return an error's message. Its parts are translated one by one."""
        where = f"{self.text(error.where)}{COLON}" if error.where else ""
        what = self.text(error.what)
        what = self.value(what) if what == error.what else what
        return f"{where}{_ended(what)}{_ended(self.text(error.remedy))}"

    def value(self, english: str) -> str:
        """Translate a name, or a number with its unit. An unknown one is returned unchanged."""
        found = self._whole(english, of_values=True)
        return english if found is None else found

    def text(self, english: str) -> str:
        """Translate one or several sentences."""
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
        """Return the translation of the whole text, or None.

        of_values: also use templates with little text, such as "{} and {}", which would match many sentences.
        """
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
    """Return the values at a template's places, each at least one character, or None if the text does not match.

    The texts between the places are searched one after the other, in time linear in the text's length. A regular
    expression would not guarantee that.
    template: text, mark, text, …, as PLACE splits it.
    """
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

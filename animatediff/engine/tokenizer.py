"""CLIP's byte-pair tokenizer, from the vocabulary that ships here or from a folder in CLIP's file format.

Built on the `tokenizers` library alone, so that it is the same under every version of transformers and needs no hub.
"""
from __future__ import annotations

import gzip
import html
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from animatediff.errors import ModelError
from animatediff.weights.boundary import one_line, read_json

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
CLIP_SIZE = 49408
_MERGES = Path(__file__).with_name("clip_vocabulary") / "merges.txt.gz"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's split, after lower-casing

# WebUIs clean the text with ftfy; these are the parts of that which prompts meet: typographic quotes, full-width
# characters of East Asian keyboards, ligatures.
_CLEAN = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"', "‟": '"', "\u3000": " "}
    | {chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)}
    | {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl"}
)

log = logging.getLogger(__name__)


class ClipTokenizer:
    """Text -> token ids without start and end tokens and without any length limit.

    `start`, `end`: ids of the special tokens; `comma`: id of the word `,` or None; `size`: ids are below it.
    """

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], *, start=START, end=END):
        for token in (start, end):
            if token not in vocabulary:
                raise ModelError(
                    f"the vocabulary has no {token}", remedy="Use the tokenizer folder that belongs to the checkpoint"
                )
        model = models.BPE(dict(vocabulary), list(merges), end_of_word_suffix=WORD_END, unk_token=end)
        self._tokenizer = tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in (start, end)])
        self.start, self.end = vocabulary[start], vocabulary[end]
        self.comma: int | None = vocabulary.get("," + WORD_END)
        self.size = max(vocabulary.values()) + 1
        self._end_text = end
        self._vocabulary = vocabulary

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        results = []
        for text, encoded in zip(texts, self._tokenizer.encode_batch([clean(t) for t in texts])):
            if self.end in encoded.ids and self._end_text not in text:
                log.warning("Some characters are not in the model's vocabulary and are read as its end token: %r", text)
            results.append(encoded.ids)
        return results

    def has_word(self, word: str) -> bool:
        """Whether a lower-case word is a token of its own. Of single letters, which all are, only the article counts:
        others are what unknown words are made of."""
        return word + WORD_END in self._vocabulary and (len(word) > 1 or word == "a")


def clean(text: str) -> str:
    """Undo what editors and web pages do to quotes, width and entities."""
    return (html.unescape(text) if "<" not in text else text).translate(_CLEAN)


def byte_symbols() -> list[str]:
    """The 256 bytes as printable characters, in the order of CLIP's vocabulary (byte-level BPE of GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


@cache
def shipped() -> ClipTokenizer:
    """The 49,408 tokens of OpenAI's CLIP: bytes, bytes ending a word, one token a merge, start, end."""
    merges = _pairs(gzip.decompress(_MERGES.read_bytes()).decode("utf-8").splitlines())
    symbols = byte_symbols()
    tokens = [*symbols, *(s + WORD_END for s in symbols), *("".join(pair) for pair in merges), START, END]
    return ClipTokenizer({token: index for index, token in enumerate(tokens)}, merges)


def from_folder(folder: Path) -> ClipTokenizer:
    """Read `vocab.json` with `merges.txt`, or the `tokenizer.json` that newer libraries write in their place."""
    folder = Path(folder)
    try:
        if (folder / "vocab.json").is_file():
            vocabulary = read_json(folder / "vocab.json")
            merges = _pairs((folder / "merges.txt").read_text(encoding="utf-8-sig").splitlines())
        elif (folder / "tokenizer.json").is_file():
            model = read_json(folder / "tokenizer.json")["model"]
            vocabulary, merges = model["vocab"], _pairs(model["merges"])
        else:
            raise FileNotFoundError(2, "", "tokenizer.json")
        config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        names = {"start": _token(config, "bos_token", START), "end": _token(config, "eos_token", END)}
        return ClipTokenizer(vocabulary, merges, **names)
    except ModelError as error:
        raise ModelError(error.what, where=str(folder), remedy=error.remedy) from error
    except FileNotFoundError as error:
        raise ModelError(
            f"the tokenizer has no {Path(error.filename).name}",
            where=str(folder),
            remedy="A tokenizer folder holds vocab.json and merges.txt, or tokenizer.json",
        ) from error
    except Exception as error:  # the tokenizers library raises bare Exception for merges that do not fit
        raise ModelError(
            f"the tokenizer cannot be read ({one_line(error)})", where=str(folder), remedy="Restore the folder's files"
        ) from error


def _pairs(lines: Sequence[str | Sequence[str]]) -> list[tuple[str, str]]:
    """`a b` lines (or pairs already) -> pairs; a first `#version` line is no merge."""
    pairs = [line.split(" ") if isinstance(line, str) else line for line in lines if line]
    return [(a, b) for a, b in (pairs[1:] if pairs and pairs[0][0] == "#version:" else pairs)]


def _token(config: Mapping, name: str, default: str) -> str:
    value = config.get(name) or default
    return value["content"] if isinstance(value, Mapping) else value

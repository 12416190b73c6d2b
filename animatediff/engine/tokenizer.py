"""CLIP's byte-pair tokenizer, with the vocabulary in this package or from a folder in CLIP's file format.

It needs only the `tokenizers` library. So it is the same with every version of transformers, and needs no hub.
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

# WebUIs clean the text with ftfy. This table does the parts that matter in prompts: typographic quotes, full-width
# characters of East Asian keyboards, ligatures.
_CLEAN = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "“": '"', "”": '"', "„": '"', "‟": '"', "\u3000": " "}
    | {chr(c): chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F)}
    | {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl"}
)

log = logging.getLogger(__name__)


class ClipTokenizer:
    """Convert texts of any length to token ids, without start and end tokens.

    vocabulary: token -> id.
    merges: pairs of tokens in the order of byte-pair encoding.
    start, end: the special tokens.

    Attributes `start` and `end` are the ids of the special tokens, `comma` is the id of the word `,` or None, and all
    ids are below `size`.
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
        """Return whether a lower-case word is a single token.

        All single letters are tokens, but only the article "a" counts. Others are parts of unknown words.
        """
        return word + WORD_END in self._vocabulary and (len(word) > 1 or word == "a")


def clean(text: str) -> str:
    """Replace typographic quotes, full-width characters, ligatures and HTML entities by plain characters."""
    return (html.unescape(text) if "<" not in text else text).translate(_CLEAN)


def byte_symbols() -> list[str]:
    """Return the 256 bytes as printable characters, in the order of CLIP's vocabulary (byte-level BPE of GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


@cache
def shipped() -> ClipTokenizer:
    """Return the tokenizer of OpenAI's CLIP.

    Its 49,408 tokens are: bytes, bytes at the end of a word, one token for each merge, start, end.
    """
    merges = _pairs(gzip.decompress(_MERGES.read_bytes()).decode("utf-8").splitlines())
    symbols = byte_symbols()
    tokens = [*symbols, *(s + WORD_END for s in symbols), *("".join(pair) for pair in merges), START, END]
    return ClipTokenizer({token: index for index, token in enumerate(tokens)}, merges)


def from_folder(folder: Path) -> ClipTokenizer:
    """Read `vocab.json` and `merges.txt`, or `tokenizer.json`, which newer libraries write instead.

    Raise ModelError if they are missing or invalid.
    """
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
    except Exception as error:  # the tokenizers library raises plain Exception for invalid merges
        raise ModelError(
            f"the tokenizer cannot be read ({one_line(error)})", where=str(folder), remedy="Restore the folder's files"
        ) from error


def _pairs(lines: Sequence[str | Sequence[str]]) -> list[tuple[str, str]]:
    """Return pairs of tokens for `a b` lines or pairs. A first `#version` line is skipped."""
    pairs = [line.split(" ") if isinstance(line, str) else line for line in lines if line]
    return [(a, b) for a, b in (pairs[1:] if pairs and pairs[0][0] == "#version:" else pairs)]


def _token(config: Mapping, name: str, default: str) -> str:
    value = config.get(name) or default
    return value["content"] if isinstance(value, Mapping) else value

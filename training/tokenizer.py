"""Write the demo model's vocabulary in CLIP's format: a token for every byte and for each word of the captions."""
from __future__ import annotations

import itertools
import json
from pathlib import Path

from .clips import _CALLED, _DOING, _GOING, _SIZES, _SPEEDS, _WHERE
from .shapes import BACKGROUNDS, COLOURS, SHAPES

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77


def words() -> list[str]:
    """Return all words that a caption can contain, in a fixed order."""
    phrases = [*COLOURS, *BACKGROUNDS, *SHAPES, *_GOING, "a an the one on background that is grey"]
    for table in (_WHERE, _DOING, _CALLED):
        phrases += [p for options in table.values() for p in options]
    for table in (_SIZES, _SPEEDS):
        phrases += [p for row in table.values() for p in row[-1]]
    return list(dict.fromkeys(" ".join(phrases).split()))


def byte_symbols() -> list[str]:
    """Return CLIP's printable symbols for the 256 bytes, in CLIP's order (Radford et al., GPT-2's byte-level BPE)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + k) for k in range(len(others))]


def merges() -> list[tuple[str, str]]:
    """Return the merges, by rank, that join each word into one token from the left."""
    found: dict[tuple[str, str], None] = {}
    for word in words():
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            known = [pair for pair in itertools.pairwise(parts) if pair in found]
            pair = min(known, key=list(found).index) if known else (parts[0], parts[1])
            found.setdefault(pair)
            joined, k = [], 0
            while k < len(parts):
                if tuple(parts[k : k + 2]) == pair:
                    joined.append("".join(pair))
                    k += 2
                else:
                    joined.append(parts[k])
                    k += 1
            parts = joined
    return list(found)


def write(folder: Path) -> int:
    """Write vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json. Return the number of tokens."""
    symbols, ranked = byte_symbols(), merges()
    tokens = [*symbols, *(s + "</w>" for s in symbols), *dict.fromkeys("".join(p) for p in ranked), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in ranked), encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    return len(tokens)

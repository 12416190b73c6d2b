"""Prompts, compared with values recorded from the WebUI and CLIP's tokenizer; encoding, compared with transformers."""
from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from animatediff.engine import emphasis, tokenizer
from animatediff.engine.emphasis import Piece, notices
from animatediff.engine.text import TextEncoder
from animatediff.errors import ModelError

DATA = json.loads((Path(__file__).parent / "data" / "webui_prompts.json").read_text(encoding="utf-8"))
ends = {"start": 1000, "end": 1001, "comma": 7}


def spread(runs: list) -> list:
    return [value for value, count in runs for _ in range(count)]


def words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return vocabulary and merges of bytes and three words, in CLIP's file format."""
    symbols = tokenizer.byte_symbols()
    merges = [("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    tokens = [*symbols, *(s + "</w>" for s in symbols), *("".join(m) for m in merges)]
    return {t: i for i, t in enumerate([*tokens, tokenizer.START, tokenizer.END])}, merges


def write_folder(folder: Path) -> Path:
    vocabulary, merges = words()
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    special = {"bos_token": {"__type": "AddedToken", "content": tokenizer.START}, "eos_token": tokenizer.END}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    vocabulary, merges = words()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        bos_token_id=len(vocabulary) - 2, eos_token_id=len(vocabulary) - 1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPTextModel(config).eval()
    for parameter in model.parameters():  # larger than CLIP's initial values, so that outputs differ clearly
        torch.nn.init.normal_(parameter, 0.1, 0.4)
    return TextEncoder(model, tokenizer.ClipTokenizer(vocabulary, merges))


# --- tokenizer ---


def test_shipped_vocabulary_parity_with_clip():
    clip = tokenizer.shipped()
    assert (clip.size, clip.start, clip.end, clip.comma) == (49408, 49406, 49407, 267)
    assert clip(["a photo of a cat"]) == [[320, 1125, 539, 320, 2368]]  # as printed in tutorials of CLIP


@pytest.mark.parametrize("text,ids", DATA["ids"], ids=[repr(t)[:30] for t, _ in DATA["ids"]])
def test_ids_parity_with_clips_tokenizer(text, ids):
    assert tokenizer.shipped()([text]) == [ids]


def test_folders_of_both_formats_parity_with_transformers(tmp_path):
    ours = tokenizer.from_folder(write_folder(tmp_path / "clip"))
    theirs = CLIPTokenizer.from_pretrained(tmp_path / "clip")
    theirs.save_pretrained(tmp_path / "saved")
    again = tokenizer.from_folder(tmp_path / "saved")
    texts = ["a red cat, dog", "RED  Cat's", "éclair 2!", "", "red<|endoftext|>cat"]
    expected = theirs(texts, add_special_tokens=False)["input_ids"]
    assert ours(texts) == expected == again(texts)
    assert len(expected[0]) == 5 and ours.comma == theirs.convert_tokens_to_ids(",</w>")
    assert (ours.start, ours.end) == (theirs.bos_token_id, theirs.eos_token_id) == (again.start, again.end)


def test_unreadable_folders_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer.json"):
        tokenizer.from_folder(tmp_path)
    folder = write_folder(tmp_path / "clip")
    (folder / "merges.txt").write_text("#version: 0.2\nx q\n")
    with pytest.raises(ModelError, match="cannot be read"):
        tokenizer.from_folder(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(ModelError, match="no merges.txt"):
        tokenizer.from_folder(folder)
    (folder / "merges.txt").write_text("")
    (folder / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ModelError, match=r"no <\|startoftext\|>"):
        tokenizer.from_folder(folder)


def test_unknown_characters_are_reported(caplog):
    vocabulary, merges = words()
    del vocabulary["q</w>"]
    small = tokenizer.ClipTokenizer(vocabulary, merges)
    with caplog.at_level(logging.WARNING):
        small(["red <|endoftext|>"])
        assert not caplog.records
        small(["red q"])
    assert "red q" in caplog.text


# --- emphasis ---


@pytest.mark.parametrize("prompt,expected", DATA["parse"], ids=[repr(p)[:40] for p, _ in DATA["parse"]])
def test_brackets_parity_with_the_webui(prompt, expected):
    got = emphasis.parse(prompt)
    breaks = [text == "BREAK" and weight == -1 for text, weight in expected]
    kept = [(None if b else t, w) for (t, w), b in zip(expected, breaks) if t]
    assert [p.text for p in got] == [t for t, _ in kept]
    assert [p.weight for p in got if p.text] == pytest.approx([w for t, w in kept if t])


def test_break_works_inside_brackets():
    assert emphasis.parse("(a BREAK b:1.3)") == [Piece("a", 1.3), Piece(None), Piece("b", 1.3)]


def test_malformed_weight_is_text():
    assert emphasis.parse("(x:1.2.3)") == [Piece("x:1.2.3", 1.1)]


@given(st.text(alphabet="ab ,:()[]\\.12BREAK", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_prompt_parses_and_escapes_are_literal(prompt):
    assert all(p.text != "" for p in emphasis.parse(prompt))
    escaped = "".join("\\" + c if c in "()[]\\" else c for c in prompt)
    if "BREAK" not in prompt:
        assert emphasis.parse(escaped) == ([Piece(prompt)] if prompt else [])


@pytest.mark.parametrize("row", DATA["chunks"], ids=[repr(r["prompt"])[:30] for r in DATA["chunks"]])
def test_chunks_parity_with_the_webui(row):
    clip = tokenizer.shipped()
    weighted = [(p.text and clip([p.text])[0], p.weight) for p in emphasis.parse(row["prompt"])]
    chunks, count = emphasis.chunks(weighted, start=clip.start, end=clip.end, comma=clip.comma)
    assert [list(c.tokens) for c in chunks] == [spread(r) for r in row["tokens"]]
    assert len(chunks) == len(row["weights"]) and count == row["count"]
    for chunk, runs in zip(chunks, row["weights"]):
        assert list(chunk.weights) == pytest.approx(spread(runs))


@given(st.lists(st.sampled_from([1, 2, 3, 7]), max_size=400), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_no_token_is_lost_or_reordered(ids, backtrack):
    chunks, count = emphasis.chunks([(ids, 1.0)], **ends, backtrack=backtrack)
    assert [t for c in chunks for t in c.tokens if t < 1000] == ids
    assert all(len(c.tokens) == len(c.weights) == 77 for c in chunks) and count >= len(ids)


def test_chunks_without_a_comma_token_are_full():
    ids = [7, 1] * 80
    chunks, _ = emphasis.chunks([(ids, 1.0)], start=1000, end=1001, comma=None)
    assert [sum(t < 1000 for t in c.tokens) for c in chunks] == [75, 75, 10]


def test_notices_name_unsupported_syntax():
    found = notices("a cat AND a dog, <lora:fox:1>, [day:night:0.5], [a|b], [soft], BREAK (x:1.2), SAND")
    assert [said in " ".join(found) for said in ("<lora:fox:1>", "[day:night:0.5]", "[a|b]", "AND is")] == [True] * 4
    assert len(found) == 4 and notices("a [soft] (cat:1.2) BREAK dog at 12:30") == []


# --- encoding ---


def plain(encoder: TextEncoder, text: str) -> torch.Tensor:
    """Return [77 d], computed by transformers alone, for a text that fits into one chunk."""
    ids = encoder.tokenizer([text])[0]
    row = [encoder.tokenizer.start, *ids] + [encoder.tokenizer.end] * (76 - len(ids))
    with torch.no_grad():
        return encoder.model(input_ids=torch.tensor([row])).last_hidden_state[0]


def test_short_prompt_equals_the_models_output(encoder):
    cond, uncond = encoder.encode(["a red cat", "dog"], ["", "dog"])
    assert cond.shape == uncond.shape == (2, 77, 16) and not cond.requires_grad
    torch.testing.assert_close(cond[0], plain(encoder, "a red cat"))
    torch.testing.assert_close(uncond[0], plain(encoder, ""))
    torch.testing.assert_close(uncond[1], cond[1])


@pytest.mark.parametrize("long_side", [0, 1])
def test_shorter_prompts_are_padded_with_empty_chunks(encoder, long_side):
    sides = [["red"], ["red BREAK cat BREAK dog"]]
    short, long = encoder.encode(*(sides if long_side else sides[::-1]))[:: 1 if long_side else -1]
    assert short.shape == long.shape == (1, 231, 16)
    torch.testing.assert_close(short[0], torch.cat([plain(encoder, "red"), *[plain(encoder, "")] * 2]))
    torch.testing.assert_close(long[0], torch.cat([plain(encoder, w) for w in ("red", "cat", "dog")]))


def test_weights_multiply_states_and_the_mean_is_restored(encoder):
    unweighted = plain(encoder, "red cat")
    by_hand = unweighted.double().clone()
    by_hand[2] *= 1.5  # start, red, cat
    restored = by_hand * unweighted.double().mean() / by_hand.mean()
    torch.testing.assert_close(encoder.encode(["red (cat:1.5)"], [""])[0][0], restored.float())
    assert encoder.encode(["red (cat:0)"], [""])[0].isfinite().all()


def test_equal_chunks_are_encoded_once(encoder, monkeypatch):
    seen = []
    forward = encoder.model.forward
    monkeypatch.setattr(encoder.model, "forward", lambda **k: seen.append(k["input_ids"].shape[0]) or forward(**k))
    cond, uncond = encoder.encode(["red cat"] * 16 + ["(red cat:1.2)"] * 4, ["dog"])
    assert cond.shape == (20, 77, 16) and uncond.shape == (1, 77, 16) and sum(seen) == 2
    seen.clear()
    encoder.encode([f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"], [""])
    assert seen == [32, 32, 1]


def test_token_counter(encoder):
    assert encoder.count("red cat") == (2, 75)
    assert encoder.count("red " * 76) == (76, 150)

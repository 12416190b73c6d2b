"""The text encoder: CLIP's architecture, narrow, trained on captions before the image model reads it.

Stable Diffusion takes its text encoder from CLIP, which has learned from what tells captions apart. Ours learns by
saying at the end of a caption which words were in it. Stills alone would teach it colours and shapes, but hardly words
of motion: those say so little about a single frame that "left" and "right" stay the same to it.
"""
from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import tokenizer
from .loop import Plan, train

WIDTH = 128
EMBEDDING_SCALE = 0.5  # of a token at first; CLIP's 0.02 learns three times slower here


class Texts:
    """Captions to token ids [n 77]."""

    def __init__(self, folder: Path):
        self.size = tokenizer.write(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)

    def __call__(self, captions: list[str]) -> torch.Tensor:
        options = dict(padding="max_length", max_length=tokenizer.LENGTH, truncation=True, return_tensors="pt")
        return self.tokenizer(captions, **options).input_ids


class Contexts:
    """What the text encoder makes of each caption, computed once: [captions 77 width]."""

    @torch.no_grad()
    def __init__(self, encoder: CLIPTextModel, captions: list[str], texts: Texts):
        self.states = torch.cat([encoder(ids).last_hidden_state.half() for ids in texts(captions).split(64)])
        self.nothing = encoder(texts([""])).last_hidden_state[0]

    def __call__(self, clips: torch.Tensor, dropped: float) -> torch.Tensor:
        """Those of some clips, a share `dropped` of them replaced by the empty caption's."""
        states = self.states[clips].float()
        states[torch.rand(len(clips)) < dropped] = self.nothing
        return states


def build(vocabulary: int) -> CLIPTextModel:
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )
    torch.nn.init.normal_(encoder.get_input_embeddings().weight, std=EMBEDDING_SCALE)
    return encoder


def fit(folder: Path, captions: list[str], texts: Texts, *, steps: int, batch: int, seed: int) -> CLIPTextModel:
    """Each word has a fixed random direction; the state at a caption's end, and at a place behind it, learns to point
    along those of the caption's words."""
    torch.manual_seed(seed)
    encoder, tokens = build(texts.size), texts(captions)
    end = texts.size - 1
    words = torch.tensor([token for token in tokens.unique().tolist() if token < end - 1])
    directions = F.normalize(torch.randn(len(words), WIDTH), dim=1)

    def loss_at(step: int) -> dict[str, torch.Tensor]:
        ids = tokens[torch.randint(len(tokens), (batch,))]
        rows, last = torch.arange(batch), (ids == end).float().argmax(1)
        behind = (last + torch.randint(1, tokenizer.LENGTH, (batch,))).clamp(max=tokenizer.LENGTH - 1)
        states = encoder(ids).last_hidden_state
        there = (ids[:, :, None] == words).any(1).float()
        said = [2 * states[rows, at] @ directions.T - 3 for at in (last, behind)]
        return {"loss": sum(F.binary_cross_entropy_with_logits(s, there) for s in said) / 2}

    train("text", folder, {"text": encoder}, encoder.parameters(), loss_at, Plan(steps=steps, rate=1e-3))
    return encoder.eval().requires_grad_(False)

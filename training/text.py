"""Train the text encoder: CLIP's architecture with fewer channels, trained on captions before the image model.

Stable Diffusion uses CLIP's text encoder, which was trained to distinguish captions. Ours is trained to predict, at the
end of a caption, which words it contains. Training on still pictures would teach it colours and shapes, but hardly
words of motion: these matter so little for a single frame that "left" and "right" would get the same embedding.
"""
from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import tokenizer
from .loop import Plan, train

WIDTH = 128
EMBEDDING_SCALE = 0.5  # initial deviation of token embeddings; with CLIP's 0.02 training takes three times as long


class Texts:
    """Converts captions to token ids [n 77]."""

    def __init__(self, folder: Path):
        self.size = tokenizer.write(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)

    def __call__(self, captions: list[str]) -> torch.Tensor:
        options = dict(padding="max_length", max_length=tokenizer.LENGTH, truncation=True, return_tensors="pt")
        return self.tokenizer(captions, **options).input_ids


class Contexts:
    """The text encoder's outputs for all captions, computed once: [captions 77 width]."""

    @torch.no_grad()
    def __init__(self, encoder: CLIPTextModel, captions: list[str], texts: Texts):
        self.states = torch.cat([encoder(ids).last_hidden_state.half() for ids in texts(captions).split(64)])
        self.empty = encoder(texts([""])).last_hidden_state[0]

    def __call__(self, clips: torch.Tensor, dropped: float) -> torch.Tensor:
        """Return the outputs for these clips. dropped: share that is replaced by the empty caption's output."""
        states = self.states[clips].float()
        states[torch.rand(len(clips)) < dropped] = self.empty
        return states


def build(vocabulary: int) -> CLIPTextModel:
    """Return an untrained text encoder. vocabulary: number of tokens."""
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
    """Train and return the text encoder, in eval mode and frozen.

    Each word has a fixed random direction. The output at the caption's end, and at a random position after it, is
    trained to have a large product with the directions of the caption's words and a small one with all others.
    """
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
        present = (ids[:, :, None] == words).any(1).float()
        logits = [2 * states[rows, at] @ directions.T - 3 for at in (last, behind)]
        return {"loss": sum(F.binary_cross_entropy_with_logits(s, present) for s in logits) / 2}

    train("text", folder, {"text": encoder}, encoder.parameters(), loss_at, Plan(steps=steps, rate=1e-3))
    return encoder.eval().requires_grad_(False)

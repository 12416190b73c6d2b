"""The text encoder: CLIP's architecture, narrow, trained together with the image model."""
from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import tokenizer

WIDTH = 128


class Texts:
    """Captions to token ids [n 77]."""

    def __init__(self, folder: Path):
        self.size = tokenizer.write(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)

    def __call__(self, captions: list[str]) -> torch.Tensor:
        options = dict(padding="max_length", max_length=tokenizer.LENGTH, truncation=True, return_tensors="pt")
        return self.tokenizer(captions, **options).input_ids


def build(vocabulary: int) -> CLIPTextModel:
    return CLIPTextModel(
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

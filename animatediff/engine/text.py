"""Encode prompts as the WebUI does: with weights, of any length, prompt and negative prompt of equal length."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel

from animatediff.engine import emphasis
from animatediff.engine.emphasis import Chunk
from animatediff.engine.tokenizer import ClipTokenizer

_BATCH = 32  # chunks in one pass of the encoder


class TextEncoder:
    """CLIP's text model with its tokenizer.

    The output of the last layer is multiplied by the weights. Then the mean of each chunk is restored, as in the
    WebUI's emphasis mode "Original".
    """

    def __init__(self, model: CLIPTextModel, tokenizer: ClipTokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.length = model.config.max_position_embeddings - 2

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def to(self, *args, **kwargs) -> TextEncoder:
        self.model.to(*args, **kwargs)
        return self

    def encode(self, prompts: Sequence[str], negative: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return cond [n 77k d] and uncond [m 77k d] of n prompts and m negative prompts.

        k: number of chunks of the longest prompt. Shorter prompts are padded with empty chunks. Equal chunks are
        encoded once.
        """
        rows = [self.chunks(text)[0] for text in (*prompts, *negative)]
        longest = max(map(len, rows))
        empty = emphasis.empty_chunk(start=self.tokenizer.start, end=self.tokenizer.end, length=self.length)
        rows = [row + [empty] * (longest - len(row)) for row in rows]
        encoded = self._encode_chunks(list(dict.fromkeys(chunk for row in rows for chunk in row)))
        joined = torch.stack([torch.cat([encoded[chunk] for chunk in row]) for row in rows])
        return joined[: len(prompts)], joined[len(prompts) :]

    def chunks(self, prompt: str) -> tuple[list[Chunk], int]:
        """Return the prompt's chunks, and its number of tokens as the WebUI counts it."""
        pieces = emphasis.parse(prompt)
        texts = iter(self.tokenizer([p.text for p in pieces if p.text is not None]))
        weighted = [(None if p.text is None else next(texts), p.weight) for p in pieces]
        special = {"start": self.tokenizer.start, "end": self.tokenizer.end, "comma": self.tokenizer.comma}
        return emphasis.chunks(weighted, length=self.length, **special)

    def count(self, prompt: str) -> tuple[int, int]:
        """Return the prompt's number of tokens and the capacity of its chunks, as in the WebUI's token counter."""
        chunks, count = self.chunks(prompt)
        return count, len(chunks) * self.length

    @torch.no_grad()
    def _encode_chunks(self, chunks: list[Chunk]) -> dict[Chunk, Tensor]:
        """Return the encoding [77 d] of each distinct chunk."""
        texts = list(dict.fromkeys(chunk.tokens for chunk in chunks))
        hidden: dict[tuple[int, ...], Tensor] = {}
        for part in (texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)):
            hidden.update(zip(part, self._hidden(torch.tensor(part, device=self.device))))
        return {chunk: self._weighted(hidden[chunk.tokens], chunk.weights) for chunk in chunks}

    def _hidden(self, tokens: Tensor) -> Tensor:
        """Return the last layer's output [n 77 d] for tokens [n 77]."""
        return self.model(input_ids=tokens).last_hidden_state

    def _weighted(self, hidden: Tensor, weights: Sequence[float]) -> Tensor:
        """Multiply each token's state [77 d] by its weight, then scale all to the mean before."""
        if all(weight == 1.0 for weight in weights):
            return hidden
        result = hidden.float() * torch.tensor(weights, device=hidden.device)[:, None]
        factor = hidden.float().mean() / result.mean()
        # If the mean is 0, no factor restores it.
        result = result * torch.where(factor.isfinite(), factor, torch.ones_like(factor))
        return result.to(hidden.dtype)

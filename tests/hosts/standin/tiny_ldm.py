"""A tiny image model in the layout of the original Stable Diffusion code, written for tests.

Only the layout is SD1.5's: the module names and the order of the blocks, by which motion modules find their places (12
input blocks, a middle block, 12 output blocks in 4 levels). Weights are random but have a visible effect.
"""
from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import nn

WIDTH, TEXT, HEADS = 32, 128, 4
CHUNK, WORDS = 77, 75  # tokens per chunk of a prompt; words among them


def timestep_embedding(t: torch.Tensor, width: int) -> torch.Tensor:
    rate = torch.exp(-torch.arange(width // 2) * (9.2 / (width // 2)))
    angle = t.float()[:, None] * rate
    return torch.cat([angle.cos(), angle.sin()], 1)


class ResBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, WIDTH, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, WIDTH), nn.SiLU(), nn.Dropout(0.0),
                                        nn.Conv2d(WIDTH, WIDTH, 3, padding=1))
        self.skip_connection = nn.Identity() if channels == WIDTH else nn.Conv2d(channels, WIDTH, 1)

    def forward(self, x, emb, context):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    def __init__(self, context: int):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(n, WIDTH, bias=False) for n in (WIDTH, context, context))
        self.to_out = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.0))

    def forward(self, x, context):
        q, k, v = (f(y).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                   for f, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context)))
        return self.to_out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(WIDTH), CrossAttention(TEXT)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x, context):
        n = self.norm1(x)
        x = x + self.attn1(n, n)
        return x + self.attn2(self.norm2(x), context)


class SpatialTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.proj_in, self.proj_out = (
            nn.GroupNorm(32, WIDTH), nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1))
        self.transformer_blocks = nn.ModuleList([TransformerBlock()])

    def forward(self, x, emb, context):
        h = self.proj_in(self.norm(x))
        tokens = self.transformer_blocks[0](h.flatten(2).transpose(1, 2), context)
        return x + self.proj_out(tokens.transpose(1, 2).reshape(h.shape))


class Downsample(nn.Module):
    def __init__(self):
        super().__init__()
        self.op = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)

    def forward(self, x, emb, context):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x, emb, context):
        return self.conv(nn.functional.interpolate(x, scale_factor=2.0))


class First(nn.Conv2d):
    def forward(self, x, emb, context):
        return super().forward(x)


class Block(nn.Sequential):
    def forward(self, x, emb, context):
        for layer in self:
            x = layer(x, emb, context)
        return x


class UNet(nn.Module):
    """x [rows 4 h w], timesteps [rows], context [rows tokens TEXT] -> [rows 4 h w]; h and w multiples of 8."""

    def __init__(self):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        down: list[nn.Module] = [Block(First(4, WIDTH, 3, padding=1))]
        up: list[nn.Module] = []
        for level in range(4):
            attention = [SpatialTransformer] if level < 3 else []  # SD1.5's deepest level has none
            down += [Block(ResBlock(WIDTH), *(a() for a in attention)) for _ in range(2)]
            down += [Block(Downsample())] if level < 3 else []
            blocks = [[ResBlock(2 * WIDTH), *(a() for a in attention)] for _ in range(3)]
            if level > 0:
                blocks[-1].append(Upsample())
            up = [Block(*b) for b in blocks] + up
        self.input_blocks, self.output_blocks = nn.ModuleList(down), nn.ModuleList(up)
        self.middle_block = Block(ResBlock(WIDTH), SpatialTransformer(), ResBlock(WIDTH))
        self.out = nn.Sequential(nn.GroupNorm(32, WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, 4, 3, padding=1))

    def forward(self, x, timesteps=None, context=None):
        emb = self.time_embed(timestep_embedding(timesteps, WIDTH))
        kept = []
        for block in self.input_blocks:
            x = block(x, emb, context)
            kept.append(x)
        x = self.middle_block(x, emb, context)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], 1), emb, context)
        return self.out(x)


class DiffusionWrapper(nn.Module):
    conditioning_key = "crossattn"

    def __init__(self):
        super().__init__()
        self.diffusion_model = UNet()


class LatentDiffusion(nn.Module):
    """The whole model: UNet, schedule, a text encoder without weights, and a VAE that only changes the scale."""

    is_sdxl = is_sd2 = is_sdxl_inpaint = is_sd3 = lowvram = False
    is_sd1 = True
    parameterization, cond_stage_key, latent_channels = "eps", "txt", 4

    def __init__(self, betas=(0.00085, 0.012)):
        super().__init__()
        self.model = DiffusionWrapper()
        self.first_stage_model = nn.Conv2d(4, 3, 1)
        beta = torch.linspace(betas[0] ** 0.5, betas[1] ** 0.5, 1000, dtype=torch.float64) ** 2
        self.register_buffer("alphas_cumprod", torch.cumprod(1 - beta, 0).float())
        self.cond_stage_model_empty_prompt = self.get_learned_conditioning([""])

    def apply_model(self, x, t, cond):
        return self.model.diffusion_model(x, t, context=torch.cat(cond["c_crossattn"], 1))

    def get_learned_conditioning(self, texts):
        """Return a vector for each word, independent of its position, in whole chunks like CLIP's."""
        answer = []
        for text in texts:
            words = text.replace(",", " , ").split()
            tokens = []
            for start in range(0, max(1, len(words)), WORDS):
                chunk = words[start : start + WORDS]
                tokens += [vector(w) for w in ("<start>", *chunk, *["<end>"] * (CHUNK - 1 - len(chunk)))]
            answer.append(torch.stack(tokens))
        return torch.stack(answer)

    def decode_first_stage(self, z):
        return torch.tanh(nn.functional.interpolate(self.first_stage_model(z), scale_factor=8.0))

    def encode_first_stage(self, x):
        grey = nn.functional.avg_pool2d(x, 8)
        return torch.cat([grey, grey.mean(1, keepdim=True)], 1)

    def get_first_stage_encoding(self, posterior):
        return posterior


@lru_cache
def vector(word: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
    return torch.randn(TEXT, generator=torch.Generator().manual_seed(seed))


@lru_cache
def weights(seed: int) -> dict[str, torch.Tensor]:
    """Return a checkpoint whose activations have about unit size at any depth."""
    random = torch.Generator().manual_seed(seed)
    state = LatentDiffusion().state_dict()
    for name, value in state.items():
        if value.ndim > 1:
            state[name] = torch.randn(value.shape, generator=random) / value[0].numel() ** 0.5
    return state

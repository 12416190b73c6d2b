"""A pipeline with random weights of any width and size, for measurements that do not depend on the pictures."""
from __future__ import annotations

import torch


def pipeline_of(unet: tuple[int, ...], vae: tuple[int, ...], text: int, pixels: int):
    """Return a Pipeline with SD1.5's architecture and a v2 motion module, for square pictures of `pixels`.

    unet, vae: channels per level. text: width of the text embeddings.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from animatediff.engine.checkpoint import Components
    from animatediff.engine.pipeline import Pipeline
    from animatediff.engine.text import TextEncoder
    from animatediff.engine.tokenizer import END, START, WORD_END, ClipTokenizer, byte_symbols
    from animatediff.motion import build

    symbols = byte_symbols()
    tokens = [*symbols, *(s + WORD_END for s in symbols), START, END]
    tokenizer = ClipTokenizer({token: i for i, token in enumerate(tokens)}, [])
    torch.manual_seed(0)
    model = UNet2DConditionModel(sample_size=pixels // 8, block_out_channels=unet, cross_attention_dim=text,
                                 attention_head_dim=8)
    decoder = AutoencoderKL(block_out_channels=vae, layers_per_block=1, latent_channels=4,
                            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=text, intermediate_size=4 * text, num_hidden_layers=3,
        num_attention_heads=4, bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1,
    ))  # fmt: skip
    for network in (model, decoder, encoder):
        network.eval().requires_grad_(False)
    module = build(unet, "v2").eval().requires_grad_(False)
    return Pipeline(Components(model, decoder, TextEncoder(encoder, tokenizer), "stand-in"), module)

"""Chromium shows the moving live preview as the WebUI hands it over: a data: URI that names the type of a still."""
from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image

from animatediff.hosts.shared.preview import preview

FPS = 5
COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])  # choices of the WebUI's "Live preview file format"
def test_every_frame_is_seen_whatever_type_is_named(browser, format):
    latents = torch.zeros(3, 4, 8, 8)
    picture = preview(latents, FPS, lambda _, index: Image.new("RGB", (64, 64), COLOURS[index]))
    buffer = io.BytesIO()
    picture.save(buffer, format=format)
    address = f"data:image/{format};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    page = browser.new_page(viewport={"width": 64, "height": 64})
    try:
        page.set_content(f'<body style="margin:0"><img src="{address}">')
        page.wait_for_function("document.querySelector('img').naturalWidth === 64")
        seen = set()
        for _ in range(100):
            with Image.open(io.BytesIO(page.screenshot())) as shot:
                middle = shot.convert("RGB").getpixel((32, 32))
            seen |= {i for i, colour in enumerate(COLOURS) if max(abs(a - b) for a, b in zip(middle, colour)) < 16}
            if len(seen) == 3:
                break
        assert seen == {0, 1, 2}
    finally:
        page.close()

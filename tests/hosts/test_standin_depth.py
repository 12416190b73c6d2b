"""More than 8 bits in the stand-in: the precision of the decoded latents in the clip's files, read by PyAV."""
from __future__ import annotations

import importlib

import numpy as np
import pytest
from PIL import Image
from test_standin_adapter import animate

av = pytest.importorskip("av")
CLIP = {"model": "moving.safetensors", "video_length": 3, "batch_size": 3, "overlap": 1, "bit_depth": "16"}


@pytest.fixture
def decoded(host):
    """The host's decoded frames [3 h w], 0 to 1, as it makes pictures of them."""
    processing = importlib.import_module("modules.processing")
    plain, found = processing.to_picture, []
    processing.to_picture = lambda x: found.append(x.numpy().copy()) or plain(x)
    yield found
    processing.to_picture = plain


def deep(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gbrp16le") for frame in container.decode(video=0)])


def files(answer):
    return answer.info["extra_generation_params"]["AnimateDiff files"]


def test_files_have_the_precision_of_the_decoder(host, decoded):
    answer = animate(host, {**CLIP, "format": ["MKV", "PNG", "GIF"]})
    [path] = [path for path in files(answer) if path.endswith(".mkv")]
    wanted = np.stack([np.moveaxis(x, 0, 2) for x in decoded]) * 65535
    assert np.abs(deep(path) - wanted).max() <= 2 and len(wanted) == 3
    assert len(np.unique(deep(path) % 257)) > 20  # 1 in frames of 8 bits
    assert "GIF can only contain 8 bits" in str(answer.info) and "changed after" not in str(answer.info)


def test_changes_after_decoding_are_kept_and_told(host, decoded, monkeypatch):
    """Another extension inverts the pictures: the file has the inverted ones, with 8 bits."""
    processing = importlib.import_module("modules.processing")
    plain = processing._through
    monkeypatch.setattr(processing, "_through", lambda p, hook, picture: plain(p, hook, Image.eval(
        picture, lambda value: 255 - value) if hook == "postprocess_image" else picture))
    answer = animate(host, {**CLIP, "format": ["MKV"]})
    wanted = 255 - np.stack([np.moveaxis(x * 255, 0, 2).astype(np.uint8) for x in decoded])
    assert np.array_equal(deep(files(answer)[0]), wanted.astype(np.uint16) * 257)
    assert "the frames were changed after they were decoded, so they have 8 bits per channel" in str(answer.info)


def test_eight_bits_are_as_before(host, decoded):
    answer = animate(host, {**CLIP, "bit_depth": "8", "format": ["APNG"]})
    with Image.open(files(answer)[0]) as image:
        found = [image.seek(i) or np.asarray(image.convert("RGB")) for i in range(3)]
    assert np.array_equal(found, [np.moveaxis(x * 255, 0, 2).astype(np.uint8) for x in decoded])

"""The Batch tab of img2img: one clip of all its pictures, or a clip of each."""
from __future__ import annotations

import importlib
import io

import numpy as np
import pytest
from PIL import Image

CLIP = {"enable": True, "model": "moving.safetensors", "format": ["GIF"], "returns": "frames"}
FIELDS = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 7, "sampler_name": "Euler",
          "denoising_strength": 0.5}


@pytest.fixture
def host(host):
    host.img2img = importlib.import_module("modules.img2img")
    host.plain = host.img2img.process_batch
    host.script_callbacks.before_ui_callback()
    return host


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (32 + 32 * (i == 0), 64), (60 * i, 200 - 60 * i, 100)).save(folder / f"{i}.png")
    return folder


def pressed(host, folder, settings=CLIP, masks="", output="", **more):
    """Return the host's result of Generate in the tab."""
    p = host.processing.StableDiffusionProcessingImg2Img(**FIELDS, init_images=[None], override_settings={},
                                                         do_not_save_grid=True)
    p.outpath_samples = host.opts.outdir_img2img_samples
    p.scripts = host.scripts.scripts_img2img
    [script] = p.scripts.alwayson_scripts
    script.args_from, script.args_to = 0, 1
    p.script_args = (settings,)
    host.shared.state.begin("img2img")
    try:
        return host.img2img.process_batch(p, str(folder), output, str(masks), p.script_args, **more)
    finally:
        p.close()
        host.shared.state.end()


def clips(host):
    return [Image.open(path).n_frames for path in sorted((host.data / "outputs").rglob("*.gif"))]


def test_all_pictures_are_one_clip_as_in_a_request(host, folder):
    made = pressed(host, folder)
    assert clips(host) == [3] and len(made.images) == 3
    pictures = [Image.open(path) for path in sorted(folder.iterdir())]
    answer = host.request("img2img", {**FIELDS, "init_images": pictures}, {"AnimateDiff": [CLIP]})
    for ours, raw in zip(made.images, answer.images, strict=True):
        assert np.array_equal(np.array(ours), np.array(Image.open(io.BytesIO(raw))))


def test_a_clip_of_each_picture(host, folder):
    made = pressed(host, folder, {**CLIP, "batch_tab": "a clip each", "video_length": 2})
    assert clips(host) == [2, 2, 2] and len(made.images) == 6


def test_the_size_follows_the_first_picture_and_the_folder_is_the_tabs(host, folder, tmp_path):
    made = pressed(host, folder, output=str(tmp_path / "elsewhere"), to_scale=True, scale_by=1.0)
    assert {picture.size for picture in made.images} == {(64, 64)}
    assert len(list((tmp_path / "elsewhere").rglob("*.gif"))) == 1 and not clips(host)


def test_one_mask_is_the_clips_and_several_are_refused(host, folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (64, 64), 255).save(masks / "0.png")
    assert len(pressed(host, folder, masks=masks).images) == 3
    for i in range(3):
        Image.new("L", (64, 64), 80 * i).save(masks / f"{i}.png")
    with pytest.raises(Exception, match="a clip each") as caught:
        pressed(host, folder, masks=masks)
    assert caught.value.status_code == 422


def test_without_us_the_tab_is_the_hosts(host, folder, tmp_path):
    wanted = [np.array(picture) for picture in pressed(host, folder, {"enable": False}).images]
    assert len(wanted) == 3 and clips(host) == []
    empty = tmp_path / "empty"
    empty.mkdir()
    assert pressed(host, empty) is None


def test_afterwards_the_host_is_as_before(host, folder):
    before = host.img2img.process_images, dict(vars(host.scripts.scripts_img2img))
    pressed(host, folder)
    assert (host.img2img.process_images, vars(host.scripts.scripts_img2img)) == before
    host.script_callbacks.script_unloaded_callback()
    assert host.img2img.process_batch is host.plain


def test_another_extension_that_has_replaced_the_tabs_loop_keeps_it(host, folder):
    """ControlNet does this: it leaves the loop to the AnimateDiff extension and calls the function that it found."""
    ours = host.img2img.process_batch

    def theirs(p, *args, **kwargs):
        return ours(p, *args, **kwargs)

    host.img2img.process_batch = theirs
    assert len(pressed(host, folder).images) == 3 and clips(host) == [3]
    host.script_callbacks.script_unloaded_callback()
    assert host.img2img.process_batch is theirs


@pytest.mark.parametrize("value", [True, False, None])
def test_the_older_extensions_name_means_one_clip_of_all_pictures(host, value):
    from animatediff.hosts.a1111 import request

    assert request.read(({"enable": True, "is_i2i_batch": value},)).batch_tab == "one clip"

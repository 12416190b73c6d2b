"""The results that the page shows and saves, besides the API's responses, in the stand-in."""
from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from PIL import Image
from test_standin_upscale import CLIP, FIELDS, generated


@pytest.fixture
def host(host, tmp_path):
    host.shared.demo = type("Demo", (), {"temp_files": set()})()
    host.txt2img = importlib.import_module("modules.txt2img")
    host.ui_common = importlib.import_module("modules.ui_common")
    host.script_callbacks.before_ui_callback()
    host.opts.data["outdir_save"] = str(tmp_path / "saved")
    yield host
    host.script_callbacks.script_unloaded_callback()


def pressed(host, **settings):
    """Return the result of the page's Generate: gallery, data, infotext and log."""
    script = host.scripts.scripts_txt2img.alwayson_scripts[0]
    script.args_from, script.args_to = 0, 1
    return host.txt2img.txt2img("task", None, dict(FIELDS), {**CLIP, **settings})


def shown(host, **settings):
    """Return the gallery's items and the page's data about them."""
    gallery, about = generated(host, **settings)
    return gallery, json.dumps({**json.loads(about), "index_of_first_image": 0})


WRONG = {"overlap": 3, "batch_size": 3}


def test_the_page_speaks_in_labels_and_the_api_in_names(host):
    gallery, _, _, log = pressed(host, **WRONG)
    assert gallery is None and log.startswith("<div class='error ad-error'>Overlap: 3 is not less than")
    assert "a longer Context length;" in log
    answer = host.request("txt2img", FIELDS, {"AnimateDiff": [{**CLIP, **WRONG}]})
    assert answer.status == 422 and answer.detail.startswith("overlap: 3 is not") and "context_length" in answer.detail
    made = pressed(host)
    assert len(made[0]) == 1 and "error" not in made[3]


def test_forge_neos_page_has_a_player_beside_the_gallery(host, monkeypatch):
    """gradio drops a handler's values if it needs another number of them."""
    monkeypatch.setattr(host.ui_common.OutputPanel, "player", None, raising=False)
    gallery, player, about, text, log = pressed(host, **WRONG)
    assert gallery is player is None and about == text == "" and "Overlap: 3 is not less" in log


def test_errors_are_in_the_pages_language(host):
    host.opts.data["localization"] = "ja_JP"
    assert "オーバーラップ：3はコンテキスト長3より小さくありません。" in pressed(host, **WRONG)[3]
    host.opts.data["localization"] = "fr_FR"
    assert "Overlap: 3 is not less" in pressed(host, **WRONG)[3]


@pytest.mark.parametrize("form", ["GIF", "APNG"])
def test_saving_copies_the_clips_file(host, form):
    gallery, about = shown(host, format=[form])
    clip = Path(gallery[0]["name"].rsplit("?", 1)[0])
    saved, said = host.ui_common.save_files(about, gallery, False, 0)
    [path] = [Path(file) for file in saved]
    assert path.read_bytes() == clip.read_bytes() and path.name in said
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    again = host.ui_common.save_files(about, gallery, False, 0)[0]
    assert again != saved and Path(again[0]).read_bytes() == clip.read_bytes()


@pytest.fixture
def into_alpha(host, monkeypatch):
    """Let the host write infotexts into the pixels' alpha, as Forge and reForge do. Return its module with images."""
    images = importlib.import_module("modules.images")
    plain = images.save_image

    def save_image(image, *args, **kwargs):
        image.putalpha(255)
        assert len(image.getpixel((0, 0))) == 4
        return plain(image, *args, **kwargs)

    monkeypatch.setattr(images, "save_image", save_image)
    return images


def test_in_reforge_saving_copies_the_clips_file(host, into_alpha):
    from animatediff.hosts.a1111 import saving

    gallery, about = shown(host, format=["GIF"])
    with saving.saving_clips():
        [saved] = host.ui_common.save_files(about, gallery, False, 0)[0]
    assert Path(saved).read_bytes() == Path(gallery[0]["name"].rsplit("?", 1)[0]).read_bytes()


def test_in_forge_saving_copies_the_clips_file(host, into_alpha, monkeypatch, tmp_path):
    """There, gradio has opened the gallery's files."""
    from animatediff.hosts.a1111 import saving

    gallery, about = shown(host, format=["GIF"])
    clip = Path(gallery[0]["name"].rsplit("?", 1)[0])

    def save_files(about, pictures, *_):
        return [into_alpha.save_image(picture, tmp_path / "saved", "", seed=1)[0] for picture, caption in pictures]

    monkeypatch.setattr(host.ui_common, "save_files", save_files)
    monkeypatch.delattr(host.ui_common, "image_from_url_text")
    with saving.saving_clips(), Image.open(clip) as opened:
        [saved] = host.ui_common.save_files(about, [(opened, None)], False, 0)
        assert host.ui_common.save_files(about, None or [], False, 0) == []
    assert saved.endswith(".gif") and Path(saved).read_bytes() == clip.read_bytes()


def test_saving_a_picture_saves_a_picture(host, tmp_path):
    gallery, about = shown(host, returns="frames")
    [saved] = host.ui_common.save_files(about, gallery, False, 1)[0]
    assert Path(saved).suffix == ".png" and Image.open(saved).n_frames == 1


@pytest.mark.parametrize("asked", [True, False])
def test_a_grid_is_for_those_who_want_grids_saved(host, asked):
    host.opts.data |= {"grid_save": asked, "return_grid": True}
    fields = {**FIELDS, "do_not_save_grid": False}
    made = host.request("txt2img", fields, {"AnimateDiff": [{**CLIP, "format": ["GIF"]}]})
    assert len(made.info["infotexts"]) == 1 + asked

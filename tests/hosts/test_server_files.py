"""The server's files that a request can name. The response must reveal nothing about other files."""
from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from animatediff.errors import AnimateDiffError, MediaError

REMEDY = "Ask."


@pytest.fixture
def host(lasting_host, monkeypatch):
    monkeypatch.setattr(lasting_host.shared, "cmd_opts", SimpleNamespace(**vars(lasting_host.shared.cmd_opts)))
    monkeypatch.setattr(lasting_host.shared, "demo", None, raising=False)
    return lasting_host


@pytest.fixture
def places(host, tmp_path):
    """An allowed folder, also reachable by a link, and a folder beside it."""
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed, allowed / ".hidden", other):
        folder.mkdir()
        Image.new("L", (8, 8), 9).save(folder / "a.png")
    (allowed / "out.png").symlink_to(other / "a.png")
    (allowed / "out").symlink_to(other)
    (allowed / "in.png").symlink_to(allowed / "a.png")
    (tmp_path / "linked").symlink_to(allowed)
    host.shared.cmd_opts.gradio_allowed_path = [str(tmp_path / "linked")]
    return SimpleNamespace(allowed=allowed, other=other, linked=tmp_path / "linked")


def find(value, **how):
    from animatediff.hosts.a1111 import server_files

    return server_files.find(str(value), "motion mask", REMEDY, **how)


@pytest.mark.parametrize("name", ["9" * 300, "a/" * 2000, "x" * 300 + ".mp4"])
def test_a_name_longer_than_the_system_allows_is_a_missing_file(host, places, name):
    from animatediff.hosts.a1111 import finished

    assert find(name) == (places.allowed / name)
    with pytest.raises(MediaError, match="no such file"), finished.of_request(name):
        pass


def refusal(value) -> str:
    with pytest.raises(MediaError) as caught:
        find(value)
    return str(caught.value)


def test_files_of_allowed_folders_are_found(places):
    for value in (places.allowed / "a.png", places.linked / "a.png", places.allowed / "in.png", "a.png", "in.png",
                  places.allowed / "x" / ".." / "a.png"):
        assert find(value) == places.allowed / "a.png"
    assert not find("none.png").exists() and not find(places.allowed / "none.png").exists()


def test_what_is_there_and_what_is_not_are_told_alike(places, monkeypatch):
    monkeypatch.setenv("HOME", str(places.other))
    there = [places.other / "a.png", places.other, places.allowed / "out.png", places.allowed / "out" / "a.png",
             places.allowed / ".." / "other" / "a.png", "../other/a.png", places.allowed / ".hidden" / "a.png",
             ".hidden/a.png", "~/a.png", "/etc/passwd", "/etc/shadow", "/proc/self/environ", "/dev/zero", "/"]
    missing = [places.other / "none.png", places.allowed / "out" / "none.png", "../other/none.png", ".hidden/none.png",
               "~/none.png", "/etc/none", "/nowhere/none.png"]
    assert {refusal(value) for value in there} == {refusal(value) for value in missing} == {
        f"motion mask: this server does not read files there. {REMEDY}"}


@pytest.mark.parametrize("value", ["a\0.png", "\ud800.png", "x" * 5000, "a/" * 100_000, "\0"],
                         ids=lambda value: repr(value)[:12])
def test_what_is_no_name_of_a_file_is_refused(places, value):
    assert "is not a possible file name" in refusal(value)


@pytest.mark.parametrize("value", ["~nosuchuser/a.png", "~root/a.png", "file:///etc/passwd", "http://127.0.0.1:1/a.png",
                                   "\\\\server\\share\\a.png", "pipe:0", "concat:a.png|a.png", "NUL", "C:\\a.png"])
def test_what_only_looks_like_a_place_is_a_name_in_the_allowed_folder(places, value):
    """No variable is expanded, and no address is opened."""
    assert find(value).is_relative_to(places.allowed) and not find(value).exists()


def test_a_path_elsewhere_is_not_even_looked_up(places, monkeypatch):
    """On Windows, a look-up may contact the server that a path names."""
    from animatediff.hosts.a1111 import server_files

    looked, real = [], os.path.realpath
    monkeypatch.setattr(server_files.os.path, "realpath",
                        lambda path, **how: looked.append(str(path)) or real(path, **how))
    refusal("//server/share/a.png")
    assert looked and not any("server" in path for path in looked)


def test_what_gradio_blocks_is_blocked(places, host):
    host.shared.demo = SimpleNamespace(blocked_paths=[str(places.allowed / "a.png")])
    assert "does not read files there" in refusal("a.png") and find("none.png")
    host.shared.demo.blocked_paths = [str(places.linked)]
    assert "does not read files there" in refusal("none.png")


@pytest.mark.parametrize("options, api, wanted", [
    ({}, False, True), ({}, True, False), ({"hide_ui_dir_config": True}, False, False),
    ({"gradio_auth": "a:b"}, False, False), ({"gradio_auth_path": "/a"}, False, False),
    ({"webui_is_non_local": True}, False, False)], ids=str)
def test_a_page_of_this_machine_alone_may_name_any_file(host, places, options, api, wanted):
    from animatediff.hosts.a1111 import server_files

    vars(host.shared.cmd_opts).update(options)
    assert server_files.job_may_read_all(SimpleNamespace(is_api=api)) is wanted
    assert find(places.other / "a.png", anywhere=True) == places.other / "a.png"


# Other values that name a file.


@pytest.fixture
def stranger(tmp_path):
    """A PNG in a folder above the WebUI's outputs."""
    file = tmp_path.parent / f"{tmp_path.name}-private.png"
    Image.new("RGB", (8, 8), "red").save(file)
    yield file
    file.unlink()


def test_no_infotext_leads_the_last_frame_to_another_file(host, stranger):
    from animatediff.hosts.a1111 import pictures

    beside = Path(host.opts.outdir_img2img_samples) / "AnimateDiff" / "pictures"
    beside.mkdir(parents=True, exist_ok=True)
    for name in (os.path.relpath(stranger.with_suffix(""), beside), str(stranger.with_suffix(""))):
        assert (beside / f"{name}.png").resolve() == stranger
        with pytest.raises(AnimateDiffError, match="not kept"):
            pictures.find(name)


@pytest.mark.parametrize("name", ["motion_module", "motion_lora"])
def test_models_are_looked_for_in_their_folders(host, stranger, name):
    from animatediff.hosts.a1111 import library

    find = library.find if name == "motion_module" else library.find_lora
    said = set()
    for value in (str(stranger), str(stranger.with_name("none.png")), f"../{stranger.name}", "../none.png",
                  "//server/share/x.ckpt", "a\0b", "x" * 5000):
        with pytest.raises(AnimateDiffError) as caught:
            find(value)
        said.add((caught.value.what, caught.value.remedy))
    assert len(said) == 1


def test_a_link_among_the_kept_masks_is_no_kept_mask(host, stranger):
    from animatediff.hosts.a1111 import motion_mask

    out = io.BytesIO()
    Image.new("L", (4, 4), 7).save(out, "PNG")
    kept = motion_mask.keep(out.getvalue())
    assert np.asarray(motion_mask.read(kept, 1).pictures[0]).max() == 7
    (motion_mask.folder() / kept).unlink()
    (motion_mask.folder() / kept).symlink_to(stranger)
    with pytest.raises(AnimateDiffError):
        motion_mask.read(kept, 1)


def test_a_gallery_from_the_browser_makes_no_other_file_readable(host, stranger):
    """The host lets the page read every file that a gallery item names as `already_saved_as`."""
    from animatediff.hosts.a1111 import upscale

    host.shared.demo = SimpleNamespace(temp_files={"/outputs/shown.png"})
    kept = [upscale.as_shown({"name": name, "data": None}) for name in ("/outputs/shown.png?123", str(stranger))]
    assert [getattr(picture, "already_saved_as", None) for picture in kept] == ["/outputs/shown.png", None]

"""Several clips in one job of the stand-in, when another extension removes frames from one of them."""
from __future__ import annotations

import io

import pytest
from PIL import Image

REQUEST = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 70, "sampler_name": "Euler",
           "n_iter": 3}
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 4, "format": ["GIF"]}


@pytest.fixture(autouse=True)
def losing(bare_host):
    """An extension before ours that removes frames from the clips numbered in `host.losing`.

    It also adds `host.more` pictures after each clip.
    """
    host = bare_host
    host.losing, host.lost, host.more = (), 1, 0

    def postprocess_batch_list(self, p, pp, batch_number):
        if batch_number in host.losing:
            del pp.images[-host.lost:]
        for each in (pp.images, p.prompts, p.negative_prompts, p.seeds, p.subseeds):  # the host requires equal lengths
            each += each[:host.more]

    host.scripts.scripts_data.append((type("Losing", (host.scripts.Script,), {
        "title": lambda self: "Losing", "show": lambda self, is_img2img: host.scripts.AlwaysVisible,
        "postprocess_batch_list": postprocess_batch_list}), "losing.py"))
    return host


def made(host):
    """Return name, number of frames and infotext of each clip."""
    answer = host.request("txt2img", REQUEST, {"AnimateDiff": [CLIP]})
    assert answer.status == 200, answer
    opened = [Image.open(io.BytesIO(raw)) for raw in answer.images]
    names = sorted(path.name for path in (host.data / "outputs").rglob("*.gif"))
    for path in list((host.data / "outputs").rglob("*.gif")):
        path.unlink()
    texts = answer.info["infotexts"]
    return names, [picture.n_frames for picture in opened], texts, answer.info["extra_generation_params"]


def test_a_clip_that_lost_a_frame_has_its_own_seed_and_infotext(host):
    names, frames, texts, _ = made(host)
    assert names == ["00000-70.gif", "00001-74.gif", "00002-78.gif"] and frames == [4, 4, 4]
    host.losing = (0, 1)
    again, fewer, same, about = made(host)
    assert again == names and fewer == [3, 3, 4]
    without_score = [[part for part in text.split(", ") if "loop score" not in part] for text in (*texts, *same)]
    assert without_score[:3] == without_score[3:]
    assert about["AnimateDiff notes"].count("the job ended after 3 of 4 frames") == 2


def test_a_clip_that_lost_all_its_frames_is_not_made_of_the_next_ones(host):
    host.losing, host.lost = (0,), 4
    names, frames, texts, _ = made(host)
    assert names == ["00000-74.gif", "00001-78.gif"] and frames == [4, 4]
    assert ["Seed: 74" in texts[0], "Seed: 78" in texts[1]] == [True, True]


@pytest.mark.slow
def test_a_picture_that_comes_behind_the_last_frame_is_no_frame(host):
    names, frames, texts, _ = made(host)
    host.more = 1
    again, shown, same, _ = made(host)
    assert (again, same) == (names, texts)
    assert shown == [*frames, 1], "behind the clips, the gallery has the job's last picture of another's"


@pytest.mark.slow
def test_what_another_extension_says_of_the_next_clip_is_not_said_of_this_one(host):
    def before_process_batch(self, p, **about):
        p.extra_generation_params["Of clip"] = about["batch_number"]

    losing = host.scripts.scripts_data[0][0]
    losing.before_process_batch = before_process_batch
    host.losing = (0, 1)
    _, _, texts, _ = made(host)
    assert [f"Of clip: {i}" in text for i, text in enumerate(texts)] == [True] * 3

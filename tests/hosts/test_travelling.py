"""Prompt travel in the stand-in for the WebUI.

With a motion module without effect, each frame must be the host's own picture of the frame's prompt.
"""
from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from slow_cases import slow
from test_standin_adapter import REQUEST, animate, frames_of, host, library, plain, snapshot  # noqa: F401

LONG = "a red circle moving right, " * 24  # more than one chunk
CUT = {"model": "still.safetensors", "travel_interpolation": "hold", "returns": "frames"}
LINEAR = {"override_settings": {"sd_model_checkpoint": "linear"}}


def singly(host, prompts: list[str], **fields) -> np.ndarray:
    """Return each prompt's picture by the host alone, with the seed of its frame."""
    return np.concatenate([frames_of(host.request("txt2img", {**REQUEST, **LINEAR, **fields, "prompt": prompt,
                                                              "seed": REQUEST["seed"] + i}))
                           for i, prompt in enumerate(prompts)])


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize(("prompt", "texts"), [
    ("head\n0: a star\n3: a circle\ntail", ["head, a star, tail"] * 3 + ["head, a circle, tail"] * 3),
    slow('"0": "a star", "max_f-2": "a circle `t/2`"', ["a star"] * 4 + ["a circle 2", "a circle 2.5"]),
    slow("{@a star|a circle|}", ["a star", "a circle", ""] * 2),
    ("0: a star\n3: a circle AND a square :0.5", ["a star"] * 3 + ["a circle AND a square :0.5"] * 3),
], ids=["native", "fizz", "cyclic", "AND"])  # fmt: skip
def test_a_prompt_that_is_cut_gives_each_frame_its_own_picture(host, prompt, texts):
    frames = frames_of(animate(host, CUT, prompt=prompt, **LINEAR))
    assert same(frames, singly(host, texts))
    assert not same(frames[:1], frames[3:4])


def test_prompts_of_unequal_length_are_padded_with_the_empty_prompt(host):
    """The host pads a prompt to the length of its negative prompt the same way.

    So the short prompt's picture equals the host's picture with a long negative prompt.
    """
    host.opts.data["pad_cond_uncond"] = True
    frames = frames_of(animate(host, CUT, prompt=f"0: a star\n3: {LONG}", negative_prompt=LONG, **LINEAR))
    assert same(frames, singly(host, ["a star"] * 3 + [LONG.strip(" ,")] * 3, negative_prompt=LONG))


@pytest.mark.slow
def test_negative_prompts_of_unequal_length_travel(host):
    host.opts.data["pad_cond_uncond"] = True
    frames = frames_of(animate(host, CUT, prompt=LONG, negative_prompt=f"0: dark\n3: {LONG}", **LINEAR))
    expected = np.concatenate([singly(host, [LONG] * 6, negative_prompt="dark")[:3],
                               singly(host, [LONG] * 6, negative_prompt=LONG.strip(" ,"))[3:]])
    assert same(frames, expected)


def test_the_negative_prompt_travels_too(host):
    frames = frames_of(animate(host, CUT, prompt="a star", negative_prompt="0: dark\n3: bright", **LINEAR))
    expected = np.concatenate([singly(host, ["a star"] * 6, negative_prompt="dark")[:3],
                               singly(host, ["a star"] * 6, negative_prompt="bright")[3:]])
    assert same(frames, expected) and not same(frames, singly(host, ["a star"] * 6, negative_prompt="dark"))


def test_between_key_frames_the_host_gets_the_mixed_conditioning(host, monkeypatch):
    """The sampler's conditioning, against the formula in float64."""
    seen = []
    denoiser = sys.modules["modules.sd_samplers_cfg_denoiser"]
    reconstruct = denoiser.prompt_parser.reconstruct_multicond_batch
    monkeypatch.setattr(denoiser.prompt_parser, "reconstruct_multicond_batch",
                        lambda c, step: seen.append(reconstruct(c, step)[1]) or reconstruct(c, step))
    animate(host, {"travel_interpolation": "linear"}, prompt="0: a star\n4: a circle", steps=1)
    star, circle = (host.shared.sd_model.get_learned_conditioning([text])[0].double()
                    for text in ("a star", "a circle"))
    for frame, share in enumerate([0, 0.25, 0.5, 0.75, 1, 1]):
        torch.testing.assert_close(seen[0][frame].double(), star + share * (circle - star), atol=1e-5, rtol=1e-5)
    seen.clear()
    animate(host, prompt="0: a star\n4: a circle", steps=1)
    angle = torch.acos((star * circle).sum() / star.norm() / circle.norm())
    middle = (torch.sin(angle / 2) * (star + circle)) / torch.sin(angle)
    if torch.cos(angle).abs() > 0.9995:
        middle = (star + circle) / 2
    torch.testing.assert_close(seen[0][2].double(), middle, atol=1e-5, rtol=1e-5)


def test_a_part_of_and_that_one_side_lacks_fades_by_its_weight(host):
    from animatediff.hosts.a1111.travelling import of_frames
    from animatediff.travel import schedule

    parser = sys.modules["modules.prompt_parser"]
    texts = ["a star", "a circle AND a square :0.8"]
    encoded = parser.get_multicond_learned_conditioning(host.shared.sd_model, texts, 5)
    found = of_frames(encoded, schedule(f"0: {texts[0]}\n4: {texts[1]}", 5)).batch
    assert [[part.weight for part in parts] for parts in found] == [
        [1], [1, pytest.approx(0.2)], [1, pytest.approx(0.4)], [1, pytest.approx(0.6)], [1, 0.8]]
    assert torch.equal(found[2][1].schedules[0].cond, encoded.batch[1][1].schedules[0].cond)
    assert [len(parts) for parts in encoded.batch] == [1, 2], "what the host keeps is not changed"


def test_the_hosts_schedules_inside_a_key_frame_keep_their_steps(host):
    from animatediff.hosts.a1111.travelling import of_frames
    from animatediff.travel import Options, schedule

    parser = sys.modules["modules.prompt_parser"]
    entry = parser.ScheduledPromptConditioning
    host.shared.sd_model.cond_stage_model_empty_prompt = torch.zeros(1, 2, 1)
    one, two, other = (torch.full((2, 1), value) for value in (1.0, 2.0, 4.0))
    found = of_frames([[entry(3, one), entry(10, two)], [entry(6, other), entry(10, one)]],
                      schedule("0: x\n2: y", 3, Options(interpolation="linear")))
    assert [(e.end_at_step, e.cond[0, 0].item()) for e in found[1]] == [(3, 2.5), (6, 3.0), (10, 1.5)]
    assert [(e.end_at_step, e.cond[0, 0].item()) for e in found[0]] == [(3, 1.0), (10, 2.0)]


@pytest.mark.slow
def test_each_prompt_is_encoded_once(host, monkeypatch):
    asked = []
    encode = host.tiny.LatentDiffusion.get_learned_conditioning
    monkeypatch.setattr(host.tiny.LatentDiffusion, "get_learned_conditioning",
                        lambda self, texts: asked.extend(texts) or encode(self, texts))
    animate(host, {"video_length": 12}, prompt="0: a star\n4: a circle\n8: a star", negative_prompt="dull", n_iter=2)
    assert sorted(asked) == ["a circle", "a star", "dull"]


def test_hires_fix_travels_with_its_own_prompt(host, monkeypatch):
    from animatediff.hosts.a1111 import travelling

    made = []
    of_frames = travelling.of_frames
    monkeypatch.setattr(travelling, "of_frames",
                        lambda c, schedule: made.append(schedule.texts) or of_frames(c, schedule))
    answer = animate(host, prompt="0: a star\n3: a circle", enable_hr=True, denoising_strength=0.6,
                     hr_prompt="0: a cross\n3: a square")
    assert answer.status == 200
    assert [texts for texts in made if texts != ("",)] == [("a star", "a circle"), ("a cross", "a square")]


@pytest.mark.slow
def test_extra_networks_of_all_key_frames_act_and_a_note_says_so(host, monkeypatch):
    networks = sys.modules["modules.extra_networks"]
    active = []
    monkeypatch.setattr(networks, "activate", lambda p, data: active.append(
        {kind: [n.items for n in found] for kind, found in data.items()}))
    answer = animate(host, CUT, prompt="<lora:all:0.5>\n0: a star\n3: a circle<lora:late:1>", **LINEAR)
    assert active[0] == {"lora": [["all", "0.5"], ["late", "1"]]}
    assert any("act on the whole clip" in note and "late" in note for note in answer.info["extra_generation_params"][
        "AnimateDiff notes"])
    assert same(frames_of(answer), singly(host, ["a star"] * 3 + ["a circle"] * 3))


def test_a_style_goes_around_every_key_frame(host):
    styles = SimpleNamespace(apply_styles_to_prompt=lambda text, names: f"{text}, sharp" if names else text,
                             apply_negative_styles_to_prompt=lambda text, names: f"{text}, dull")
    from animatediff.hosts.a1111 import travelling

    p = SimpleNamespace(styles=["s"], prompt="0: a star\n3: a circle", negative_prompt="0: x\n3: y")
    travelling.shared.prompt_styles = styles
    try:
        from animatediff.settings import Settings

        pair = travelling.schedules(p, Settings(), ["0: a star\n3: a circle, sharp"] * 6,
                                ["0: x\n3: y, dull"] * 6)
    finally:
        del travelling.shared.prompt_styles
    assert pair[0].texts == ("a star, sharp", "a circle, sharp") and pair[1].texts == ("x, dull", "y, dull")


def test_prompts_that_another_extension_has_made_for_each_frame_are_left_alone(host):
    from animatediff.hosts.a1111 import travelling
    from animatediff.settings import Settings

    p = SimpleNamespace(styles=[], prompt="{@a|b}", negative_prompt="")
    for prompts in (["a", "b", "a"], ["a", "a", "a"]):
        prompt, negative = travelling.schedules(p, Settings(), prompts, [""] * 3)
        assert [prompt.shares(frame) for frame in range(3)] == [[(text, 1.0)] for text in prompts]
        assert negative.texts == ("",)


def test_the_infotext_has_the_prompt_as_it_was_written(host):
    prompt = "best\n0: a star\n3: a circle"
    answer = animate(host, {"travel_interpolation": "linear", "travel_hold": 0.25}, prompt=prompt)
    text = answer.info["infotexts"][0]
    assert text.startswith(prompt + "\n") and "travel_interpolation: linear" in text and "travel_hold: 0.25" in text


@pytest.mark.parametrize(("prompt", "said"), [
    ("0: a\nb\n3: c", "prompt, line 2, column 1: 'b' is between"), ("{@a|b", "never closed"),
    ('"0": "`1+`"', "cannot be computed")])
def test_what_cannot_be_read_stops_the_job_with_its_place(host, prompt, said):
    before = snapshot(host), plain(host)
    answer = animate(host, prompt=prompt)
    assert answer.status == 422 and said in answer.detail
    assert (snapshot(host), plain(host)) == before


def test_a_prompt_that_another_extension_has_spoilt_since_stops_the_job(host, monkeypatch):
    from animatediff.errors import SettingsError
    from animatediff.hosts.a1111 import travelling

    def begin(p, settings):
        raise SettingsError("cannot be read", where="prompt", remedy="Write it anew.")

    monkeypatch.setattr(travelling, "in_clip", begin)
    answer = animate(host, prompt="{@a star|a circle}")
    assert answer.status == 422 and "cannot be read" in answer.detail


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_on_the_request(host, monkeypatch, fails):
    from animatediff.hosts.a1111 import job, travelling

    requests = []
    begin, sampling = travelling.in_clip, job.animated
    monkeypatch.setattr(travelling, "in_clip", lambda p, settings: requests.append(p) or begin(p, settings))

    def animated(p, *args, **kwargs):
        assert set(travelling.METHODS) <= vars(p).keys()
        if fails:
            raise RuntimeError("no")
        return sampling(p, *args, **kwargs)

    monkeypatch.setattr(job, "animated", animated)
    assert animate(host, prompt="0: a star\n3: a circle").status == (500 if fails else 200)
    assert requests and not set(travelling.METHODS) & vars(requests[0]).keys()


def test_everything_is_as_before(host):
    before = snapshot(host), plain(host)
    kept = []
    for fields in ({}, {"enable_hr": True, "denoising_strength": 0.6}, {"n_iter": 2}):
        kept.append(animate(host, prompt="0: a star\n3: a circle", **fields).status)
    assert kept == [200, 200, 200]
    assert (snapshot(host), plain(host)) == before

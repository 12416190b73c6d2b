"""The recorded jobs, and the format of their traces."""
from __future__ import annotations

import json
from pathlib import Path

TRACES = Path(__file__).parent
RECORDER = TRACES.parent / "recorder"
SHORT = "a red circle moving right"
LONG = ", ".join([SHORT] * 16)  # 95 tokens in any tokenizer that has the words: two chunks
HOOKS_THAT_RAISE = [
    "setup", "before_process", "process", "before_process_batch", "after_extra_networks_activate", "process_batch",
    "process_before_every_sampling", "post_sample", "postprocess_batch", "postprocess_batch_list", "postprocess_image",
    "postprocess_maskoverlay", "postprocess_image_after_composite", "postprocess", "cfg_denoiser", "cfg_denoised",
    "cfg_after_cfg",
]  # fmt: skip
COMMON = {"prompt": SHORT, "negative_prompt": "", "width": 64, "height": 64, "steps": 2, "seed": 1, "subseed": 2,
          "cfg_scale": 5.0, "sampler_name": "Euler a", "batch_size": 2}

# name -> tab, fields of the request, and the recorder's plan
JOBS: dict[str, tuple[str, dict, dict]] = {
    "txt2img_two_batches": ("txt2img", {"n_iter": 2}, {}),
    "hires_latent": ("txt2img", {"enable_hr": True, "hr_scale": 2.0, "hr_upscaler": "Latent",
                                 "denoising_strength": 0.5}, {}),
    "img2img": ("img2img", {"denoising_strength": 0.75, "steps": 4}, {}),
    "and_of_unequal_lengths": ("txt2img", {"prompt": f"{SHORT} AND {LONG}", "batch_size": 3,
                                           "sampler_name": "DDIM"}, {}),
    "override_checkpoint": ("txt2img", {"override_settings": {"sd_model_checkpoint": "second"}}, {}),
    "error_in_the_forward": ("txt2img", {}, {"fail": 2}),
    "errors_in_hooks": ("txt2img", {}, {"raise_in": HOOKS_THAT_RAISE}),
    "interrupt": ("txt2img", {"steps": 4, "n_iter": 2}, {"interrupt": 2}),
    "interrupt_before_hires": ("txt2img", {"enable_hr": True, "hr_scale": 2.0, "hr_upscaler": "Latent"},
                               {"interrupt": 1}),
}


def write(name: str, trace: dict) -> None:
    """Write one event per line, for readable diffs."""
    head = {key: value for key, value in trace.items() if key != "events"}
    lines = [f'  {json.dumps(event, ensure_ascii=False)}' for event in trace["events"]]
    text = json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "events": [\n' + ",\n".join(lines) + "\n ]\n}\n"
    (TRACES / f"{name}.json").write_text(text, encoding="utf-8")


def read(name: str) -> dict:
    return json.loads((TRACES / f"{name}.json").read_text(encoding="utf-8"))


def lines(trace: dict) -> list[str]:
    """Return a trace as lines of text, for readable assertion messages."""
    head = {key: value for key, value in trace.items() if key != "events"}
    return [json.dumps(head, sort_keys=True), *(json.dumps(e, sort_keys=True) for e in trace["events"])]

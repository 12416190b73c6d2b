"""The schedule "views" in the stand-in for the WebUI."""
from __future__ import annotations

import numpy as np
import pytest
from slow_cases import slow
from test_standin_adapter import animate, frames_of, host, library, plain, snapshot  # noqa: F401

VIEWS = {"video_length": 9, "batch_size": 4, "overlap": 1, "context_schedule": "views", "returns": "frames"}


def watched(host, settings, **fields):
    """Return the clip, and the number of rows of each UNet call."""
    rows = []
    unet = host.shared.sd_model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        return frames_of(animate(host, settings, **fields)).astype(int), rows
    finally:
        handle.remove()


def test_the_unet_sees_the_clip_at_once_and_the_module_its_windows(host):
    wanted, before = plain(host), snapshot(host)
    seen, rows = watched(host, VIEWS)
    assert rows == [18] * 3
    apart, rows = watched(host, VIEWS, override_settings={"batch_cond_uncond": False})
    assert rows == [9] * 6 and np.abs(seen - apart).max() <= 1
    windowed, _ = watched(host, {**VIEWS, "context_schedule": "static standard"})
    stills, _ = watched(host, {**VIEWS, "motion_effect": 0})
    assert np.abs(seen - windowed).mean() < 0.5 * np.abs(seen - stills).mean()
    assert plain(host) == wanted and snapshot(host) == before


@pytest.mark.slow
def test_one_window_is_the_plain_clip(host):
    one = {**VIEWS, "video_length": 4}
    seen, plainly = watched(host, one), watched(host, {**one, "context_schedule": "uniform"})
    assert (seen[0] == plainly[0]).all() and seen[1] == plainly[1]


@pytest.mark.parametrize("settings", [slow({"closed_loop": "seamless", "seam_repair": 0.5}),
                                      {"motion_scale": "0: 0.5, 8: 1.5"}])
def test_with_what_changes_from_frame_to_frame(host, settings):
    before = snapshot(host)
    seen, _ = watched(host, {**VIEWS, **settings})
    assert len(seen) == 9 and (seen != watched(host, VIEWS)[0]).any()
    assert snapshot(host) == before


def test_windows_longer_than_the_modules_positions_are_refused(host):
    ok = animate(host, {**VIEWS, "model": "short.safetensors"})
    assert ok.status == 200
    refused = animate(host, {**VIEWS, "model": "short.safetensors", "batch_size": 5})
    assert refused.status == 422 and "5 frames" in refused.detail + refused.error

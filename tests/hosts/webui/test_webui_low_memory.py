"""A WebUI that moves the model's parts between devices makes the same clips, and is left unchanged."""
from __future__ import annotations

import pytest
from real_host import differences, learn
from test_webui_generation import EIGHT
from webui_host import Host

TRAVELLING = "0: a red circle at rest\n4: a blue circle at rest"
HIRES = dict(enable_hr=True, hr_upscaler="Latent", hr_scale=1.5, hr_second_pass_steps=2, denoising_strength=0.7)

pytestmark = pytest.mark.slow  # a WebUI for each flag


@pytest.mark.parametrize("flag", ["--medvram", "--lowvram"])
def test_clips_are_bit_for_bit_those_of_a_webui_with_all_in_memory(host, tmp_path, flag):
    def clips(webui: Host) -> list[list[str]]:
        return [webui.txt2img(EIGHT, **fields).expect().images for fields in ({}, {"prompt": TRAVELLING, **HIRES})]

    wanted = clips(host)
    extensions = {link.name: link.resolve() for link in (host.data / "extensions").iterdir()}
    small = Host(tmp_path, extensions, {"animatediff_model_path": str(host.motion)}, [flag])
    try:
        learn(small.start())
        assert clips(small) == wanted
        assert small.clean_pictures == host.clean_pictures
        assert not differences(small)
    finally:
        small.stop()

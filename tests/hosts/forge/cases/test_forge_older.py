"""Hosts of Forge's family with an older AnimateDiff extension beside this one, in two orders of loading.

WEBUI_EXTENSIONS: a folder with sd-forge-animatediff and sd-webui-animatediff. Forge cannot load either of them.
"""
from __future__ import annotations

import os
from pathlib import Path

import pytest
from webui_host import DEMO, ROOT, Host

THEIRS = Path(os.environ.get("WEBUI_EXTENSIONS", "/nowhere"))
CLIP = {"enable": True, "model": "motion.safetensors", "video_length": 8, "format": ["GIF"]}
OLDER = ["sd-forge-animatediff", "sd-webui-animatediff"]

pytestmark = pytest.mark.skipif(not all((THEIRS / name).is_dir() for name in OLDER),
                                reason=f"WEBUI_EXTENSIONS names no folder with {', '.join(OLDER)}")


@pytest.fixture(scope="module", params=zip(OLDER, ["animatediff", "zz-animatediff"]), ids="{0[1]} beside {0[0]}".format)
def beside(host_kind, request, tmp_path_factory):
    """The host, and the folder name of the older extension."""
    older, ours = request.param
    data = tmp_path_factory.mktemp("older")
    motion = data / "motion"
    motion.mkdir()
    (motion / "motion.safetensors").symlink_to(DEMO / "motion.safetensors")
    host = Host(data, {ours: ROOT, older: THEIRS / older,
                       "animatediff-test-probe": ROOT / "tests" / "hosts" / "webui" / "probe"},
                {"animatediff_model_path": str(motion)}, kind=host_kind)
    try:
        yield host.start(), older
    finally:
        host.stop()


def test_ours_makes_the_clip_and_names_the_other_one(beside):
    host, older = beside
    loaded = f"animatediff ({older})" in host.get("/sdapi/v1/scripts").expect().body["txt2img"]
    said = f"installed too ({older})" if loaded else f"({older}) does not run in this WebUI"
    assert said in host.log()
    plain = host.plain()
    clip = host.txt2img(CLIP).expect()
    assert len(clip.images) == 1 and "AnimateDiff" in clip.info["infotexts"][0]
    both = host._request(CLIP, {})
    both["alwayson_scripts"][f"AnimateDiff ({older})"] = {"args": [CLIP]}
    answer = host.post("/sdapi/v1/txt2img", both)
    assert answer.status == 422
    assert ("cannot run together" if loaded else "not found") in answer.detail
    assert host.txt2img(CLIP).expect().images == clip.images
    assert host.plain() == plain

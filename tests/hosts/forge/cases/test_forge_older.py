"""Hosts of Forge's family with an older AnimateDiff extension beside this one, in two orders of loading.

WEBUI_EXTENSIONS: a folder with sd-forge-animatediff and sd-webui-animatediff. Forge cannot load either of them.
"""
from __future__ import annotations

import os
from pathlib import Path

import pytest
from webui_host import DEMO, KINDS, ROOT, Host

THEIRS = Path(os.environ.get("WEBUI_EXTENSIONS", "/nowhere"))
CLIP = {"enable": True, "model": "motion.safetensors", "video_length": 8, "format": ["GIF"]}
FAMILY = [kind for kind in KINDS if kind.name != "A1111" and kind.folder]
OLDER = ["sd-forge-animatediff", "sd-webui-animatediff"]

pytestmark = pytest.mark.skipif(not all((THEIRS / name).is_dir() for name in OLDER),
                                reason=f"WEBUI_EXTENSIONS names no folder with {', '.join(OLDER)}")


@pytest.fixture(scope="module", params=[(kind, older) for kind in FAMILY for older in zip(
    OLDER, ["animatediff", "zz-animatediff"], strict=True)],
    ids=lambda one: f"{one[0].name}-{one[1][1]} beside {one[1][0]}")
def beside(request, tmp_path_factory):
    """The host, and the folder name of the older extension."""
    kind, (older, ours) = request.param
    data = tmp_path_factory.mktemp("older")
    motion = data / "motion"
    motion.mkdir()
    (motion / "motion.safetensors").symlink_to(DEMO / "motion.safetensors")
    host = Host(data, {ours: ROOT, older: THEIRS / older,
                       "animatediff-test-probe": ROOT / "tests" / "hosts" / "webui" / "probe"},
                {"animatediff_model_path": str(motion)}, kind=kind)
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

"""Access rights of requests, and that no request breaks or stops the WebUI or reads files without permission."""
from __future__ import annotations

import base64
import http.client
import io
import json
import re
import socket
import struct
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from test_webui_api import xyz_args
from test_webui_generation import EIGHT, PROMPT
from webui_host import DEMO, ROOT, Host, Kind

from tests.fuzz import request_bodies
from tests.fuzz.inputs import draws

CLIP = {**EIGHT, "video_length": 2, "format": ["PNG"]}
SMALL = {"prompt": "0: a circle\n1: a square", "steps": 1, "width": 64, "height": 64, "sampler_name": "Euler",
         "seed": 1}
PREFLIGHT, SCHEDULE, TXT2IMG = "/animatediff/v1/preflight", "/animatediff/v1/schedule", "/sdapi/v1/txt2img"
ROUTES = ("version", "schema", "models", "preflight", "schedule")
BODIES, GROWTH = 10_000, 64 * 2**20  # bytes
# Files that exist on any Linux, and names of missing files.
THERE = ("/etc/shadow", "/etc/hostname", "/etc/init.d", "/proc/self/environ", "~/..",
         "../../../../../../../../etc/hostname")
MISSING = ("/etc/none", "/nowhere/none.png", "../../../../../../../../nowhere/none.png", "~/none.png")


def asking(**settings) -> dict:
    """Return the body of a request for a clip."""
    return {**SMALL, "alwayson_scripts": {"AnimateDiff": {"args": [{**CLIP, **settings}]}}}


def png(side: int = 16) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).save(out, "PNG")
    return out.getvalue()


def resident(host) -> int:
    """Return the bytes of memory that the WebUI uses."""
    return int(Path(f"/proc/{host.process.pid}/statm").read_text().split()[1]) * 4096


# -- any body ----------------------------------------------------------------------------------------------------------


def test_any_body_is_answered_or_refused_and_leaves_nothing(host):
    """The fixture compares pictures and state afterwards. RUN_FUZZ=minutes for more."""
    answers, levels = Counter(), []
    for sent, rng in enumerate(draws(BODIES), 1):
        which = rng.randrange(20)
        if which < 12:
            path, data = PREFLIGHT, request_bodies.raw(rng, request_bodies.preflight(rng))
        elif which < 19:
            path, data = SCHEDULE, request_bodies.raw(rng, request_bodies.schedule(rng))
        else:
            path = TXT2IMG
            data = json.dumps({**SMALL, "alwayson_scripts": {"AnimateDiff": request_bodies.entry(rng)}}).encode()
        answer = host.send(path, data, seconds=60)
        answers[path, answer.status] += 1
        assert answer.status < 500, (path, data[:2000], answer.body)
        if sent % (BODIES // 5) == 0:
            levels.append(resident(host))
    print(f"{sent} bodies, memory in MiB {[level >> 20 for level in levels]}:", dict(answers))
    assert levels[-1] - levels[0] < GROWTH  # everything that is loaded once has been loaded by then
    assert {path for path, status in answers if status == 200} == {PREFLIGHT, SCHEDULE, TXT2IMG}


@pytest.mark.parametrize("value", [
    "[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "[" * 500 + "]" * 500, "9" * 4000,
    "9" * 100_000, "1e999", "NaN", "-Infinity", '"\\ud800"', '"\\u0000"', "null", "", "[", '"', "\xff",
    '"' + "x" * 10_000_000 + '"',
    '{"args": [[]]}', '{"args": {}}', '{"args": 5}', '{"args": "text"}', '{"args": null}',
    '{"args": [' + "1," * 99 + "1]}",
    '{"args": [{"enable": true, "formats": [["GIF"]]}]}', '{"args": [{"enable": true, "steps": Infinity}]}',
    '{"args": [{"enable": true, "frames": 1180591620717411303424}]}',
], ids=lambda value: value[:40])
def test_odd_json_is_refused_or_asks_for_nothing(host, value):
    """As the whole body, as our entry, and as a value in it."""
    base = json.dumps({**SMALL, "alwayson_scripts": {"AnimateDiff": "HERE"}})
    inside = json.dumps(asking(request_id="HERE"))
    for path, text in ((PREFLIGHT, value), (SCHEDULE, value), *((path, body.replace('"HERE"', value))
                       for path in (PREFLIGHT, TXT2IMG) for body in (base, inside))):
        answer = host.send(path, text.encode("latin1"))
        assert answer.status < 500, (path, text[:200], answer.body)


@pytest.mark.parametrize("field, value", [("steps", 2**31), ("steps", 10**9), ("n_iter", 2**70), ("n_iter", 10**9)])
def test_a_clip_of_absurd_size_is_refused_before_it_begins(host, field, value):
    began = time.monotonic()
    for path in (PREFLIGHT, TXT2IMG):
        assert host.post(path, {**asking(), field: value}).status == 422
    assert time.monotonic() - began < 10


def test_large_pictures_of_preflights_do_not_stay(host):
    body = {**asking(last_frame=base64.b64encode(png(2048)).decode()), "init_images": ["a picture"]}
    host.post(PREFLIGHT, body).expect()
    level = resident(host)
    for _ in range(10):
        host.post(PREFLIGHT, body).expect()
    assert resident(host) - level < 40 * 2**20  # ten of them are 160 MiB


# -- files of the server -----------------------------------------------------------------------------------------------


def told(host, path: str, name: str, value: str) -> str:
    """Return the response to this value, with the value removed."""
    answer = host.post(path, asking(**{name: value}))
    said = json.dumps(answer.body["problems"] if answer.ok else answer.body)
    return said.replace(json.dumps(value)[1:-1], "…").replace(value, "…")


@pytest.mark.parametrize("path", [PREFLIGHT, TXT2IMG])
@pytest.mark.parametrize("name", ["motion_mask", "last_frame", "motion_module", "motion_lora", "mask_path",
                                  "video_path", "init", "checkpoint"])
def test_no_parameter_tells_whether_a_file_is_there(host, path, name):
    """`init` and `checkpoint`, which other hosts have, are not read."""
    if name in ("init", "checkpoint") and path == TXT2IMG:
        pytest.skip("these are read by no WebUI: the clip is made")
    host.mark()
    said = {told(host, path, name, value) for value in (*THERE, *MISSING)}
    assert len(said) == 1, said
    assert "Traceback" not in host.log()


def test_links_and_dots_do_not_lead_out_of_the_allowed_folder(host, tmp_path):
    outside = tmp_path / "a.png"
    outside.write_bytes(png())
    place = host.data / "masks"
    place.mkdir()
    (place / "inside.png").write_bytes(png())
    (place / "link.png").symlink_to(outside)
    (place / "folder").symlink_to(tmp_path)
    for value in (place / "inside.png", "masks/inside.png", "masks/../masks/inside.png"):
        assert host.post(PREFLIGHT, asking(motion_mask=str(value))).expect().body["problems"] == []
    said = {told(host, PREFLIGHT, "motion_mask", str(value)) for value in (
        outside, tmp_path / "none.png", place / "link.png", place / "folder" / "a.png", place / "folder" / "none.png",
        f"masks/../../{tmp_path.name}/a.png")}
    assert len(said) == 1 and "does not read files there" in said.pop()


def test_an_infotext_names_no_other_file_either(host):
    settings = "enable: True, motion_module: motion.safetensors, frames: 2, formats: PNG"
    for name in ("motion_mask", "last_frame"):
        said = set()
        for value in ("/etc/hostname", "/etc/none", "../../../../../../../../etc/hostname"):
            infotext = f'{PROMPT}\nSteps: 1, Sampler: Euler, Size: 64x64, AnimateDiff: "{settings}, {name}: {value}"'
            answer = host.post(TXT2IMG, {"infotext": infotext})
            if name == "motion_mask":
                assert answer.status == 422
            said.add((answer.status, answer.detail.replace(value, "…")))
        assert len(said) == 1, said


def test_an_axis_of_a_plot_names_no_other_file_either(host):
    said = {host.txt2img(CLIP, prompt=PROMPT, steps=1, script_name="X/Y/Z plot",
                         script_args=xyz_args(host, "[AnimateDiff] Motion mask", value)).detail
            for value in ("/etc/hostname", "/etc/none")}
    assert len(said) == 1 and "does not read files there" in said.pop()


def test_no_request_opens_an_address(host):
    """Regardless of `api_enable_requests`, which concerns the host's own pictures."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"//127.0.0.1:{listener.getsockname()[1]}/x.png"
        for allowed in (True, False):
            host.set_directly(api_enable_requests=allowed, api_forbid_local_requests=not allowed)
            for name in ("motion_mask", "last_frame", "motion_module", "motion_lora"):
                for value in (f"http:{url}", f"tcp:{url}", url, url.replace("/", "\\")):
                    for path in (PREFLIGHT, TXT2IMG):
                        answer = host.post(path, {**asking(**{name: value}), "init_images": []})
                        assert answer.status == 422 or answer.body["problems"]
        with pytest.raises(TimeoutError):
            listener.accept()


def test_no_request_moves_the_folder_of_models(host):
    before = host.get("/animatediff/v1/models").expect().body["folders"]
    host.post("/sdapi/v1/options", {"animatediff_model_path": "/etc"})
    assert host.get("/animatediff/v1/models").expect().body["folders"] == before
    body = {**asking(model="hostname"), "override_settings": {"animatediff_model_path": "/etc"}}
    answer = host.post(TXT2IMG, body)
    assert answer.status == 422 and "no such motion module" in answer.detail and "/etc" not in answer.detail


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a\0b", "..", "C:\\x", "x" * 5000, "\u202egnp", "a\nb", "CON",
                                  "~"])
def test_a_clips_files_stay_in_its_folder(host, files, name):
    def elsewhere():
        return {path for path in host.data.rglob("*") if host.outputs not in path.parents}

    there = elsewhere()
    answer = host.txt2img({**CLIP, "request_id": name}, prompt=PROMPT, steps=1, sampler_name="Euler")
    assert answer.status in (200, 422)
    assert all(path.parts[:2] == ("txt2img-images", "AnimateDiff") for path in files())
    assert elsewhere() - there <= {host.data / "params.txt"}


@pytest.mark.parametrize("settings", [
    {"animatediff_default_save_formats": {"a": 1}, "animatediff_windows_per_call": "x"},
    {"animatediff_live_preview": [[]], "animatediff_mp4_crf": 1e300}, {"animatediff_default_save_formats": "GIF"}],
    ids=str)
def test_odd_values_of_our_options_break_nothing(host, settings):
    host.post("/sdapi/v1/options", settings)
    host.set_directly(**settings)
    host.txt2img(CLIP, prompt=PROMPT, steps=1, sampler_name="Euler").expect()


# -- pictures of strangers ---------------------------------------------------------------------------------------------


def test_a_picture_that_is_a_list_of_streams_opens_nothing(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1] & ~1
    sdp = f"\nv=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 26\n"
    for head in (b"\x1aE\xdf\xa3", b"\0\0\0\x18ftypisom"):
        data = base64.b64encode(head + sdp.encode()).decode()
        began = time.monotonic()
        for path, body in (("/sdapi/v1/png-info", {"image": data}), ("/sdapi/v1/img2img", {"init_images": [data]}),
                           (PREFLIGHT, asking(motion_mask=data)), (TXT2IMG, asking(motion_mask=data)),
                           (PREFLIGHT, asking(last_frame=data))):
            host.post(path, body)
        assert time.monotonic() - began < 10


def test_png_info_of_any_infotext_of_ours_answers(host):
    for rng in draws(200):
        values = request_bodies.settings(rng)
        text = ", ".join(f"{name}: {json.dumps(value)}" for name, value in values.items())
        text = text.replace("\\ud8", "\\u00")  # the host itself fails on unpaired surrogates
        text = f"a prompt\nSteps: 1, Sampler: Euler, AnimateDiff: {json.dumps(text) if rng.randrange(2) else text}"
        image = with_text(text.encode("latin1", "replace")[:20_000])
        answer = host.post("/sdapi/v1/png-info", {"image": base64.b64encode(image).decode()})
        assert answer.status < 500, (text, answer.body)


def with_text(text: bytes) -> bytes:
    """Return a PNG with an infotext, written by hand."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
            + chunk(b"tEXt", b"parameters\0" + text) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b""))


# -- who may ask -------------------------------------------------------------------------------------------------------


def started(kind: Kind, folder: Path, flags: list[str], without: tuple[str, ...] = ()) -> Host:
    motion = folder / "motion"
    motion.mkdir()
    (motion / "motion.safetensors").symlink_to(DEMO / "motion.safetensors")
    host = Host(folder, {"animatediff": ROOT}, {"animatediff_model_path": str(motion)}, flags, without, kind)
    try:
        return host.start()
    except RuntimeError:
        host.stop()
        raise


@pytest.fixture(scope="module")
def page_alone(host_kind, tmp_path_factory):
    """A WebUI with a password and without an API."""
    folder = tmp_path_factory.mktemp("page")
    host = started(host_kind, folder, ["--gradio-auth", "me:secret"], ("--api", "--api-server-stop"))
    yield host
    host.stop()


@pytest.fixture(scope="module")
def guarded(host_kind, tmp_path_factory):
    """An API with a password, of a server that hides its folders."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "allowed").mkdir()
    host = started(host_kind, folder, ["--api-auth", "me:secret", "--hide-ui-dir-config", "--gradio-allowed-path",
                                  str(folder / "allowed")])
    yield host
    host.headers = {}
    host.stop()


def test_without_an_api_there_are_no_routes(page_alone):
    for route in ROUTES:
        for data in (None, b"{}"):
            assert page_alone.send(f"/animatediff/v1/{route}", data).status in (404, 405)
    assert page_alone.post(PREFLIGHT, asking(motion_mask="/etc/shadow")).body == {"detail": "Not Found"}


def test_the_page_tells_its_lines_by_the_hosts_own_way_and_behind_its_password(page_alone):
    config = page_alone.get("/config")
    assert config.status == 401
    form = b"username=me&password=secret"
    connection = http.client.HTTPConnection("127.0.0.1", page_alone.port)
    connection.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
    cookie = connection.getresponse().getheader("set-cookie").split(";")[0]
    page_alone.headers = {"Cookie": cookie}
    try:
        config = page_alone.get("/config").expect().body
        said = {value: lines(page_alone, config, value) for value in ("", "/etc/hostname", "/etc/none")}
    finally:
        page_alone.headers = {}
    assert "Frames" in said[""] and "does not read files there" not in said[""]
    assert "does not read files there" in said["/etc/none"] and said["/etc/none"] == said["/etc/hostname"]
    assert page_alone.post("/run/predict", {"fn_index": 0, "data": []}).status == 401


def lines(host: Host, config: dict, mask: str) -> str:
    """Return the lines under our controls for this motion mask."""
    by_id = {component["id"]: component["props"] for component in config["components"]}
    names = {props.get("elem_id"): number for number, props in by_id.items()}
    shown, field = names["txt2img-ad-preflight"], names["txt2img-ad-motion-mask"]
    place, event = next((place, event) for place, event in enumerate(config["dependencies"])
                        if event["outputs"] == [shown] and field in event["inputs"])
    data = [mask if number == field else by_id[number].get("value") for number in event["inputs"]]
    answer = host.post("/run/predict", {"fn_index": place, "data": data, "session_hash": "x"}).expect()
    return re.sub(r' data-number="\d+"', "", answer.body["data"][0])


def test_an_api_without_a_page_has_the_routes(host_kind, tmp_path):
    host = started(host_kind, tmp_path, ["--nowebui"])
    try:
        assert host.get("/animatediff/v1/version").ok
        assert host.post(PREFLIGHT, asking()).expect().body["problems"] == []
        assert "does not read files there" in told(host, TXT2IMG, "motion_mask", "/etc/hostname")
    finally:
        host.stop()


@pytest.mark.parametrize("name", ROUTES)
def test_routes_want_the_password_of_the_hosts_api(guarded, name):
    data = None if name in ROUTES[:3] else json.dumps({} if name == "schedule" else asking()).encode()
    for pair, wanted in ((None, 401), ("me:wrong", 401), (" me:secret", 401), ("me:secret ", 401), ("me:", 401),
                         ("me:secret", 200)):
        guarded.headers = {} if pair is None else {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        assert guarded.send(f"/animatediff/v1/{name}", data).status == wanted, pair


def test_a_server_that_hides_its_folders_reads_where_its_pages_may(guarded):
    guarded.headers = {"Authorization": f"Basic {base64.b64encode(b'me:secret').decode()}"}
    (guarded.data / "allowed" / "a.png").write_bytes(png())
    fine = guarded.post(PREFLIGHT, asking(motion_mask=str(guarded.data / "allowed" / "a.png"))).expect()
    assert fine.body["problems"] == []
    assert len({told(guarded, PREFLIGHT, "motion_mask", value) for value in (*THERE, *MISSING)}) == 1

"""The routes /animatediff/v1/… and a request's arguments: when the routes exist, and the response to any JSON."""
from __future__ import annotations

import json
from inspect import signature
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from tests.fuzz import request_bodies
from tests.fuzz.inputs import draws

DEEP = request_bodies.nested(900)
HALF = "\ud800"
CLIP = {"enable": True, "motion_module": "moving.safetensors", "frames": 2, "formats": ["PNG"]}


@pytest.fixture
def host(lasting_host):
    return lasting_host


@pytest.fixture
def app(host):
    """An app without our routes. At the end they are removed, as when scripts are loaded again."""
    from fastapi import FastAPI

    app = FastAPI()
    yield app
    host.script_callbacks.script_unloaded_callback()


def routes(app):
    return [route for route in app.routes if route.path.startswith("/animatediff/")]


def refused(answer, *args) -> str:
    """Return the message for a request with a client's error."""
    from fastapi import HTTPException

    with pytest.raises(HTTPException) as caught:
        answer(*args)
    assert 400 <= caught.value.status_code < 500 and caught.value.detail
    json.dumps(caught.value.detail, ensure_ascii=False).encode()
    return caught.value.detail


def test_without_the_hosts_api_there_are_no_routes(host, app):
    from modules.api.api import Api

    plain = Api.init_script_args
    host.script_callbacks.app_started_callback(None, app)
    assert routes(app) == [] and Api.init_script_args is plain


def test_routes_are_behind_what_the_hosts_own_are_behind(host, app):
    from modules.api.api import Api

    plain, guard = Api.init_script_args, ["the host's password"]
    Api(app, guard)
    host.script_callbacks.app_started_callback(None, app)
    assert len(routes(app)) == 9 and all(route.dependencies is guard for route in routes(app))
    assert Api.init_script_args is not plain
    host.script_callbacks.script_unloaded_callback()
    assert Api.init_script_args is plain


@pytest.mark.parametrize("entry, args", [
    ({"args": [CLIP]}, [CLIP]), ({"args": CLIP}, [CLIP]), ({"args": []}, []), ({}, []),
    (None, ...), (5, ...), ("args", ...), ([CLIP], ...), ({"args": 5}, ...), ({"args": "enable"}, ...),
    ({"args": None}, ...), ({"args": [{**CLIP, "fps": float("nan")}]}, ...), ({"args": [CLIP, HALF]}, ...),
    ({"args": [{**CLIP, "frames": 2**70}]}, ...), ({"args": [DEEP]}, ...),
], ids=lambda value: repr(value)[:50])
def test_arguments_of_a_request(host, app, entry, args):
    from modules.api.api import Api

    api = Api(app)
    host.script_callbacks.app_started_callback(None, app)
    runner = host.scripts.scripts_txt2img
    script = next(script for script in runner.alwayson_scripts if script.title() == "AnimateDiff")
    script.args_from, script.args_to = 1, 60
    for name in ("AnimateDiff", "animatediff"):
        asked = SimpleNamespace(alwayson_scripts={name: entry})
        if args is ...:
            refused(api.init_script_args, asked, [None] * 60, runner)
        else:
            assert api.init_script_args(asked, [None] * 60, runner)[1:] == [*args, *[None] * (59 - len(args))]


@pytest.mark.parametrize("body", [
    None, [], "text", 5, {}, {"alwayson_scripts": 5}, {"alwayson_scripts": []},
    {"alwayson_scripts": {"AnimateDiff": 5}},
    *({"alwayson_scripts": {"AnimateDiff": {"args": [CLIP]}}, **fields} for fields in (
        {"steps": float("inf")}, {"steps": [2]}, {"steps": 2**62}, {"steps": 0}, {"n_iter": 2**70}, {"n_iter": "x"},
        {"sampler_name": ["Euler"]}, {"sampler_name": 5.5}, {"enable_hr": "maybe"}, {"prompt": ["a"]},
        {"prompt": HALF}, {"unheard of": DEEP}, {"init_images": 5}, {"init_images": {"a": 1}},
        {"init_images": ["a"], "denoising_strength": "9" * 300}, {"enable_hr": True, "hr_second_pass_steps": 1e300},
        {"enable_hr": True, "hr_sampler_name": {}})),
], ids=lambda body: repr(body)[-60:])
def test_what_is_no_request_is_refused_by_the_preflight(host, body):
    from animatediff.hosts.a1111 import api

    assert len(refused(api.preflight, body)) < 1500


@pytest.mark.parametrize("fields", [{"steps": 2**31}, {"steps": 0}, {"n_iter": 2**70},
                                    {"enable_hr": True, "hr_second_pass_steps": 10**9}], ids=str)
def test_a_clip_of_absurd_size_is_refused_before_it_begins(host, fields):
    """The WebUI would use up all memory for the steps' sigmas, or for a prompt per frame."""
    answer = host.request("txt2img", {"prompt": "a", "width": 64, "height": 64, **fields}, {"AnimateDiff": [CLIP]})
    assert answer.status == 422 and list(fields)[-1] in answer.detail


def test_every_body_reaches_the_route(host):
    """FastAPI refuses what does not fit a parameter's type, and repeats it in its answer: HTTP 500 for NaN."""
    from animatediff.hosts.a1111 import api

    for route in (api.preflight, api.schedule):
        assert get_type_hints(route)["body"] is signature(route, eval_str=True).parameters["body"].annotation is Any


def test_any_body_is_answered_or_refused(host):
    from fastapi import HTTPException

    from animatediff.hosts.a1111 import api

    refusals = 0
    for rng in draws(120):
        for route, body in ((api.preflight, request_bodies.preflight(rng)),
                            (api.schedule, request_bodies.schedule(rng))):
            body = json.loads(json.dumps(body))
            try:
                json.dumps(route(body), ensure_ascii=False, allow_nan=False).encode()
            except HTTPException as error:
                assert 400 <= error.status_code < 500, body
                json.dumps(error.detail, ensure_ascii=False).encode()
                refusals += 1
    assert refusals > 20


def test_infotexts_are_read_or_left(host):
    """Infotexts as they come with a stranger's picture or in a request."""
    from animatediff.hosts.shared import infotext

    for rng in draws(200):
        values = request_bodies.settings(rng)
        text = ", ".join(f"{name}: {json.dumps(value) if rng.randrange(2) else value}"
                         for name, value in values.items())
        text = "".join(rng.choice((c, c, c, '"', ",", ":")) if not rng.randrange(30) else c for c in text)
        params = {"AnimateDiff": text[:20_000]}
        infotext.expand(params)
        json.dumps(params, ensure_ascii=False).encode()
        for name in infotext.CLIP:
            infotext.Field.of(name)(params)

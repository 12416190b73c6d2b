"""The API routes /animatediff/v1/…: version, schema, models, preflight, schedule, and operations on finished clips."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

from fastapi import Body, FastAPI, HTTPException

from animatediff import settings
from animatediff.attribute import wrapped
from animatediff.errors import AnimateDiffError, SettingsError, end_of
from animatediff.hosts.a1111 import finished, finished_api, request
from animatediff.hosts.shared import json_values
from animatediff.version import __version__

ROOT = "/animatediff/v1"
NAME = "animatediff"  # in alwayson_scripts, in any case
HOSTS_OWN = "/sdapi/v1/txt2img"
LONGEST_DETAIL = 4000  # characters of an error message


def add(app: FastAPI) -> AbstractContextManager[None]:
    """Add the routes if the host has an API (--api). They require the same login as the host's own routes (--api-auth).

    Return a context manager; leaving it undoes the changes before scripts are loaded again.
    """
    hosts_own = next((route for route in app.routes if getattr(route, "path", "") == HOSTS_OWN), None)
    if hosts_own is None:
        return nullcontext()
    for path, method, answer in (("version", "GET", version), ("schema", "GET", schema), ("models", "GET", models),
                                 ("preflight", "POST", preflight), ("schedule", "POST", schedule)):
        app.add_api_route(f"{ROOT}/{path}", answer, methods=[method], dependencies=hosts_own.dependencies,
                          tags=["AnimateDiff"])
    for name, operation in finished.OPERATIONS.items():
        for path, answer in ((name, _operation(name)), (f"{name}/preflight", _operation(name, before=True))):
            app.add_api_route(f"{ROOT}/{path}", answer, methods=["POST"], dependencies=hosts_own.dependencies,
                              tags=["AnimateDiff"], openapi_extra=finished_api.documented(operation))
    from modules.api.api import Api

    return wrapped(Api, "init_script_args", _with_our_arguments_checked)


def _refusing(answer: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """Wrap `answer` as a route that takes a JSON object. AnimateDiffErrors become HTTP errors of the client."""
    def route(body: Any = Body(None)) -> Any:
        try:
            if not isinstance(body, dict):
                raise SettingsError(f"{type(body).__name__} is no object", where="body", remedy="Send a JSON object.")
            json_values.check(body, "body")
            return answer(body)
        except AnimateDiffError as error:
            raise _http(error) from error

    # Not with `wraps`: FastAPI would read the signature of `answer`, and answer other values than objects itself. Its
    # answer repeats the value, which is impossible for NaN.
    route.__name__, route.__doc__ = answer.__name__, answer.__doc__
    return route


def _http(error: AnimateDiffError) -> HTTPException:
    text = str(error)
    return HTTPException(error.http_status, text if len(text) <= LONGEST_DETAIL else f"{text[:LONGEST_DETAIL]} …")


def _with_our_arguments_checked(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Check our script arguments first: the host accepts any JSON there and fails later on anything but a list."""
    @wraps(plain)
    def init_script_args(self: Any, asked: Any, *args: Any, **kwargs: Any) -> Any:
        entries = asked.alwayson_scripts or {}
        for name in [name for name in entries if name.lower() == NAME]:
            try:
                ours = request.arguments(entries[name])
                json_values.check(ours, "args")  # check all arguments, since the host's response repeats them
                entries[name] = {"args": ours}
            except AnimateDiffError as error:
                raise _http(error) from error
        return plain(self, asked, *args, **kwargs)

    return init_script_args


def version() -> dict[str, Any]:
    """Return the extension's version and the order of positional arguments."""
    return {"version": __version__, "order": list(request.ORDER)}


def schema() -> dict[str, Any]:
    """Return the JSON schema of the object in alwayson_scripts.AnimateDiff.args[0]."""
    return settings.json_schema(groups=("clip",))


def models() -> dict[str, Any]:
    """Return the motion modules and motion LoRAs, the folders searched, and the problem of each unusable file."""
    from animatediff.hosts.a1111 import library

    image = library.checkpoint()
    found = [entry.to_dict() | {"does_not_fit": library.misfit(entry, image)} for entry in library.entries()]
    return {"folders": [str(folder) for folder in library.folders()], "models": found,
            "motion_loras": [entry.to_dict() for entry in library.lora_entries()]}


def _operation(name: str, *, before: bool = False) -> Callable[..., Any]:
    """Return the route of one of `finished.OPERATIONS`. before: the route that says what it will do."""
    def answer(body: dict[str, Any]) -> Any:
        operation = finished.OPERATIONS[name]
        return finished_api.preflight(operation, body) if before else finished_api.answer(operation, body, name)

    answer.__name__ = f"{name}_preflight" if before else name
    return _refusing(answer)


@_refusing
def preflight(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a request would do and what is wrong with it, without running it.

    The body is one for /sdapi/v1/txt2img, or for img2img if it has `init_images`.
    """
    from animatediff.hosts.a1111.run_facts import of_run, requested

    scripts, images = body.get("alwayson_scripts") or {}, body.get("init_images") or []
    if not isinstance(scripts, dict) or not isinstance(images, list):
        where, kind = ("init_images", "list") if isinstance(scripts, dict) else ("alwayson_scripts", "object")
        raise SettingsError(f"is no {kind}", where=where, remedy="Send what /sdapi/v1/txt2img or img2img takes.")
    ours = next((value for name, value in scripts.items() if name.lower() == NAME), {})
    wanted = request.read(tuple(request.arguments(ours)))
    if wanted is None:
        raise SettingsError("this request does not enable AnimateDiff", where="alwayson_scripts",
                            remedy='Send {"AnimateDiff": {"args": [{"enable": true}]}}.')
    found = of_run(wanted, requested(body), from_picture=body.get("init_images") is not None,
                  sources=len(images) if len(images) > 1 else None)
    return found.to_dict()


@_refusing
def schedule(body: dict[str, Any]) -> dict[str, Any]:
    """Return the prompts of each frame.

    The body has `prompt`, `negative_prompt` and, in `settings`, parameters by name. With `to` (native, fizz or cyclic),
    the response also has the two texts converted to that syntax.
    """
    values = {key: value for key, value in body.items() if key in ("prompt", "negative_prompt", "to")}
    if unknown := body.keys() - {"prompt", "negative_prompt", "to", "settings"}:
        raise SettingsError("unknown", where=end_of(min(unknown)),
                            remedy="Send prompt, negative_prompt, settings and to.")
    if bad := next((key for key, value in values.items() if not isinstance(value, str)), None):
        raise SettingsError("is not text", where=bad, remedy="Send a text.")
    wanted = settings.parse(body.get("settings") or {})
    texts = values.get("prompt", ""), values.get("negative_prompt", "")
    frames = wanted.frame_count()
    found = wanted.schedules(*texts, frames)
    answer = {"frames": frames, "prompt": found[0].to_dict(), "negative_prompt": found[1].to_dict(),
              "notes": [note for each in found for note in each.notes]}
    if "to" in values:
        converted, notes = wanted.converted(dict(zip(("prompt", "negative prompt"), texts)), values["to"])
        answer["converted"] = list(converted.values())
        answer["notes"] += notes
    return answer

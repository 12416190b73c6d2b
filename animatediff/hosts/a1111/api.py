"""Routes /animatediff/v1/…: what a client needs to know before it asks for a clip."""
from __future__ import annotations

from secrets import compare_digest
from typing import Any

from fastapi import Body, Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from animatediff import settings
from animatediff.errors import AnimateDiffError, SettingsError
from animatediff.hosts.a1111 import request
from animatediff.version import __version__

ROOT = "/animatediff/v1"


def add(app: FastAPI) -> None:
    """Add the routes, behind the host's own password where it has one."""
    from modules import shared

    guard = [Depends(_checked)] if getattr(shared.cmd_opts, "api_auth", None) else []
    for path, method, answer in (("version", "GET", version), ("schema", "GET", schema), ("models", "GET", models),
                                 ("preflight", "POST", preflight), ("schedule", "POST", schedule)):
        app.add_api_route(f"{ROOT}/{path}", answer, methods=[method], dependencies=guard, tags=["AnimateDiff"])


def version() -> dict[str, Any]:
    """The extension's version, and the order of positional arguments."""
    return {"version": __version__, "order": list(request.ORDER)}


def schema() -> dict[str, Any]:
    """JSON schema of the object that goes to alwayson_scripts.AnimateDiff.args[0]."""
    return settings.json_schema(groups=("clip",))


def models() -> dict[str, Any]:
    """The motion modules and motion LoRAs that are there, where they are looked for, and what is wrong with some."""
    from animatediff.hosts.a1111 import library

    image = library.checkpoint()
    found = [entry.to_dict() | {"does_not_fit": library.misfit(entry, image)} for entry in library.entries()]
    return {"folders": [str(folder) for folder in library.folders()], "models": found,
            "motion_loras": [entry.to_dict() for entry in library.lora_entries()]}


def preflight(body: dict[str, Any] = Body(...)) -> dict[str, Any]:
    """What a request would do, and what is wrong with it, without doing it.

    The body is that of /sdapi/v1/txt2img, or of img2img, which is told by its `init_images`.
    """
    from animatediff.hosts.a1111.run_facts import of_run, requested

    scripts = body.get("alwayson_scripts")
    ours = next((value for name, value in (scripts if isinstance(scripts, dict) else {}).items()
                 if name.lower() == "animatediff"), None)
    args = ours.get("args") if isinstance(ours, dict) else None
    try:
        wanted = request.read(tuple(args) if isinstance(args, list) else ())
        if wanted is None:
            raise SettingsError("this request does not enable AnimateDiff", where="alwayson_scripts",
                                remedy='Send {"AnimateDiff": {"args": [{"enable": true}]}}.')
        sources = len(body.get("init_images") or ())
        told = of_run(wanted, requested(body), from_picture=sources > 0, sources=sources if sources > 1 else None)
        return told.to_dict()
    except AnimateDiffError as error:
        raise HTTPException(error.http_status, str(error)) from error
    except (TypeError, ValueError) as error:
        raise HTTPException(422, f"the request is not one of /sdapi/v1/txt2img: {error}") from error


def schedule(body: dict[str, Any] = Body(...)) -> dict[str, Any]:
    """Which prompts each frame has: `prompt`, `negative_prompt`, and in `settings` parameters by their names. With
    `to`, native, fizz or cyclic, also the two texts in that syntax."""
    values = {key: value for key, value in body.items() if key in ("prompt", "negative_prompt", "to")}
    try:
        if unknown := body.keys() - {"prompt", "negative_prompt", "to", "settings"}:
            raise SettingsError("unknown", where=min(unknown), remedy="Send prompt, negative_prompt, settings and to.")
        if bad := next((key for key, value in values.items() if not isinstance(value, str)), None):
            raise SettingsError("is no text", where=bad, remedy="Send a text.")
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
    except AnimateDiffError as error:
        raise HTTPException(error.http_status, str(error)) from error


def _checked(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:
    """The users of --api-auth, as for the host's own routes."""
    from modules import shared

    users = dict(pair.strip().split(":", 1) for pair in shared.cmd_opts.api_auth.split(","))
    known = users.get(credentials.username)
    if known is None or not compare_digest(known.encode(), credentials.password.encode()):
        raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

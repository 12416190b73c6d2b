"""Routes /animatediff/v1/…: what a client needs to know before it asks for a clip."""
from __future__ import annotations

from secrets import compare_digest
from typing import Any

from fastapi import Body, Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from animatediff import settings
from animatediff.errors import AnimateDiffError
from animatediff.version import __version__

from . import request

ROOT = "/animatediff/v1"


def add(app: FastAPI) -> None:
    """Add the routes, behind the host's own password where it has one."""
    from modules import shared

    guard = [Depends(_checked)] if getattr(shared.cmd_opts, "api_auth", None) else []
    for path, method, answer in (("version", "GET", version), ("schema", "GET", schema), ("models", "GET", models),
                                 ("preflight", "POST", preflight)):
        app.add_api_route(f"{ROOT}/{path}", answer, methods=[method], dependencies=guard, tags=["AnimateDiff"])


def version() -> dict[str, Any]:
    """The extension's version, and the order of positional arguments."""
    return {"version": __version__, "order": list(request.ORDER)}


def schema() -> dict[str, Any]:
    """JSON schema of the object that goes to alwayson_scripts.AnimateDiff.args[0]."""
    return settings.json_schema(groups=("clip",))


def models() -> dict[str, Any]:
    """The motion modules that are there, where they were looked for, and what cannot be used and why."""
    from . import library

    return {"folders": [str(folder) for folder in library.folders()],
            "models": [entry.to_dict() for entry in library.listing()]}


def preflight(body: dict[str, Any] = Body(...)) -> dict[str, Any]:
    """What a request would do, and what is wrong with it, without doing it. The body is the one of /sdapi/v1/txt2img."""
    from .preflight import of_request

    scripts = body.get("alwayson_scripts")
    ours = next((value for name, value in (scripts if isinstance(scripts, dict) else {}).items()
                 if name.lower() == "animatediff"), None)
    args = ours.get("args") if isinstance(ours, dict) else None
    try:
        wanted = request.read(tuple(args or ()))
    except AnimateDiffError as error:
        raise HTTPException(error.http_status, str(error)) from error
    if wanted is None:
        raise HTTPException(422, 'This request does not enable AnimateDiff. Send "alwayson_scripts": '
                                 '{"AnimateDiff": {"args": [{"enable": true}]}} with it.')
    return of_request(wanted, body)


def _checked(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:
    """The users of --api-auth, as for the host's own routes."""
    from modules import shared

    users = dict(pair.strip().split(":", 1) for pair in shared.cmd_opts.api_auth.split(","))
    known = users.get(credentials.username)
    if known is None or not compare_digest(known.encode(), credentials.password.encode()):
        raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

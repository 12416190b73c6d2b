"""The host's hooks, each one line to the job that a request has, and what is registered once at start-up."""
from __future__ import annotations

import sys
from typing import Any

from modules import script_callbacks

from animatediff.errors import AnimateDiffError

JOB = "animatediff_job"  # attribute of `p`


class Hooks:
    """Mixed into the host's Script class. Nothing heavy is imported before a clip is asked for."""

    def ui(self, is_img2img: bool) -> list[Any]:
        from . import ui

        controls = ui.build(is_img2img, self)
        self.infotext_fields, self.paste_field_names = controls.infotext_fields, controls.paste_field_names
        return controls.components

    def before_process(self, p: Any, *args: Any) -> None:
        from . import job, older, request, stop

        vars(p).pop(JOB, None)  # of another request, when `p` is used again or was copied
        if around := clip_around(p):
            for name in job.ON_P:  # the clip's, which a copy of its `p` has as well
                if vars(p).get(name) is vars(around).get(name):
                    vars(p).pop(name, None)
            return

        def prepare() -> None:
            settings = request.read(args, getattr(p, "animatediff_xyz", None))
            if settings is not None:
                older.refuse_both(p)
                self._job(p, job.Job(p, settings)).prepare()

        job.guarded(p, stop.before_anything, prepare)

    def process(self, p: Any, *args: Any) -> None:
        if current := _of(p):
            from . import job, stop

            job.guarded(p, stop.before_sampling, current.load)

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if current := _of(p):
            current.begin_clip()

    def process_before_every_sampling(self, p: Any, *args: Any, noise: Any = None, **kwargs: Any) -> None:
        if current := _of(p):
            from . import job

            job.guarded(p, job.stop_sampler, lambda: current.begin_pass(noise))

    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        if current := _of(p):
            current.frame(pp.image)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        if current := _of(p):
            current.finish(processed)

    @staticmethod
    def _job(p: Any, job: Any) -> Any:
        setattr(p, JOB, job)
        return job


def register() -> None:
    """Once, when the host loads the script; the host forgets its callbacks when scripts are reloaded."""
    from . import clip_reader, options

    clip_reader.add()
    script_callbacks.on_script_unloaded(clip_reader.remove)
    script_callbacks.on_ui_settings(options.on_ui_settings)
    script_callbacks.on_cfg_denoiser(_before_call)
    script_callbacks.on_infotext_pasted(_pasted)
    script_callbacks.on_before_ui(_neighbours)  # makes way for our axes
    script_callbacks.on_before_ui(_axes)
    script_callbacks.on_script_unloaded(_neighbours_gone)
    script_callbacks.on_app_started(_routes)


def _of(p: Any) -> Any:
    """The job of `p`, if it is its own and not that of a `p` which it is a copy of."""
    current = vars(p).get(JOB)
    return current if current is not None and current.p is p else None


def clip_around(p: Any) -> Any:
    """The `p` of the clip inside whose job `p` is a job of its own, as when an extension repaints a face in a finished
    frame; None if there is none. Such a job is of single pictures, even where it has the clip's arguments.

    The stack is asked, since it cannot be out of date: a job may end by an exception that no hook sees.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "process_images" and frame.f_globals.get("__name__") == "modules.processing":
            outer = frame.f_locals.get("p")
            if outer is not p and _of(outer) is not None:
                return outer
        frame = frame.f_back
    return None


def arguments(p: Any) -> tuple[Any, ...]:
    """This script's arguments in a request; none where it has no part in it."""
    for script in getattr(p.scripts, "alwayson_scripts", None) or ():
        if isinstance(script, Hooks):
            return tuple(p.script_args[script.args_from:script.args_to])
    return ()


def asked(p: Any) -> bool:
    """Whether a request asks for a clip, be it in a wrong way."""
    try:
        return settings_of(p) is not None
    except AnimateDiffError:
        return True


def settings_of(p: Any) -> Any:
    """The Settings of the clip that a request asks for, None if it does not; SettingsError as in `request.read`."""
    from . import request

    if current := _of(p):
        return current.settings
    if clip_around(p):
        return None
    return request.read(arguments(p), getattr(p, "animatediff_xyz", None))


def _before_call(params: Any) -> None:
    scope = sys.modules.get(f"{__package__}.scope")
    if scope is not None and scope.current is not None:
        scope.current.before_call(params)


def _pasted(text: str, params: dict[str, Any]) -> None:
    from . import infotext

    infotext.expand(params)


def _axes() -> None:
    from . import axes

    axes.add()


def _neighbours() -> None:
    from . import older

    older.meet()


def _neighbours_gone() -> None:
    from . import older

    older.part()


def _routes(demo: Any, app: Any) -> None:
    from . import api

    api.add(app)

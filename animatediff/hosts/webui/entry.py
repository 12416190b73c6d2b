"""The host's hooks, each one line to the job that a request has, and what is registered once at start-up."""
from __future__ import annotations

from typing import Any

from modules import script_callbacks

from animatediff.errors import AnimateDiffError, SettingsError

JOB = "animatediff_job"  # attribute of `p`


class Hooks:
    """Mixed into the host's Script class. Nothing heavy is imported before a clip is asked for."""

    def ui(self, is_img2img: bool) -> list[Any]:
        from . import ui

        controls = ui.build(is_img2img, self)
        self.infotext_fields, self.paste_field_names = controls.infotext_fields, controls.paste_field_names
        return controls.components

    def before_process(self, p: Any, *args: Any) -> None:
        from . import job, request, stop

        vars(p).pop(JOB, None)  # of another request, when `p` is used again or was copied

        def prepare() -> None:
            settings = request.read(args, getattr(p, "animatediff_xyz", None))
            if settings is not None:
                self._job(p, job.Job(p, settings)).prepare()

        job.guarded(p, stop.before_anything, prepare)

    def process(self, p: Any, *args: Any) -> None:
        if current := _of(p):
            from . import job, stop

            job.guarded(p, stop.before_sampling, current.load)

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if current := _of(p):
            current.begin_clip()

    def process_before_every_sampling(self, p: Any, *args: Any, x: Any = None, noise: Any = None, **kwargs: Any) -> None:
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
    from . import options

    script_callbacks.on_ui_settings(options.on_ui_settings)
    script_callbacks.on_cfg_denoiser(_before_call)
    script_callbacks.on_infotext_pasted(_pasted)
    script_callbacks.on_before_ui(_axes)
    script_callbacks.on_app_started(_routes)


def _of(p: Any) -> Any:
    return vars(p).get(JOB)


def _before_call(params: Any) -> None:
    import sys

    scope = sys.modules.get(f"{__package__}.scope")
    if scope is not None and scope.current is not None:
        scope.current.before_call(params)


def _pasted(text: str, params: dict[str, Any]) -> None:
    from . import infotext

    infotext.expand(params)


def _axes() -> None:
    from . import axes

    axes.add()


def _routes(demo: Any, app: Any) -> None:
    from . import api

    api.add(app)

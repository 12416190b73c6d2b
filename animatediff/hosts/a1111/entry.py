"""The hooks of the host, each a short call into the request's job, and the callbacks registered at start-up."""
from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any

from modules import script_callbacks

from animatediff.hosts.a1111 import jobs
from animatediff.hosts.a1111.neighbour import Neighbours


class Hooks(jobs.OurScript):
    """Mixin for the host's Script class. Heavy modules are imported only when a clip is requested."""

    neighbours: Neighbours = ()

    def ui(self, is_img2img: bool) -> list[Any]:
        from animatediff.hosts.a1111 import ui

        controls = ui.build(is_img2img, self)
        self.infotext_fields, self.paste_field_names = controls.infotext_fields, controls.paste_field_names
        return controls.components

    def before_process(self, p: Any, *args: Any) -> None:
        from animatediff.hosts.a1111 import guard, job, upscale
        from animatediff.hosts.shared import stop

        if before := jobs.of(p):  # `p` is reused after a request that failed
            before.restore()
        vars(p).pop(jobs.JOB, None)  # or `p` is a copy
        if around := jobs.clip_around(p):
            for name in job.ON_P:  # the clip's methods, which a copy of its `p` has too
                if vars(p).get(name) is vars(around).get(name):
                    vars(p).pop(name, None)
            return

        def prepare() -> None:
            settings = upscale.settings_of(p, args)
            if settings is not None:
                self._job(p, job.Job(p, settings, self.neighbours)).prepare()

        guard.guarded(p, stop.before_anything, prepare)

    def process(self, p: Any, *args: Any) -> None:
        if current := jobs.of(p):
            from animatediff.hosts.a1111 import guard
            from animatediff.hosts.shared import stop

            guard.guarded(p, stop.before_sampling, current.load)

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if current := jobs.of(p):
            from animatediff.hosts.a1111 import guard

            current.error = guard.failure(current.begin_clip)  # raised by begin_pass

    def process_before_every_sampling(self, p: Any, *args: Any, noise: Any = None, **kwargs: Any) -> None:
        if current := jobs.of(p):
            from animatediff.hosts.a1111 import guard

            guard.guarded(p, guard.stop_sampler, lambda: current.begin_pass(noise))

    def postprocess_batch(self, p: Any, *args: Any, images: Any = None, **kwargs: Any) -> None:
        if current := jobs.of(p):
            current.decoded(images)

    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        if current := jobs.of(p):
            def take() -> None:
                pp.image = current.frame(pp.image)

            current.noting(take)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        if current := jobs.of(p):
            current.finish(processed)

    @staticmethod
    def _job(p: Any, job: Any) -> Any:
        setattr(p, jobs.JOB, job)
        return job


def register(neighbours: Neighbours) -> None:
    """Register the callbacks once, when the host loads the script.

    The host forgets its callbacks when scripts are reloaded.
    """
    from animatediff.hosts.a1111 import options
    from animatediff.hosts.shared import clip_reader

    around_scripts = ExitStack()
    around_scripts.enter_context(jobs.noting_clips())
    script_callbacks.on_script_unloaded(around_scripts.close)
    clip_reader.add()
    script_callbacks.on_script_unloaded(clip_reader.remove)
    script_callbacks.on_ui_settings(options.on_ui_settings)
    script_callbacks.on_cfg_denoiser(_before_call)
    script_callbacks.on_infotext_pasted(_pasted)
    around_page = ExitStack()  # changes to the host's functions, undone before scripts are loaded again
    script_callbacks.on_before_ui(lambda: _around_page(around_page, neighbours))  # renames older axes first
    script_callbacks.on_before_ui(_axes)
    script_callbacks.on_app_started(lambda demo, app: around_page.enter_context(_routes(app)))
    script_callbacks.on_script_unloaded(around_page.close)


def _before_call(params: Any) -> None:
    """Forward the host's callback to the pass, which is stored on a clip's denoiser while it samples."""
    if run := vars(params.denoiser).get(jobs.PASS):
        run.before_call(params)


def _pasted(text: str, params: dict[str, Any]) -> None:
    from animatediff.hosts.shared import infotext

    infotext.expand(params)


def _axes() -> None:
    from animatediff.hosts.a1111 import axes

    axes.add()


def _around_page(stack: ExitStack, neighbours: Neighbours) -> None:
    from animatediff.hosts.a1111 import batch_tab, page_errors, saving, upscale

    stack.close()
    for neighbour in neighbours:
        stack.enter_context(neighbour.beside())
    stack.enter_context(upscale.upscaling_clips())
    stack.enter_context(batch_tab.making_one_clip())
    stack.enter_context(page_errors.errors_on_the_page())
    stack.enter_context(saving.saving_clips())


def _routes(app: Any) -> AbstractContextManager[None]:
    from animatediff.hosts.a1111 import api

    return api.add(app)

"""Extension for tests only: imitates other extensions, and adds a ControlNet of the demo model's size.

An always-on script with the title "AnimateDiff test neighbour" and one argument:

    "new job"      each finished frame is repainted by an img2img job of its own, with a copy of all scripts' arguments
    "other scripts" the same, but none of the other scripts take part
    "copy of p"    each frame is replaced by a picture made with a copy of the clip's own `p`

    GET  /test-neighbour/pairs   of the last job: each frame before and after, base64 PNG
    POST /test-neighbour/reload  what "Reload UI" in the settings does
"""
import base64
import copy
import io

import gradio as gr
import torch
from modules import processing, script_callbacks, scripts, shared

pairs = []
SECOND = {"prompt": "a blue square", "steps": 3, "seed": 5, "sampler_name": "DDIM", "scheduler": "Automatic",
          "cfg_scale": 5, "denoising_strength": 0.5, "do_not_save_samples": True, "do_not_save_grid": True}


def png(picture):
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()


class Neighbour(scripts.Script):
    busy = False

    def title(self):
        return "AnimateDiff test neighbour"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(value="", label="Second pass", visible=False)]

    def process(self, p, how):
        torch.manual_seed(0)  # the VAE encoder's noise otherwise depends on the previous job
        if not Neighbour.busy:
            pairs.clear()

    def postprocess_image(self, p, pp, how):
        if Neighbour.busy or not how:
            return
        Neighbour.busy = True
        try:
            made = processing.process_images(self.second(p, pp, how))
            pairs.append((png(pp.image), [png(picture) for picture in made.images]))
            pp.image = made.images[0]
        finally:
            Neighbour.busy = False

    def second(self, p, pp, how):
        if how == "copy of p":
            second = copy.copy(p)
            second.batch_size = second.n_iter = 1
            second.prompt, second.seed, second.steps = SECOND["prompt"], SECOND["seed"], SECOND["steps"]
            return second
        second = processing.StableDiffusionProcessingImg2Img(
            init_images=[pp.image], width=p.width, height=p.height, outpath_samples=p.outpath_samples,
            outpath_grids=p.outpath_grids, **SECOND)
        second.is_api = True  # otherwise the page's sampler and seed would be used
        second.scripts = copy.copy(p.scripts)
        if how == "other scripts":
            second.scripts.alwayson_scripts = [script for script in p.scripts.alwayson_scripts if script is self]
        second.script_args = copy.copy(p.script_args)
        return second


def routes(_, app):
    @app.get("/test-neighbour/pairs")
    def read_pairs():
        return pairs

    @app.post("/test-neighbour/reload")
    def reload_ui():
        shared.state.request_restart()


def tiny_controlnet():
    """Use the demo model's sizes, where ControlNet assumes those of SD1.5."""
    import sys

    guess = sys.modules.get("scripts.controlnet_model_guess")
    if guess:
        guess.controlnet_default_config.update(model_channels=64, channel_mult=[1, 1, 1, 1], context_dim=128)


script_callbacks.on_app_started(routes)
script_callbacks.on_before_ui(tiny_controlnet)

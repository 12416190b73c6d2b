"""Callbacks by category. Their exceptions are reported and swallowed."""
from modules import errors

NAMES = ["app_started", "model_loaded", "ui_tabs", "ui_settings", "before_image_saved", "image_saved", "cfg_denoiser",
         "cfg_denoised", "cfg_after_cfg", "before_component", "after_component", "image_grid", "infotext_pasted",
         "script_unloaded", "before_ui", "before_reload"]  # fmt: skip
callback_map = {f"callbacks_{name}": [] for name in NAMES}


class CFGDenoiserParams:
    def __init__(self, x, image_cond, sigma, sampling_step, total_sampling_steps,
                 text_cond, text_uncond, denoiser=None):
        self.x, self.image_cond, self.sigma = x, image_cond, sigma
        self.sampling_step, self.total_sampling_steps = sampling_step, total_sampling_steps
        self.text_cond, self.text_uncond, self.denoiser = text_cond, text_uncond, denoiser


class CFGDenoisedParams:
    def __init__(self, x, sampling_step, total_sampling_steps, inner_model):
        self.x, self.inner_model = x, inner_model
        self.sampling_step, self.total_sampling_steps = sampling_step, total_sampling_steps


class AfterCFGCallbackParams:
    def __init__(self, x, sampling_step, total_sampling_steps):
        self.x, self.sampling_step, self.total_sampling_steps = x, sampling_step, total_sampling_steps


def _on(name):
    def on(callback, *, name=None, category=f"callbacks_{name}"):
        callback_map[category].append(callback)

    return on


def _call(name):
    def call(*args):
        for callback in list(callback_map[f"callbacks_{name}"]):
            try:
                callback(*args)
            except Exception:
                errors.report(f"Error executing callback {name}", exc_info=True)

    return call


for _name in NAMES:
    globals()[f"on_{_name}"] = _on(_name)
    globals()[f"{_name}_callback"] = _call(_name)


def remove_callbacks_for_function(function):
    for found in callback_map.values():
        found[:] = [callback for callback in found if callback is not function]


def remove_current_script_callbacks():
    for found in callback_map.values():
        found.clear()

"""Checkpoints, and the loaded model. A checkpoint of the same kind is loaded into the same model object."""
from contextlib import contextmanager
from types import SimpleNamespace

from modules import devices, shared

checkpoints_list: dict[str, "CheckpointInfo"] = {}
checkpoint_aliases = checkpoints_list


class CheckpointInfo:
    """A checkpoint. `weights`: the contents of the file. `build`: creates the empty model."""

    def __init__(self, name, build, weights):
        self.name = self.title = self.name_for_extra = self.short_title = self.model_name = name
        self.filename, self.shorthash, self.build, self.weights = f"{name}.safetensors", "", build, weights


def register(info):
    checkpoints_list[info.name] = info


def select_checkpoint():
    return checkpoints_list[shared.opts.sd_model_checkpoint]


def get_closet_checkpoint_match(name):  # the host's own spelling
    return checkpoints_list.get(name)


def reload_model_weights(sd_model=None, info=None, forced_reload=False):
    info, model = info or select_checkpoint(), shared.sd_model
    if model is not None and model.sd_checkpoint_info is info and not forced_reload:
        return model
    if model is None or model.sd_checkpoint_info.build is not info.build:
        model = shared.sd_model = info.build()
    model.load_state_dict(info.weights)
    model.alphas_cumprod_original = model.alphas_cumprod
    apply_alpha_schedule_override(model)
    model.sd_checkpoint_info, model.sd_model_checkpoint, model.sd_model_hash = info, info.filename, ""
    return model


def apply_alpha_schedule_override(sd_model, p=None):
    sd_model.alphas_cumprod = sd_model.alphas_cumprod_original.to(devices.device)


def apply_token_merging(sd_model, ratio):
    pass


@contextmanager
def SkipWritingToConfig():
    yield


model_data = SimpleNamespace(get_sd_model=lambda: shared.sd_model)

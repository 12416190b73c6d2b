"""All samplers by name. A new sampler is created for every pass."""
from modules import sd_samplers_kdiffusion, sd_samplers_timesteps
from modules.sd_samplers_common import sample_to_image  # noqa: F401

all_samplers = [*sd_samplers_kdiffusion.samplers_data_k_diffusion, *sd_samplers_timesteps.samplers_data_timesteps]
all_samplers_map = {sampler.name: sampler for sampler in all_samplers}
samplers = samplers_for_img2img = all_samplers


def find_sampler_config(name):
    return all_samplers_map.get(name)


def create_sampler(name, model):
    config = find_sampler_config(name)
    sampler = config.constructor(model)
    sampler.config = config
    return sampler


def visible_sampler_names():
    return list(all_samplers_map)


def get_sampler_and_scheduler(sampler_name, scheduler_name, *, convert_automatic=True):
    name = sampler_name or samplers[0].name
    return (name if name in all_samplers_map else samplers[0].name), scheduler_name or "Automatic"

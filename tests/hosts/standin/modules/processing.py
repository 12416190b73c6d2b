"""A job from the request to its pictures. All steps are in the order that ../traces record for the real host."""
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from modules import (
    devices,
    extra_networks,
    images,
    infotext_utils,
    prompt_parser,
    rng,
    scripts,
    sd_models,
    sd_samplers,
    shared,
)
from modules.sd_samplers_common import decode_first_stage, images_tensor_to_samples
from modules.shared import opts, state

opt_C, opt_f = 4, 8


@dataclass(repr=False)
class StableDiffusionProcessing:
    sd_model: object = None
    outpath_samples: str = None
    outpath_grids: str = None
    prompt: str = ""
    negative_prompt: str = ""
    styles: list = None
    seed: int = -1
    subseed: int = -1
    subseed_strength: float = 0
    sampler_name: str = None
    scheduler: str = "Automatic"
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 50
    cfg_scale: float = 7.0
    width: int = 512
    height: int = 512
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    extra_generation_params: dict = field(default_factory=dict)
    denoising_strength: float = None
    s_min_uncond: float = None
    override_settings: dict = field(default_factory=dict)
    override_settings_restore_afterwards: bool = True
    refiner_checkpoint: str = None
    refiner_switch_at: float = None
    disable_extra_networks: bool = False

    def __post_init__(self):
        self.scripts_value, self.script_args_value = None, None
        self.cached_c, self.cached_uc, self.cached_hr_c, self.cached_hr_uc = ([None, None] for _ in range(4))
        self.comments, self.is_api, self.is_hr_pass, self.iteration = {}, False, False, 0
        self.refiner_checkpoint_info = self.sampler = self.rng = self.c = self.uc = None
        self.all_prompts = self.all_negative_prompts = self.all_seeds = self.all_subseeds = None
        self.prompts = self.negative_prompts = self.seeds = self.subseeds = self.extra_network_data = None
        self.main_prompt = self.main_negative_prompt = self.sd_model_name = None
        self.restore_faces = self.tiling = False
        self.color_corrections = self.overlay_images = self.paste_to = None

    @property
    def sd_model(self):
        return shared.sd_model

    @sd_model.setter
    def sd_model(self, value):
        pass

    @property
    def scripts(self):
        return self.scripts_value

    @scripts.setter
    def scripts(self, value):
        self.scripts_value = value

    @property
    def script_args(self):
        return self.script_args_value

    @script_args.setter
    def script_args(self, value):
        self.script_args_value = value
        self.scripts.setup_scrips(self, is_ui=not self.is_api)

    def comment(self, text):
        self.comments[text] = 1

    def save_samples(self):
        return opts.samples_save and not self.do_not_save_samples

    def setup_prompts(self):
        def every(prompt, count):
            return list(prompt) if isinstance(prompt, list) else [prompt] * count

        self.all_prompts = every(self.prompt, self.batch_size * self.n_iter)
        self.all_negative_prompts = every(self.negative_prompt, len(self.all_prompts))
        self.main_prompt, self.main_negative_prompt = self.all_prompts[0], self.all_negative_prompts[0]

    def parse_extra_network_prompts(self):
        self.prompts, self.extra_network_data = extra_networks.parse_prompts(self.prompts)

    def setup_conds(self):
        total = self.firstpass_steps = sd_samplers.find_sampler_config(self.sampler_name).total_steps(self.steps)
        prompts = prompt_parser.SdConditioning(self.prompts, width=self.width, height=self.height)
        negative = prompt_parser.SdConditioning(self.negative_prompts, True, self.width, self.height)
        self.uc = self.get_conds_with_caching(prompt_parser.get_learned_conditioning, negative, total,
                                              [self.cached_uc], self.extra_network_data)
        self.c = self.get_conds_with_caching(prompt_parser.get_multicond_learned_conditioning, prompts, total,
                                             [self.cached_c], self.extra_network_data)

    def get_conds_with_caching(self, function, required_prompts, steps, caches, extra_network_data, hires_steps=None):
        asked = list(required_prompts), steps, hires_steps, shared.sd_model.sd_checkpoint_info
        for cache in caches:
            if cache[0] is not None and cache[0] == asked:
                return cache[1]
        caches[0][:] = asked, function(shared.sd_model, required_prompts, steps, hires_steps)
        return caches[0][1]

    def get_conds(self):
        return self.c, self.uc

    def image_conditioning_of(self, x):
        return x.new_zeros(x.shape[0], 5, 1, 1)

    def init(self, all_prompts, all_seeds, all_subseeds):
        pass

    def close(self):
        self.sampler = self.c = self.uc = None


@dataclass(repr=False)
class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    enable_hr: bool = False
    denoising_strength: float = 0.75
    hr_scale: float = 2.0
    hr_upscaler: str = "Latent"
    hr_second_pass_steps: int = 0
    hr_sampler_name: str = None
    hr_prompt: str = ""
    firstpass_image: Any = None

    def __post_init__(self):
        super().__post_init__()
        self.hr_c = self.hr_uc = self.latent_scale_mode = self.all_hr_prompts = self.hr_prompts = None
        self.all_hr_negative_prompts = self.hr_negative_prompts = self.hr_extra_network_data = None

    def setup_prompts(self):
        super().setup_prompts()
        if self.enable_hr:
            self.all_hr_prompts = [self.hr_prompt] * len(self.all_prompts) if self.hr_prompt else self.all_prompts
            self.all_hr_negative_prompts = self.all_negative_prompts

    def parse_extra_network_prompts(self):
        super().parse_extra_network_prompts()
        if self.enable_hr:
            here = slice(self.iteration * self.batch_size, (self.iteration + 1) * self.batch_size)
            self.hr_negative_prompts = self.all_hr_negative_prompts[here]
            self.hr_prompts, self.hr_extra_network_data = extra_networks.parse_prompts(self.all_hr_prompts[here])

    def setup_conds(self):
        super().setup_conds()
        self.hr_c = self.hr_uc = None

    def calculate_hr_conds(self):
        if self.hr_c is not None:
            return
        prompts = prompt_parser.SdConditioning(self.hr_prompts, width=self.width, height=self.height)
        negative = prompt_parser.SdConditioning(self.hr_negative_prompts, True, self.width, self.height)
        steps = self.hr_second_pass_steps or self.steps
        total = sd_samplers.find_sampler_config(self.hr_sampler_name or self.sampler_name).total_steps(steps)
        self.hr_uc = self.get_conds_with_caching(
            prompt_parser.get_learned_conditioning, negative, self.firstpass_steps, [self.cached_hr_uc, self.cached_uc],
            self.hr_extra_network_data, total)
        self.hr_c = self.get_conds_with_caching(
            prompt_parser.get_multicond_learned_conditioning, prompts, self.firstpass_steps,
            [self.cached_hr_c, self.cached_c], self.hr_extra_network_data, total)

    def init(self, all_prompts, all_seeds, all_subseeds):
        if self.enable_hr:
            self.latent_scale_mode = shared.latent_upscale_modes.get(self.hr_upscaler)

    def get_conds(self):
        return (self.hr_c, self.hr_uc) if self.is_hr_pass else super().get_conds()

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        self.sampler = sd_samplers.create_sampler(self.sampler_name, self.sd_model)
        if self.firstpass_image is not None and self.enable_hr:
            picture = np.moveaxis(np.array(self.firstpass_image).astype(np.float32) / 255, 2, 0)[None]
            samples = decoded = None
            if self.latent_scale_mode is None:
                decoded = torch.from_numpy(picture * 2 - 1)
            else:
                samples = images_tensor_to_samples(torch.from_numpy(picture))
            return self.sample_hr_pass(samples, decoded, seeds, subseeds, subseed_strength, prompts)
        x = self.rng.next()
        self.scripts.process_before_every_sampling(p=self, x=x, noise=x, c=conditioning, uc=unconditional_conditioning)
        samples = self.sampler.sample(self, x, conditioning, unconditional_conditioning,
                                      image_conditioning=self.image_conditioning_of(x))
        if not self.enable_hr:
            return samples
        decoded = None
        if self.latent_scale_mode is None:
            decoded = torch.stack(decode_latent_batch(self.sd_model, samples))
        sd_models.reload_model_weights()
        return self.sample_hr_pass(samples, decoded, seeds, subseeds, subseed_strength, prompts)

    def sample_hr_pass(self, samples, decoded_samples, seeds, subseeds, subseed_strength, prompts):
        if state.interrupted:
            return samples
        self.is_hr_pass = True
        self.sampler = sd_samplers.create_sampler(self.hr_sampler_name or self.sampler_name, self.sd_model)
        width, height = int(self.width * self.hr_scale), int(self.height * self.hr_scale)
        if self.latent_scale_mode is not None:
            samples = torch.nn.functional.interpolate(samples, (height // opt_f, width // opt_f),
                                                      **self.latent_scale_mode)
        else:
            resized = [to_array(images.resize_image(0, to_picture(x), width, height)) for x in to_unit(decoded_samples)]
            samples = images_tensor_to_samples(torch.stack(resized))
        state.nextjob()
        self.rng = rng.ImageRNG(samples.shape[1:], self.seeds, subseeds=self.subseeds)
        noise = self.rng.next()
        if not self.disable_extra_networks:
            extra_networks.activate(self, self.hr_extra_network_data)
        self.calculate_hr_conds()
        self.scripts.before_hr(self)
        self.scripts.process_before_every_sampling(p=self, x=samples, noise=noise, c=self.hr_c, uc=self.hr_uc)
        samples = self.sampler.sample_img2img(self, samples, noise, self.hr_c, self.hr_uc,
                                              steps=self.hr_second_pass_steps or self.steps,
                                              image_conditioning=self.image_conditioning_of(samples))
        self.sampler = None
        decoded = decode_latent_batch(self.sd_model, samples)
        self.is_hr_pass = False
        return decoded


@dataclass(repr=False)
class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    init_images: list = None
    resize_mode: int = 0
    denoising_strength: float = 0.75
    initial_noise_multiplier: float = 1.0
    mask: Any = None

    def __post_init__(self):
        super().__post_init__()
        self.init_latent = self.image_conditioning = self.paste_to = None

    def init(self, all_prompts, all_seeds, all_subseeds):
        self.extra_generation_params["Denoising strength"] = self.denoising_strength
        self.sampler = sd_samplers.create_sampler(self.sampler_name, self.sd_model)
        pictures = [to_array(images.resize_image(0, images.flatten(i, None), self.width, self.height))
                    for i in self.init_images]
        if len(pictures) == 1:
            pictures *= self.batch_size
        elif len(pictures) <= self.batch_size:
            self.batch_size = len(pictures)
        else:
            raise RuntimeError(f"bad number of images passed: {len(pictures)}; expecting {self.batch_size} or less")
        self.init_latent = images_tensor_to_samples(torch.stack(pictures), model=self.sd_model)
        self.image_conditioning = self.image_conditioning_of(self.init_latent)

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        x = self.rng.next() * self.initial_noise_multiplier
        self.scripts.process_before_every_sampling(p=self, x=self.init_latent, noise=x, c=conditioning,
                                                   uc=unconditional_conditioning)
        return self.sampler.sample_img2img(self, self.init_latent, x, conditioning, unconditional_conditioning,
                                           image_conditioning=self.image_conditioning)


class Processed:
    def __init__(self, p, images_list, seed=-1, info="", infotexts=None, index_of_first_image=0, subseed=None):
        self.images, self.seed, self.subseed, self.info = images_list, seed, subseed, info
        self.infotexts, self.index_of_first_image = infotexts or [info] * len(images_list), index_of_first_image
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.extra_generation_params = p.extra_generation_params
        self.all_prompts, self.all_seeds, self.all_subseeds = p.all_prompts, p.all_seeds, p.all_subseeds
        self.batch_size, self.width, self.height = p.batch_size, p.width, p.height


class DecodedSamples(list):
    already_decoded = True


def decode_latent_batch(model, batch, target_device=None, check_for_nans=False):
    return DecodedSamples(decode_first_stage(model, batch[i : i + 1])[0] for i in range(len(batch)))


def to_unit(decoded):
    return torch.clamp((decoded + 1) / 2, 0, 1)


def to_picture(x):
    return Image.fromarray((255 * np.moveaxis(x.cpu().numpy(), 0, 2)).astype(np.uint8))


def to_array(picture):
    return torch.from_numpy(np.moveaxis(np.array(picture.convert("RGB"), np.float32) / 255, 2, 0).copy())


def fixed(seed):
    return random.randrange(4294967294) if seed in (None, "", -1) else int(seed)


def create_infotext(p, all_prompts, all_seeds, all_subseeds, comments=None, iteration=0, position_in_batch=0,
                    use_main_prompt=False, index=None, all_negative_prompts=None):
    if use_main_prompt:
        index = 0
    elif index is None:
        index = position_in_batch + iteration * p.batch_size
    negatives = p.all_negative_prompts if all_negative_prompts is None else all_negative_prompts
    values = {"Steps": p.steps, "Sampler": p.sampler_name, "Schedule type": p.scheduler, "CFG scale": p.cfg_scale,
              "Seed": all_seeds[index], "Size": f"{p.width}x{p.height}", "Model": p.sd_model_name,
              **p.extra_generation_params}
    line = ", ".join(k if k == v else f"{k}: {infotext_utils.quote(v)}" for k, v in values.items() if v is not None)
    negative = f"\nNegative prompt: {negatives[index]}" if negatives[index] else ""
    return f"{all_prompts[index]}{negative}\n{line}"


def process_images(p):
    if p.scripts is not None:
        p.scripts.before_process(p)
    stored = {key: opts.data.get(key, opts.get_default(key))
              for key in p.override_settings.keys() if key in opts.data}  # noqa: SIM118  as the host asks
    try:
        if sd_models.checkpoint_aliases.get(p.override_settings.get("sd_model_checkpoint")) is None:
            p.override_settings.pop("sd_model_checkpoint", None)
            sd_models.reload_model_weights()
        for key, value in p.override_settings.items():
            opts.set(key, value, is_api=True, run_callbacks=False)
            if key == "sd_model_checkpoint":
                sd_models.reload_model_weights()
        return process_images_inner(p)
    finally:
        if p.override_settings_restore_afterwards:
            for key, value in stored.items():
                setattr(opts, key, value)


def process_images_inner(p):
    seed, subseed = fixed(p.seed), fixed(p.subseed)
    if p.refiner_checkpoint:
        p.refiner_checkpoint_info = sd_models.get_closet_checkpoint_match(p.refiner_checkpoint)
    p.sd_model_name = shared.sd_model.sd_checkpoint_info.name_for_extra
    p.s_min_uncond = opts.s_min_uncond if p.s_min_uncond is None else p.s_min_uncond
    p.setup_prompts()
    p.all_seeds = [seed + i for i in range(len(p.all_prompts))]
    p.all_subseeds = [subseed + i for i in range(len(p.all_prompts))]
    p.scripts.process(p)
    infotexts, pictures = [], []
    with torch.no_grad():
        p.init(p.all_prompts, p.all_seeds, p.all_subseeds)
        if state.job_count == -1:
            state.job_count = p.n_iter
        for n in range(p.n_iter):
            p.iteration, state.skipped = n, False
            if state.interrupted or state.stopping_generation:
                break
            sd_models.reload_model_weights()
            _batch(p, n, pictures, infotexts)
    first = 0
    if (opts.return_grid or opts.grid_save) and not p.do_not_save_grid and len(pictures) > 1:
        pictures.insert(0, images.image_grid(pictures))
        infotexts.insert(0, create_infotext(p, p.all_prompts, p.all_seeds, p.all_subseeds, use_main_prompt=True))
        first = 1
    if not infotexts:
        infotexts.append(create_infotext(p, p.all_prompts, p.all_seeds, p.all_subseeds, index=0))
    if not p.disable_extra_networks and p.extra_network_data:
        extra_networks.deactivate(p, p.extra_network_data)
    result = Processed(p, pictures, p.all_seeds[0], infotexts[0], infotexts, first, p.all_subseeds[0])
    p.scripts.postprocess(p, result)
    return result


def _batch(p, n, pictures, infotexts):
    here = slice(n * p.batch_size, (n + 1) * p.batch_size)
    p.prompts, p.negative_prompts = p.all_prompts[here], p.all_negative_prompts[here]
    p.seeds, p.subseeds = p.all_seeds[here], p.all_subseeds[here]
    p.rng = rng.ImageRNG((opt_C, p.height // opt_f, p.width // opt_f), p.seeds, subseeds=p.subseeds)
    about = {"batch_number": n, "prompts": p.prompts, "seeds": p.seeds, "subseeds": p.subseeds}
    p.scripts.before_process_batch(p, **about)
    if not p.prompts:
        return
    p.parse_extra_network_prompts()
    if not p.disable_extra_networks:
        extra_networks.activate(p, p.extra_network_data)
    p.scripts.process_batch(p, **{**about, "prompts": p.prompts})
    p.setup_conds()
    sd_models.apply_alpha_schedule_override(p.sd_model, p)
    samples = p.sample(conditioning=p.c, unconditional_conditioning=p.uc, seeds=p.seeds, subseeds=p.subseeds,
                       subseed_strength=p.subseed_strength, prompts=p.prompts)
    ps = scripts.PostSampleArgs(samples)
    p.scripts.post_sample(p, ps)
    samples = ps.samples
    if not getattr(samples, "already_decoded", False):
        devices.test_for_nans(samples, "unet")
        samples = decode_latent_batch(p.sd_model, samples, target_device=devices.cpu, check_for_nans=True)
    x = to_unit(torch.stack(samples).float())
    state.nextjob()
    p.scripts.postprocess_batch(p, images=x, batch_number=n)
    pp = scripts.PostprocessBatchListArgs(list(x))
    p.scripts.postprocess_batch_list(p, pp, batch_number=n)
    for i, one in enumerate(pp.images):
        p.batch_index = i
        picture = _through(p, "postprocess_image", to_picture(one))
        p.scripts.postprocess_maskoverlay(p, scripts.PostProcessMaskOverlayArgs(i, None, None))
        picture = _through(p, "postprocess_image_after_composite", picture)
        text = create_infotext(p, p.prompts, p.seeds, p.subseeds, index=i, all_negative_prompts=p.negative_prompts)
        if p.save_samples():
            images.save_image(picture, p.outpath_samples, "", p.seeds[i], p.prompts[i], opts.samples_format, info=text)
        picture.info["parameters"] = text
        infotexts.append(text)
        pictures.append(picture)


def _through(p, hook, picture):
    pp = scripts.PostprocessImageArgs(picture)
    getattr(p.scripts, hook)(p, pp)
    return pp.image

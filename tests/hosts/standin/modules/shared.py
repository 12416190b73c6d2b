"""Shared state: settings, the state of the job, the loaded model."""
from types import SimpleNamespace

from modules import devices, paths
from modules.options import OptionInfo, Options, options_section  # noqa: F401
from modules.shared_state import State

DEFAULTS = {
    "add_model_hash_to_info": False, "batch_cond_uncond": True, "CLIP_stop_at_last_layers": 1, "enable_pnginfo": True,
    "eta_ancestral": 1.0, "eta_ddim": 0.0, "eta_noise_seed_delta": 0, "grid_only_if_multiple": True, "grid_save": False,
    "img2img_background_color": "#ffffff", "img2img_extra_noise": 0.0, "img2img_fix_steps": False,
    "infotext_skip_pasting": [], "live_previews_enable": True,
    "outdir_grids": "", "outdir_samples": "", "sd_vae_encode_method": "Full",
    "outdir_save": "log/images", "save_selected_only": True,
    "outdir_img2img_samples": "outputs/img2img-images", "outdir_txt2img_samples": "outputs/txt2img-images",
    "pad_cond_uncond": False, "pad_cond_uncond_v0": False, "return_grid": False, "s_min_uncond": 0.0,
    "s_min_uncond_all": False, "samples_format": "png", "samples_save": True, "save_incomplete_images": False,
    "sd_model_checkpoint": "demo", "sd_noise_schedule": "Default", "show_progress_every_n_steps": 10,
    "show_progress_type": "Approx cheap", "skip_early_cond": 0.0, "use_downcasted_alpha_bar": False,
}  # fmt: skip
opts = Options({name: OptionInfo(value) for name, value in DEFAULTS.items()})
opts.data.update(DEFAULTS)  # as after the settings page has been built
cmd_opts = SimpleNamespace(api_auth=None, ckpt_dir=None, data_dir=paths.data_path, no_half=True, lowvram=False,
                           medvram=False, disable_nan_check=False, hide_ui_dir_config=False, freeze_settings=False)
state = State()
sd_model = None
device = devices.device
parallel_processing_allowed = True
hypernetworks = {}
latent_upscale_modes = {"Latent": {"mode": "bilinear", "antialias": False},
                        "Latent (nearest)": {"mode": "nearest", "antialias": False}}
sd_upscalers = [SimpleNamespace(name=name) for name in ("None", "Lanczos", "Nearest")]
total_tqdm = SimpleNamespace(update=lambda *_: None, updateTotal=lambda *_: None, clear=lambda: None)

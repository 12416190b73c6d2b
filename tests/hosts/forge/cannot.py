"""Cases of ../webui that hosts of Forge's family cannot do: a part of the case's file and name -> the reason."""
from __future__ import annotations

TICK = "with gradio 4 the tick is inside the accordion, which opens without setting it"
ONE = "at CFG 1 the host computes no negative prompt, so nothing can be denoised apart"
ALL = {
    "test_zero_terminal_snr_is_applied": "after such a job, also a plain one, the host keeps other logarithms of σ",
    **{f"test_with_what_the_host_does[{name}-cfg_scale": ONE for name in ("Forge", "reForge", "Neo")},
}
OPTIONS = "the host's API changes settings that are closed to API clients"
INFOTEXT = dict.fromkeys(("test_a_clip_asked_for_by_its_infotext", "test_the_infotext_names_the_mask",
                          "test_lists_and_infotext", "test_an_infotext_names_no_other_file_either"),
                         "the host answers HTTP 500 to each request with `infotext`, also to a plain one")
SOFT = {"inpainting_fill-alwayson_scripts1":
        "on computers with up to six cores the host's Soft inpainting returns the source"}
FORGE = {
    **ALL,
    **SOFT,
    **INFOTEXT,
    "test_both_tabs_have_the_accordion": TICK,
    "test_a_collapsed_accordion_shows_what_is_enabled": TICK,
    "test_a_request_cannot_point_the_folder_elsewhere": OPTIONS,
    "test_no_request_moves_the_folder_of_models": OPTIONS,
}
NO_SAMPLER = "Neo has no such sampler and takes its first one, DPM++ 2M"
NO_OPTION = "Neo has no such setting and answers HTTP 500 to a request that names it"
NEO = {
    **ALL,
    **INFOTEXT,
    **{f"-{name}{end}": NO_SAMPLER for end in "-]" for name in
       ("DPM2 a", "DPM++ 2S a", "DPM++ 2M SDE Heun", "DPM fast", "DPM adaptive", "DDIM CFG++")},
    **dict.fromkeys(("pad_cond_uncond", "batch_cond_uncond", "use_downcasted_alpha_bar", "half the calls",
                     "test_apply_settings_during_a_clip"), NO_OPTION),
    "test_forge_ip_adapter": "Neo cannot load a CLIP vision network: it sets its read-only attribute `device`",
    "test_hires_fix_moves_in_windows_too[Neo-Latent": "Neo has no latent upscalers",
    "test_the_hosts_upscalers": "Neo has neither a latent upscaler nor Nearest",
    "'width': 96": "the tested copy of Neo rounds sizes to multiples of 64",
    "test_settings_come_back_from_params_txt": "Neo's ↙ does not paste the prompt: its box has no default value",
    "test_both_tabs_have_the_accordion": TICK,
    "test_a_collapsed_accordion_shows_what_is_enabled": TICK,
    "test_a_request_cannot_point_the_folder_elsewhere": OPTIONS,
    "test_no_request_moves_the_folder_of_models": OPTIONS,
}
NESTED = "the host answers HTTP 500 to each request with values in some 900 lists, also to a plain one"
REFORGE = {
    **ALL,
    **SOFT,
    "test_any_body_is_answered_or_refused_and_leaves_nothing": NESTED,
    "test_odd_json_is_refused_or_asks_for_nothing[reForge-[[[[": NESTED,
}
CANNOT: dict[str, dict[str, str]] = {"Forge": FORGE, "reForge": REFORGE, "Neo": NEO}

LEFT_OUT = {  # files of ../webui that have no counterpart in cases/
    "test_neighbours.py": "the extensions in it are the WebUI's; test_forge_controlnet.py and test_forge_ip_adapter.py "
                          "are for the hosts' own ControlNet",
    "test_neighbours_sampling.py": "its extensions are the WebUI's; test_forge_extensions.py is for the hosts' own",
    "test_webui_low_memory.py": "the hosts have no --medvram and --lowvram, and on the CPU they move nothing",
    "test_webui_traces.py": "test_forge_traces.py is for these hosts",
}

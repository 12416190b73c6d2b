"""Cases of ../webui that hosts of Forge's family cannot do: a part of the case's name -> the reason."""
from __future__ import annotations

TICK = "with gradio 4 the tick is inside the accordion, which opens without setting it"
ONE = "at CFG 1 the host computes no negative prompt, so nothing can be denoised apart"
BOTH = {
    "test_zero_terminal_snr_is_applied": "after such a job, also a plain one, the host keeps other logarithms of σ",
    "test_with_what_the_host_does[Forge-cfg_scale": ONE,
    "test_with_what_the_host_does[reForge-cfg_scale": ONE,
}
INFOTEXT = "Forge answers HTTP 500 to each request with `infotext`, also to a plain one"
FORGE = {
    **BOTH,
    "test_a_clip_asked_for_by_its_infotext": INFOTEXT,
    "test_the_infotext_names_the_mask": INFOTEXT,
    "test_lists_and_infotext": INFOTEXT,
    "test_both_tabs_have_the_accordion": TICK,
    "test_a_collapsed_accordion_shows_what_is_enabled": TICK,
    "test_a_request_cannot_point_the_folder_elsewhere": "Forge's API changes settings that are closed to API clients",
}
REFORGE = {
    **BOTH,
    "inpainting_fill-alwayson_scripts1": "on computers with up to six cores its Soft inpainting returns the source",
}
CANNOT: dict[str, dict[str, str]] = {"Forge": FORGE, "reForge": REFORGE}

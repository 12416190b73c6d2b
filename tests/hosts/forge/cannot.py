"""Cases of ../webui that hosts of Forge's family cannot do: a part of the case's name -> the reason."""
from __future__ import annotations

TICK = "with gradio 4 the tick is inside the accordion, which opens without setting it"
SNR = {"test_zero_terminal_snr_is_applied": "after such a job, also a plain one, the host keeps other logarithms of σ"}
OPTIONS = "Forge's API changes settings that are closed to API clients"
INFOTEXT = "Forge answers HTTP 500 to each request with `infotext`, also to a plain one"
FORGE = {
    **SNR,
    "test_a_clip_asked_for_by_its_infotext": INFOTEXT,
    "test_the_infotext_names_the_mask": INFOTEXT,
    "test_lists_and_infotext": INFOTEXT,
    "test_both_tabs_have_the_accordion": TICK,
    "test_a_collapsed_accordion_shows_what_is_enabled": TICK,
    "test_an_infotext_names_no_other_file_either": INFOTEXT,
    "test_a_request_cannot_point_the_folder_elsewhere": OPTIONS,
    "test_no_request_moves_the_folder_of_models": OPTIONS,
}
CANNOT: dict[str, dict[str, str]] = {"Forge": FORGE, "reForge": SNR}

LEFT_OUT = {  # files of ../webui that have no counterpart in cases/
    "test_neighbours.py": "the extensions in it are the WebUI's; test_forge_controlnet.py and test_forge_ip_adapter.py "
                          "are for the hosts' own ControlNet",
    "test_webui_low_memory.py": "the hosts have no --medvram and --lowvram, and on the CPU they move nothing",
    "test_webui_traces.py": "test_forge_traces.py is for these hosts",
}

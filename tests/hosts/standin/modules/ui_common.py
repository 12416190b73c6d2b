"""The parts of the results, and the buttons under the gallery that save its items."""
import json
import os
from types import SimpleNamespace

import modules.images
from modules import shared
from modules.infotext_utils import image_from_url_text, parse_generation_parameters
from modules.ui import plaintext_to_html


class OutputPanel:
    gallery = None
    generation_info = None


def save_files(js_data, images, do_make_zip, index):
    p = SimpleNamespace(**json.loads(js_data))
    path, start = shared.opts.outdir_save, 0
    if index > -1 and shared.opts.save_selected_only and index >= p.index_of_first_image:
        images, start = [images[index]], index
    os.makedirs(path, exist_ok=True)
    saved = []
    for number, filedata in enumerate(images, start):
        image = image_from_url_text(filedata)
        seed = parse_generation_parameters(p.infotexts[number], [])["Seed"]
        saved.append(modules.images.save_image(image, path, "", seed=seed, prompt="", extension="png",
                                               info=p.infotexts[number], p=p)[0])
    return saved, plaintext_to_html(f"Saved: {os.path.relpath(saved[0], path)}")

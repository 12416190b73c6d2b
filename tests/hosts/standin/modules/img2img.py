"""The Batch tab of img2img. The rest of the img2img tab is missing."""
from pathlib import Path

from PIL import Image

import modules.scripts
from modules.processing import process_images
from modules.shared import state


def process_batch(p, input, output_dir, inpaint_mask_dir, args, to_scale=False, scale_by=1.0, use_png_info=False,
                  png_info_props=None, png_info_dir=None):
    paths = sorted(path for path in Path(input).iterdir() if path.suffix == ".png")
    masks = sorted(Path(inpaint_mask_dir).iterdir()) if inpaint_mask_dir else []
    state.job_count = len(paths) * p.n_iter
    results = None
    for i, path in enumerate(paths):
        state.job = f"{i + 1} out of {len(paths)}"
        if state.interrupted:
            break
        image = Image.open(path)
        if to_scale:
            p.width, p.height = int(image.width * scale_by), int(image.height * scale_by)
        p.init_images = [image] * p.batch_size
        if masks:
            p.image_mask = Image.open(masks[0] if len(masks) == 1 else masks[i])
        if output_dir:
            p.outpath_samples = output_dir
        proc = modules.scripts.scripts_img2img.run(p, *args)
        if proc is None:
            proc = process_images(p)
        if proc and results:
            results.images.extend(proc.images)
            results.infotexts.extend(proc.infotexts)
        elif proc:
            results = proc
    return results


def img2img(id_task, request, *args):
    raise NotImplementedError

"""The txt2img tab: a job from the page's controls, and the button that runs the Hires. pass on a picture.

`fields` replaces the page's many controls.
"""
import json
from contextlib import closing

from PIL import Image

from modules import infotext_utils, processing, scripts, shared
from modules.infotext_utils import parse_generation_parameters
from modules.ui import plaintext_to_html


def txt2img_create_processing(id_task, request, fields, *args, force_enable_hr=False):
    p = processing.StableDiffusionProcessingTxt2Img(**{**fields, "enable_hr": force_enable_hr or fields["enable_hr"]},
                                                    override_settings={})
    p.outpath_samples = shared.opts.outdir_txt2img_samples
    p.scripts = scripts.scripts_txt2img
    p.script_args = args
    return p


def txt2img_upscale(id_task, request, gallery, gallery_index, generation_info, *args):
    p = txt2img_create_processing(id_task, request, *args, force_enable_hr=True)
    p.batch_size = p.n_iter = 1
    p.txt2img_upscale = True
    geninfo = json.loads(generation_info)
    p.firstpass_image = infotext_utils.image_from_url_text(gallery[gallery_index])
    parameters = parse_generation_parameters(geninfo.get("infotexts")[gallery_index], [])
    p.seed, p.subseed = parameters.get("Seed", -1), parameters.get("Variation seed", -1)
    p.override_settings["save_images_before_highres_fix"] = False
    with closing(p):
        processed = scripts.scripts_txt2img.run(p, *p.script_args) or processing.process_images(p)
    new_gallery = []
    for i, image in enumerate(gallery):
        if i == gallery_index:
            geninfo["infotexts"][gallery_index : gallery_index + 1] = processed.infotexts
            new_gallery.extend(processed.images)
        else:
            fake_image = Image.new(mode="RGB", size=(1, 1))
            fake_image.already_saved_as = image["name"].rsplit("?", 1)[0]
            new_gallery.append(fake_image)
    geninfo["infotexts"][gallery_index] = processed.info
    comments = plaintext_to_html(processed.comments, classname="comments")
    return new_gallery, json.dumps(geninfo), plaintext_to_html(processed.info), comments


def txt2img(id_task, request, *args):
    p = txt2img_create_processing(id_task, request, *args)
    with closing(p):
        processed = scripts.scripts_txt2img.run(p, *p.script_args) or processing.process_images(p)
    return processed.images, _js(processed), plaintext_to_html(processed.info), plaintext_to_html(
        processed.comments, classname="comments")


def _js(processed):
    return json.dumps({"infotexts": processed.infotexts, "index_of_first_image": processed.index_of_first_image})

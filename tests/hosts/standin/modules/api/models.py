"""The optional fields of a request to the API: the fields of a job, with their defaults."""
from dataclasses import MISSING, fields
from types import SimpleNamespace

from modules.processing import StableDiffusionProcessingImg2Img, StableDiffusionProcessingTxt2Img


def _model(kind, **more):
    found = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    return type(kind.__name__, (), {
        "__fields__": {name: SimpleNamespace(default=value) for name, value in (found | more).items()}})


StableDiffusionTxt2ImgProcessingAPI = _model(StableDiffusionProcessingTxt2Img, sampler_index="Euler")
StableDiffusionImg2ImgProcessingAPI = _model(StableDiffusionProcessingImg2Img, sampler_index="Euler",
                                             init_images=None, denoising_strength=0.75, mask=None)

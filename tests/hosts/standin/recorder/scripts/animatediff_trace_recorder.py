"""Extension for tests only: records what a WebUI does with a job, in order.

It runs in the real host and in the stand-in. `begin(plan)` starts recording one job, `end()` returns the events. An
event is a dict: "call" names the called function, "with" has the names and kinds of its arguments, "p+" and "p-" list
the WATCHED attributes of `p` that were added or removed since the previous event.

plan: {"raise_in": [names of script hooks and callbacks that raise], "fail": n, "interrupt": n}. The UNet's call n (from
    1) fails, or requests the job's end.

In the real host, /trace-recorder/begin and /trace-recorder/end do the same over HTTP.
"""
import functools

import torch
from modules import script_callbacks, scripts, shared

HOOKS = [
    "setup", "before_process", "process", "before_process_batch", "after_extra_networks_activate", "process_batch",
    "process_before_every_sampling", "before_hr", "post_sample", "postprocess_batch", "postprocess_batch_list",
    "postprocess_image", "postprocess_maskoverlay", "postprocess_image_after_composite", "postprocess",
]  # fmt: skip
METHODS = ["init", "parse_extra_network_prompts", "setup_conds", "sample", "sample_hr_pass", "close"]
CALLBACKS = {
    "cfg_denoiser": ["x", "image_cond", "sigma", "text_cond", "text_uncond", "sampling_step", "total_sampling_steps"],
    "cfg_denoised": ["x", "sampling_step", "total_sampling_steps"],
    "cfg_after_cfg": ["x", "sampling_step", "total_sampling_steps"],
}
WATCHED = [
    "all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds", "main_prompt", "main_negative_prompt",
    "prompts", "negative_prompts", "seeds", "subseeds", "rng", "sampler", "c", "uc", "extra_network_data",
    "batch_index", "sd_model_name", "init_latent", "image_conditioning", "all_hr_prompts", "hr_prompts", "hr_c",
    "hr_uc", "latent_scale_mode",
]  # fmt: skip
FLAGS = ["iteration", "is_hr_pass", "batch_size", "n_iter"]

plan = {}
events = []
memory = {}
undo = []


def kind(value):
    """Return a short description of a value that is the same in both hosts."""
    if isinstance(value, torch.Tensor):
        return f"{'x'.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, str) and len(value) > 60:
        return f"{value[:40]}… ({len(value)} characters)"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, dict):
        return {str(k): kind(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        kinds = [kind(v) for v in value]
        alike = kinds and all(k == kinds[0] for k in kinds)
        return [f"{len(kinds)} times", kinds[0]] if alike and len(kinds) > 1 else kinds
    if hasattr(value, "batch"):
        return {type(value).__name__: kind(value.batch)}
    if hasattr(value, "schedules"):
        return {type(value).__name__: [kind(value.schedules), value.weight]}
    return type(value).__name__


def first_seen(rows):
    """Return which rows are equal: "0011" for two pairs. Rows are numbered in order of appearance."""
    known, answer = [], []
    for row in rows:
        i = next((i for i, k in enumerate(known) if torch.equal(k, row)), None)
        if i is None:
            i = len(known)
            known.append(row)
        answer.append(i)
    return " ".join(map(str, answer))


def note(call, p=None, /, **arguments):
    if not plan:
        return
    event = {"call": call}
    if arguments:
        event["with"] = {name: kind(value) for name, value in arguments.items()}
    if p is not None:
        has = {name for name in WATCHED if getattr(p, name, None) is not None}
        before = memory.setdefault("has", set())
        event |= {"p+": sorted(has - before)} if has - before else {}
        event |= {"p-": sorted(before - has)} if before - has else {}
        memory["has"] = has
        flags = {name: getattr(p, name, None) for name in FLAGS}
        changed = {k: v for k, v in flags.items() if memory.get("flags", {}).get(k, "never") != v}
        event |= {"p.": changed} if changed else {}
        memory["flags"] = flags
    events.append(event)


def wrap(owner, name, label, p=None, names=(), returned=False):
    """Record every call of owner.name. Callers must look it up on the instance."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def noted(*args, **kwargs):
        note(label, p, **dict(zip(names, args)), **kwargs)
        answer = inner(*args, **kwargs)
        if returned:
            note(f"{label} returned", p, value=answer)
        return answer

    own = name in vars(owner)
    setattr(owner, name, noted)
    undo.append((lambda: setattr(owner, name, inner)) if own else (lambda: vars(owner).pop(name, None)))


class Spy(dict):
    """An override_settings that records how it is read."""

    def keys(self):
        note("p.override_settings.keys")
        return super().keys()

    def get(self, *args):
        note("p.override_settings.get", key=args[0])
        return super().get(*args)

    def items(self):
        note("p.override_settings.items")
        return super().items()


def watch_model():
    """Watch the job's model. It is known from `process` on, since the request's settings may change it."""
    model = shared.sd_model
    memory["model"] = model
    wrap(model, "apply_model", "sd_model.apply_model", names=("x", "t", "cond"))
    wrap(model, "decode_first_stage", "sd_model.decode_first_stage", names=("z",))

    def unet(module, args, kwargs):
        x = args[0] if args else kwargs["x"]
        context = kwargs.get("context", args[2] if len(args) > 2 else None)
        note("unet", x=x, frames=first_seen(x), context=context, texts=first_seen(context))
        memory["calls"] = memory.get("calls", 0) + 1
        if memory["calls"] == plan.get("interrupt"):
            shared.state.interrupt()
        if memory["calls"] == plan.get("fail"):
            raise RuntimeError("raised on purpose in the forward")

    undo.append(model.model.diffusion_model.register_forward_pre_hook(unet, with_kwargs=True).remove)


def note_hook(name, p, args, kwargs):
    """Record a script hook's arguments, and what the host does with the hook's changes."""
    given = {f"argument {i}": a for i, a in enumerate(args, 1)}
    for a in args:
        if type(a).__name__.endswith("Args"):
            given = {f"{type(a).__name__}.{k}": v for k, v in vars(a).items()}
        elif type(a).__name__ == "Processed":
            given = {"processed": a, "processed.images": a.images, "processed.infotexts": len(a.infotexts)}
    more = {}
    if name in ("before_process", "process"):
        more["model"] = shared.sd_model.sd_checkpoint_info.model_name
    if name == "process_batch":  # the same values in another tensor: does the host keep it?
        memory["alphas"] = shared.sd_model.alphas_cumprod = shared.sd_model.alphas_cumprod.clone()
    if name == "process_before_every_sampling":
        kept = shared.sd_model.alphas_cumprod is memory.get("alphas")
        more["alphas_cumprod"] = "as process_batch left it" if kept else "reset"
        cfg = p.sampler.model_wrap_cfg
        more["p.sampler"] = {
            "class": type(p.sampler).__name__, "denoiser": type(cfg).__name__, "model": type(cfg.inner_model).__name__,
            "new": id(p.sampler) not in memory.setdefault("samplers", {}), "step": cfg.step,
        }  # fmt: skip
        memory["samplers"][id(p.sampler)] = p.sampler  # kept, so that its id is not reused
    note(f"script.{name}", p, **given, **kwargs, **more)


class TraceRecorder(scripts.Script):
    def title(self):
        return "AnimateDiff trace recorder"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []


def hook(name):
    def noted(self, p, *args, **kwargs):
        if not plan:
            return
        note_hook(name, p, args, kwargs)
        if name == "before_process":
            p.override_settings = Spy(p.override_settings)
            for method in METHODS:
                if hasattr(p, method):
                    wrap(p, method, f"p.{method}", p, returned=method == "sample")
        if name == "process":
            watch_model()
        if name == "process_before_every_sampling":
            for method in ("sample", "sample_img2img"):
                names = ("p", "x", "conditioning", "unconditional_conditioning")
                if method == "sample_img2img":
                    names = ("p", "x", "noise", "conditioning", "unconditional_conditioning")
                wrap(p.sampler, method, f"p.sampler.{method}", p, names, returned=True)
        if name in plan["raise_in"]:
            raise RuntimeError(f"raised on purpose in {name}")

    return noted


for _name in HOOKS:
    setattr(TraceRecorder, _name, hook(_name))


def callback(name):
    def noted(params):
        if not plan:
            return
        given = {key: getattr(params, key) for key in CALLBACKS[name]}
        if name == "cfg_denoiser":
            given |= {"denoiser.step": params.denoiser.step, "denoiser.p": params.denoiser.p}
        note(f"callback.{name}", **given)
        if name in plan["raise_in"]:
            raise RuntimeError(f"raised on purpose in {name}")

    return noted


for _name in CALLBACKS:
    getattr(script_callbacks, f"on_{_name}")(callback(_name))


def begin(wishes):
    end()
    events.clear()
    plan.update({"raise_in": [], **wishes})


def end():
    plan.clear()
    while undo:
        undo.pop()()
    memory.clear()
    return list(events)


def routes(_, app):
    from fastapi import Body

    app.post("/trace-recorder/begin")(lambda wishes=Body(): begin(wishes))
    app.post("/trace-recorder/end")(end)


script_callbacks.on_app_started(routes)

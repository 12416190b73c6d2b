"""ControlNet beside this extension, with an imitation of ControlNet.

The imitation creates and uses hints by ControlNet's rules, written anew here: hints are [frames …], or twice as many
rows if cond and uncond are in one call; `hint_cond` is read in every call of the UNet. Every frame has its own prompt,
which identifies the frame of each row of a call.
"""
from __future__ import annotations

import importlib
import io
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image
from slow_cases import slow
from tiny_models import write_module

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"
WIDTHS = (32, 32, 32, 32)
FRAMES = 7
POSITIVE = [f"frame {i} is shown" for i in range(FRAMES)]
NEGATIVE = [f"frame {i} is not" for i in range(FRAMES)]
REQUEST = {"prompt": POSITIVE, "negative_prompt": NEGATIVE, "width": 64, "height": 64, "steps": 2, "seed": 7,
           "sampler_name": "Euler", "cfg_scale": 5.0}
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 0, "batch_size": 3, "overlap": 1,
        "format": ["GIF"]}


class Unit(SimpleNamespace):
    """The attributes of a ControlNetUnit that other extensions may use."""

    def __init__(self, **given):
        modes = importlib.import_module("enum").Enum("InputMode", {"SIMPLE": "simple", "BATCH": "batch"})
        super().__init__(**{"enabled": True, "image": None, "batch_images": None, "animatediff_batch": False,
                            "batch_modifiers": [], "model": "net", **given})
        self.input_mode = modes[given.get("input_mode", "SIMPLE")]


class Params:
    """ControlNet's ControlParams: a new hint clears values derived from the previous one."""

    def __init__(self, hint, hr=None, model=None):
        self._hint_cond, self.hr_hint_cond, self.control_model = hint, hr, model
        self.used_hint_cond_latent = self.used_hint_inpaint_hijack = None
        self.forgot = 0

    @property
    def hint_cond(self):
        return self._hint_cond

    @hint_cond.setter
    def hint_cond(self, value):
        self._hint_cond, self.forgot = value, self.forgot + 1


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    write_module(folder / "moving.safetensors", widths=WIDTHS)
    return folder


@pytest.fixture
def host(tmp_path, monkeypatch, models):
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    with standing_in(tmp_path) as host:
        host.opts.data["animatediff_model_path"] = str(models)
        host.load(ROOT / "scripts" / "animatediff.py")
        external = ModuleType("scripts.external_code")
        external.to_processing_unit = lambda unit: Unit(**unit) if isinstance(unit, dict) else unit
        monkeypatch.setitem(sys.modules, "scripts", ModuleType("scripts"))
        monkeypatch.setitem(sys.modules, "scripts.external_code", external)
        sys.modules["scripts"].external_code = external
        importlib.import_module("modules.devices").get_device_for = lambda task: torch.device("cpu")
        host.shared.listfiles = lambda folder: sorted(str(path) for path in Path(folder).iterdir() if path.is_file())
        host.seen, host.broken, host.params = [], False, []
        host.scripts.scripts_data.append((_controlnet(host), "controlnet.py"))
        host.show()
        yield host


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("returns", ["clip", "frames"])
@pytest.mark.slow
def test_its_pictures_of_hints_come_behind_the_clip(host, first, returns):
    if first:
        host.scripts.scripts_data.reverse()
        host.show()
    answer = clip(host, Unit(image="a picture"), settings={"video_length": FRAMES, "returns": returns})
    sizes = [Image.open(io.BytesIO(raw)).size for raw in answer.images]
    assert sizes == [(64, 64)] * (FRAMES if returns == "frames" else 1) + [(8, 8)]
    assert len(answer.info["infotexts"]) == len(sizes) - 1


def _controlnet(host):
    """A script with the title ControlNet: creates hints in `process`, and patches the UNet until `postprocess`."""
    class Script(host.scripts.Script):
        latest_network = None

        def title(self):
            return "ControlNet"

        def show(self, is_img2img):
            return host.scripts.AlwaysVisible

        def process(self, p, *units):
            units = [u if isinstance(u, Unit) else Unit(**u) for u in units]
            units = [unit for unit in units if unit.enabled]
            if not units:
                return
            if host.broken:
                raise RuntimeError("no such preprocessor")
            host.params = [self.hints(p, unit) for unit in units]
            host.originals = [(param.hint_cond, param.hr_hint_cond) for param in host.params]
            self.latest_network = SimpleNamespace(control_params=host.params)
            unet = p.sd_model.model.diffusion_model
            self.plain = unet.forward

            def forward(x, timesteps=None, context=None, **kwargs):
                host.seen.append((x.shape[-1], context.clone(), [(q.hint_cond, q.hr_hint_cond) for q in host.params]))
                return self.plain(x, timesteps, context, **kwargs)

            unet.forward = forward

        def hints(self, p, unit):
            if not unit.animatediff_batch:
                return Params(torch.zeros(1, 3, 64, 64))
            files = host.shared.listfiles(unit.batch_images.split("\n")[0])
            for modifier in unit.batch_modifiers:
                files = modifier(files, p)
            shown = [float(Path(file).stem) for file in files]
            shown *= 2 if host.opts.batch_cond_uncond else 1
            value = torch.tensor(shown)[:, None, None, None]
            return Params(value.expand(-1, 3, 64, 64), value.expand(-1, 3, 128, 128) + 100)

        def postprocess(self, p, processed, *units):
            if self.latest_network:
                processed.images.extend(Image.new("RGB", (8, 8), "white") for _ in host.params)
                del p.sd_model.model.diffusion_model.forward
                self.latest_network = None

    return Script


@pytest.fixture
def pictures(tmp_path):
    """A folder with a picture for each frame, named by its number, and an unrelated file."""
    folder = tmp_path / "hints"
    folder.mkdir()
    for i in range(FRAMES):
        Image.new("RGB", (64, 64)).save(folder / f"{i:03}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def clip(host, *units, settings=None, **fields):
    return host.request("txt2img", {**REQUEST, **fields}, {"AnimateDiff": [{**CLIP, **(settings or {})}],
                                                           "ControlNet": list(units)})


def frames_of_rows(host, context):
    """Return the frame of each row, found by its prompt."""
    model = host.shared.sd_model
    known = [(i, model.get_learned_conditioning([text])[0])
             for texts in (POSITIVE, NEGATIVE) for i, text in enumerate(texts)]
    return [min(known, key=lambda one: (one[1] - row).abs().sum())[0] for row in context]


WAYS = {
    "together": {},
    "apart": {"override_settings": {"batch_cond_uncond": False}},
    "without the negative": {"cfg_scale": 1.0},
    "some steps without the negative": {"s_min_uncond": 20.0, "steps": 4},
    "Hires. fix": {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.5},
    "two parts": {"prompt": [f"{text} AND {text}" for text in POSITIVE]},
}


@pytest.mark.parametrize("way", [slow(way) if way in ("apart", "two parts") else way for way in WAYS])
def test_every_row_has_the_hint_of_its_frame(host, pictures, way):
    unit = {"enabled": True, "batch_images": str(pictures)}
    if way == "apart":
        host.opts.data["batch_cond_uncond"] = False
    answer = clip(host, unit, **WAYS[way])
    assert answer.status == 200, answer
    assert len(host.seen) >= 6 and {len(context) for _, context, _ in host.seen} <= {3, 6, 9}
    for size, context, hints in host.seen:
        [(low, high)] = hints
        frames = frames_of_rows(host, context)
        assert low[:, 0, 0, 0].tolist() == frames
        assert high[:, 0, 0, 0].tolist() == [100 + frame for frame in frames]
    if way == "Hires. fix":
        assert {size for size, _, _ in host.seen} == {8, 16}


@pytest.mark.parametrize("source", ["video, txt2img", slow("video, img2img"), "start pictures, img2img"])
def test_a_unit_without_a_picture_has_the_sources_frames(host, pictures, source):
    """And one with a picture keeps it."""
    tab, fields = source.split(", ")[1], {}
    if tab == "img2img":
        starts = sorted(pictures.glob("*.png")) if "start" in source else []
        fields["init_images"] = [Image.open(path) for path in starts]
    settings = {"video_path": str(pictures)} if "video" in source else {}
    answer = host.request(tab, {**REQUEST, "steps": 4, **fields},
                          {"AnimateDiff": [{**CLIP, **settings}], "ControlNet": [Unit(), Unit(image="a picture")]})
    assert answer.status == 200, answer
    assert len(host.seen) >= 6
    for _, context, hints in host.seen:
        assert hints[0][0][:, 0, 0, 0].tolist() == frames_of_rows(host, context)
        assert hints[1][0] is host.originals[1][0]


def test_units_that_have_something_of_their_own_get_no_frames_of_the_source(host, pictures):
    from animatediff.hosts.neighbours import controlnet

    bare = Unit()
    units = [bare, Unit(image="a picture"), Unit(batch_images=str(pictures)), Unit(enabled=False),
             Unit(ipadapter_input=[1]), Unit(image={"image": None, "mask": None}), Unit(image="")]
    script = SimpleNamespace(title=lambda: "ControlNet", args_from=0, args_to=len(units))
    p = SimpleNamespace(
        scripts=SimpleNamespace(alwayson_scripts=[script]), script_args=tuple(units))
    assert [found.place for found in controlnet.without_pictures(p)] == [0, 5, 6]
    assert bare.batch_images is None


def test_afterwards_the_hints_are_as_before(host, pictures):
    assert clip(host, {"enabled": True, "batch_images": str(pictures)}).status == 200
    for param, (low, high) in zip(host.params, host.originals):
        assert param.hint_cond is low and param.hr_hint_cond is high


def test_an_error_in_a_window_leaves_the_hints_as_before(host, pictures):
    def fail(module, args):
        if len(host.seen) == 2:
            raise RuntimeError("on purpose")

    handle = host.shared.sd_model.model.diffusion_model.input_blocks[0].register_forward_pre_hook(fail)
    try:
        assert clip(host, {"enabled": True, "batch_images": str(pictures)}).status == 500
    finally:
        handle.remove()
    for param, (low, high) in zip(host.params, host.originals):
        assert param.hint_cond is low and param.hr_hint_cond is high


def test_one_picture_is_the_hint_of_every_frame_and_stays_itself(host):
    image = Unit(image="a picture")
    answer = clip(host, image, settings={"video_length": FRAMES})
    assert answer.status == 200, answer
    assert all(hints[0][0] is host.originals[0][0] for _, _, hints in host.seen)
    assert host.params[0].forgot == 0


def test_the_folder_says_how_many_frames_there_are(host, pictures):
    answer = clip(host, Unit(input_mode="BATCH", batch_images=str(pictures)))
    assert f"frames: {FRAMES}" in answer.info["infotexts"][0]


@pytest.mark.slow
def test_pictures_beyond_the_clip_are_not_used(host, pictures):
    fields = {"prompt": POSITIVE[:5], "negative_prompt": NEGATIVE[:5]}
    answer = clip(host, Unit(input_mode="BATCH", batch_images=str(pictures)), settings={"video_length": 5}, **fields)
    assert answer.status == 200
    assert len(host.originals[0][0]) == 2 * 5


@pytest.mark.slow
def test_the_pages_own_unit_is_not_changed(host, pictures):
    unit = Unit(input_mode="BATCH", batch_images=str(pictures))
    for _ in range(2):
        assert clip(host, unit).status == 200
    assert not unit.animatediff_batch and unit.batch_modifiers == []


BAD = {
    "no folder": (lambda pictures: Unit(input_mode="BATCH"), {}, ("unit 0", "has no folder")),
    "not there": (lambda pictures: Unit(batch_images="/nowhere/at/all"), {}, ("unit 0", "/nowhere/at/all")),
    "too few": (lambda pictures: Unit(batch_images=str(pictures)), {"video_length": 16},
                ("unit 0", "7 pictures", "16")),
    "late key": (lambda pictures: Unit(batch_images=f"{pictures}\nkeyframe: 0, 9"), {"video_length": 7},
                 ("9", "0 to 6")),
    "words": (lambda pictures: Unit(batch_images=f"{pictures}\nkeyframe: all"), {}, ("keyframe: all", "numbers")),
    "more keys": (lambda pictures: Unit(batch_images=f"{pictures}\nkeyframe: 0,1,2,3,4,5,6,6"), {},
                  ("8 key", "7 pictures")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_unit_that_cannot_work_is_refused(host, pictures, name):
    make, settings, parts = BAD[name]
    answer = clip(host, make(pictures), settings=settings)
    assert answer.status == 422
    for part in parts:
        assert part in answer.detail
    assert host.seen == []


def test_a_folder_elsewhere_is_refused_alike_whether_it_is_there_or_not(host, pictures, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "000.png").write_bytes((pictures / "000.png").read_bytes())
    (pictures / "link").symlink_to(other)
    places = [other, other / "none", "/etc", "/nowhere", pictures / "link", f"{pictures}/../../{other.name}", "a\0b"]
    said = {clip(host, Unit(batch_images=str(place))).detail.replace(str(place), "…") for place in places[:-1]}
    assert len(said) == 1 and "does not read files there" in said.pop()
    assert clip(host, Unit(batch_images=places[-1])).status == 422


@pytest.mark.slow
def test_a_link_among_the_pictures_is_none_of_them(host, pictures, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "a.png"
    other.write_bytes((pictures / "000.png").read_bytes())
    (pictures / "999.png").symlink_to(other)
    answer = clip(host, Unit(input_mode="BATCH", batch_images=str(pictures)))
    assert f"frames: {FRAMES}," in answer.info["infotexts"][0]


def test_a_unit_that_controlnet_does_not_accept_is_refused(host):
    def refuse(unit):
        raise ValueError("module(dreams) not found")

    sys.modules["scripts.external_code"].to_processing_unit = refuse
    answer = clip(host, {"enabled": True, "module": "dreams"})
    assert answer.status == 422 and "module(dreams) not found" in answer.detail


def test_key_frames_keep_the_frames_asked_for(host, pictures):
    from animatediff.hosts.neighbours import controlnet

    runner = SimpleNamespace(alwayson_scripts=[SimpleNamespace(title=lambda: "ControlNet", args_from=1, args_to=3)])
    units = Unit(batch_images=f"{pictures}\nmask: /m\nkeyframe: 0, 4"), Unit(enabled=False)
    p = SimpleNamespace(scripts=runner, script_args=(0, *units))
    found = controlnet.folders(p)
    assert controlnet.limit(found) is None
    controlnet.use(p, found, 16)
    changed = p.script_args[1]
    assert p.script_args[2] is units[1] and changed.animatediff_batch and changed.input_mode.name == "BATCH"
    assert [Path(path).name for path in changed.batch_modifiers[-1](["whatever"], p)] == ["000.png", "001.png"]


def test_units_that_could_not_be_set_up_stop_the_clip(host, pictures):
    host.broken = True
    answer = clip(host, {"enabled": True, "batch_images": str(pictures)})
    assert answer.status == 422 and "ControlNet" in answer.detail
    assert host.seen == []


def test_disabled_units_are_nothing(host):
    answer = clip(host, Unit(enabled=False, batch_images="/nowhere"), {"enabled": False},
                  settings={"video_length": FRAMES})
    assert answer.status == 200


# -- other kinds of hints ----------------------------------------------------------------------------------------------


def in_window(param, frames=4, window=(1, 3), roles=2):
    from animatediff.hosts.neighbours.controlnet import hints

    return hints(SimpleNamespace(latest_network=SimpleNamespace(control_params=[param])), frames, window, roles)


@pytest.mark.parametrize("rows", [4, 8])
def test_picture_prompts_follow_the_window(host, rows):
    from typing import NamedTuple

    class Embed(NamedTuple):
        cond_emb: torch.Tensor
        uncond_emb: torch.Tensor

    resets = []
    value = torch.arange(4.0).repeat(rows // 4)[:, None, None]
    whole = Embed(value, torch.zeros(1, 1, 1))
    model = SimpleNamespace(image_emb=whole, reset=lambda: resets.append(1))
    with in_window(Params(None, model=model)):
        assert model.image_emb.cond_emb.flatten().tolist() == [1, 3, 1, 3]
        assert model.image_emb.uncond_emb is whole.uncond_emb
        assert resets == [1], "its attention layers keep keys of the pictures before"
    assert model.image_emb is whole and resets == [1, 1]


def test_small_adapters_follow_the_window(host):
    class Part:
        def set_cond_image(self, value):
            self.cond_image = value

    part, whole = Part(), torch.arange(8.0).view(8, 1, 1, 1)
    part.set_cond_image(whole)
    with in_window(Params(None, model=SimpleNamespace(modules={"one": part}))):
        assert part.cond_image.flatten().tolist() == [1, 3, 1, 3]
    assert part.cond_image is whole


def test_what_an_adapter_keeps_of_a_hint_is_forgotten(host):
    resets = []
    param = Params(torch.arange(4.0).view(4, 1, 1, 1), model=SimpleNamespace(reset=lambda: resets.append(1)))
    with in_window(param):
        assert resets == [1]
    assert resets == [1, 1]


def test_a_latent_made_for_other_rows_is_made_anew(host):
    param = Params(torch.zeros(1, 3, 8, 8))
    param.used_hint_cond_latent = torch.zeros(8, 4, 1, 1)
    with in_window(param, roles=1):
        assert param.used_hint_cond_latent is None
    param.used_hint_cond_latent = kept = torch.zeros(4, 4, 1, 1)
    with in_window(param):
        assert param.used_hint_cond_latent is kept


def test_marks_survive_the_padding(host):
    """ControlNet puts a token of ±1024 before each prompt, to distinguish positive from negative in the UNet."""
    from animatediff.hosts.shared.cfg_rows import equal_lengths

    def marked(tokens, mark):
        return torch.cat([torch.full((3, 1, 8), mark), torch.randn(3, tokens, 8)], 1)

    empty = torch.randn(1, 77, 8)
    cond, uncond = equal_lengths(marked(77, 1024.0), marked(154, -1024.0), lambda: empty)
    assert cond.shape == uncond.shape == (3, 155, 8)
    assert (cond[:, 0] == 1024).all() and (uncond[:, 0] == -1024).all()
    assert (cond[:, 1:].abs() < 100).all()
    assert torch.equal(cond[0, 78:], empty[0])


# -- the interface that ControlNet expects -----------------------------------------------------------------------------


def test_it_is_told_of_the_clip(host):
    from animatediff.hosts.neighbours.controlnet import get_animatediff_arg

    told = []
    probe = type("Probe", (host.scripts.Script,), {
        "title": lambda self: "Probe", "show": lambda self, is_img2img: host.scripts.AlwaysVisible,
        "process": lambda self, p, *args: told.append(get_animatediff_arg(p))})
    host.scripts.scripts_data.append((probe, "probe.py"))
    host.show()
    clip(host, settings={"video_length": FRAMES, "closed_loop": "R+P"})
    host.request("txt2img", {**REQUEST, "batch_size": FRAMES}, {"AnimateDiff": [{"enable": False}]})
    host.request("txt2img", {**REQUEST, "batch_size": FRAMES})
    assert told[1:] == [None, None]
    [told] = told[:1]
    assert (told.enable, told.video_length, told.batch_size, told.closed_loop, told.is_i2i_batch) == \
        (True, FRAMES, 3, "R+P", False)
    told.is_i2i_batch = True


def test_the_batch_tab_is_the_hosts(host, monkeypatch):
    from animatediff.hosts.neighbours.controlnet import animatediff_i2i_batch

    img2img = ModuleType("modules.img2img")
    img2img.process_batch = lambda *args, **kwargs: "hijacked"
    setattr(img2img, "__controlnet_original_process_batch", lambda *args, **kwargs: (args, kwargs))
    monkeypatch.setitem(sys.modules, "modules.img2img", img2img)
    monkeypatch.setattr(sys.modules["modules"], "img2img", img2img, raising=False)
    p = SimpleNamespace(scripts=None, script_args=())
    assert animatediff_i2i_batch(p, "in", "out", "", [], to_scale=True) == \
        ((p, "in", "out", "", []), {"to_scale": True})


def sparse_weights(widths=(32, 64), frames=32, seed=0):
    """Temporal layers of a SparseCtrl file: two sites per level, one attention each."""
    generator = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.randn(*shape, generator=generator) * 0.1

    state = {}
    for level, width in enumerate(widths):
        for site in range(2):
            block = "transformer_blocks.0"
            shapes = {"norm.weight": (width,), "norm.bias": (width,), "proj_in.weight": (width, width),
                      "proj_in.bias": (width,), "proj_out.weight": (width, width), "proj_out.bias": (width,),
                      f"{block}.attention_blocks.0.to_out.0.weight": (width, width),
                      f"{block}.attention_blocks.0.to_out.0.bias": (width,), f"{block}.norms.0.weight": (width,),
                      f"{block}.norms.0.bias": (width,), f"{block}.ff_norm.weight": (width,),
                      f"{block}.ff_norm.bias": (width,),
                      f"{block}.ff.net.0.proj.weight": (8 * width, width), f"{block}.ff.net.0.proj.bias": (8 * width,),
                      f"{block}.ff.net.2.weight": (width, 4 * width), f"{block}.ff.net.2.bias": (width,),
                      f"{block}.attention_blocks.0.pos_encoder.pe": (1, frames, width)}
            shapes |= {f"{block}.attention_blocks.0.to_{x}.weight": (width, width) for x in "qkv"}
            state |= {f"down_blocks.{level}.motion_modules.{site}.temporal_transformer.{name}": some(*shape)
                      for name, shape in shapes.items()}
    return state


@pytest.mark.parametrize("over_frames", [True, False])
def test_sparsectrls_temporal_layers_agree_with_diffusers(host, monkeypatch, over_frames):
    """diffusers computes the norm's statistics over all frames, the original code over each frame.

    Ours is set to diffusers' behaviour for this comparison, and is also compared on a single frame, where both agree.
    """
    module = pytest.importorskip("diffusers.models.unets.unet_motion_model")
    from animatediff.hosts.neighbours.sparsectrl import MotionModuleType, MotionWrapper, in_pass
    from animatediff.layout import ClipLayout
    from animatediff.motion import packed
    from animatediff.motion.naming import to_diffusers

    monkeypatch.setattr(packed, "is_faster", lambda: True)
    state = sparse_weights()
    wrapper = MotionWrapper("", "", MotionModuleType.SparseCtrl)
    wrapper.load_state_dict(state, strict=True)
    frames, roles = (5, 2) if over_frames else (1, 2)
    whole_pass = ExitStack()
    whole_pass.enter_context(in_pass([wrapper], SimpleNamespace(layout=ClipLayout.contiguous(frames, roles))))
    for level, width in enumerate((32, 64)):
        site = wrapper.down_blocks[level].motion_modules[1]
        site.temporal_transformer.over_frames = over_frames
        oracle = module.AnimateDiffTransformer3D(8, width // 8, width, norm_num_groups=32, activation_fn="geglu",
                                                 double_self_attention=False, positional_embeddings="sinusoidal",
                                                 num_positional_embeddings=32)
        prefix = f"down_blocks.{level}.motion_modules.1."
        names = {key.removeprefix(prefix): value for key, value in to_diffusers(
            {k: v for k, v in state.items() if k.startswith(prefix)} |
            {k.replace("attention_blocks.0.pos", "attention_blocks.1.pos"): v for k, v in state.items()
             if k.startswith(prefix) and k.endswith(".pe")}).items()}
        missing = oracle.load_state_dict(names, strict=False)
        assert not missing.unexpected_keys and all("pos_embed" in key for key in missing.missing_keys), missing
        x = torch.randn(frames * roles, width, 4, 4, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            wanted = oracle.eval()(x, num_frames=frames)
            wanted = wanted[0] if isinstance(wanted, tuple) else getattr(wanted, "sample", wanted)
            found = site(x)
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
        assert (found - x).abs().max() > 0.01
        assert site.temporal_transformer.packed
    whole_pass.close()
    assert not any(getattr(part, "packed", None) for part in wrapper.modules()), "goes with the pass"
    assert all(site.run is None for block in wrapper.down_blocks for site in block.motion_modules)


def test_without_a_clip_every_row_is_a_picture_of_its_own(host):
    from animatediff.hosts.neighbours.sparsectrl import MotionModuleType, MotionWrapper

    wrapper = MotionWrapper("", "", MotionModuleType.SparseCtrl)
    wrapper.load_state_dict(sparse_weights((32,)))
    site, x = wrapper.down_blocks[0].motion_modules[0], torch.randn(3, 32, 4, 4)
    with torch.no_grad():
        together = site(x)
        assert torch.allclose(together, torch.cat([site(x[i : i + 1]) for i in range(3)]), atol=1e-6)
    assert not site.temporal_transformer.packed


def test_weights_that_are_not_all_there_are_refused(host):
    from animatediff.hosts.neighbours.sparsectrl import MotionModuleType, MotionWrapper

    state = sparse_weights((32,))
    state.pop("down_blocks.0.motion_modules.1.temporal_transformer.proj_out.bias")
    with pytest.raises(RuntimeError, match="proj_out.bias"):
        MotionWrapper("", "", MotionModuleType.SparseCtrl).load_state_dict(state, strict=True)

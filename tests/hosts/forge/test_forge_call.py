"""Forge's calls of the UNet, computed window by window, in a stand-in that calls like the real host."""
from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import calls_traced
import forge_call
import pytest
import torch
from torch import nn

from animatediff.clip.call import NOTHING
from animatediff.clip.context import Context
from animatediff.errors import SettingsError
from animatediff.hosts.forge import calls
from animatediff.hosts.shared.unet_call import of_rows_call
from animatediff.sampling.memory import WhileSampling
from animatediff.settings import Settings
from animatediff.unet.reuse import Reuse

FRAMES, WINDOW = 9, 4


def plenty(device):
    return 1e9


class Run:
    """A sampling pass."""

    def __init__(self, **settings):
        self.settings = Settings(enable=True, frames=FRAMES, context_length=WINDOW, overlap=1, **settings)
        self.memory = WhileSampling(torch.device("cpu"), print, list, 1, nn.Identity(), None)
        self.reuse, self.layout, self.step, self.around_window = Reuse("exact"), NOTHING, 0, ()
        self.error, self.parts, self.empty = None, None, None

    def answer(self, rows, x, t, of_rows):
        whole = Context.of(self.settings, FRAMES).denoiser(of_rows_call(self, rows, of_rows, 2), 2)
        return rows.by_row(whole(rows.by_frame(x), t, step=0))


HOSTS = {"Forge": forge_call.KModel, "reForge": forge_call.BaseModel, "Neo": forge_call.KModel}


@pytest.fixture(params=["Forge", "reForge"])  # Neo calls as Forge does
def patcher(request):
    return forge_call.Patcher(HOSTS[request.param]())


def ask(patcher, run=None, parts=1, weights=None, negative=True, frames=FRAMES, **more):
    random = torch.Generator().manual_seed(parts)
    x = torch.randn(frames, 4, 8, 8, generator=random)
    cond = torch.randn(frames * parts, 77, 16, generator=random)
    uncond = torch.randn(frames, 77, 16, generator=random) if negative else None
    weights = weights or [[1.0] * parts] * frames
    if run:
        run.parts = weights
    try:
        return forge_call.denoised(patcher, x, torch.full((frames,), 3.0), cond, weights, uncond, 5.0, **more)
    finally:
        if run:
            run.parts = None


@pytest.mark.parametrize("host", sorted(folder.name for folder in calls_traced.TRACES.iterdir()))
@pytest.mark.parametrize("name", ["prompt_and_negative", "cfg_1", "and"])
def test_the_stand_in_calls_as_the_host_does(name, host):
    patcher = forge_call.Patcher(HOSTS[host]())
    fields = {**calls_traced.COMMON, **calls_traced.JOBS[name]}
    parts = 1 + fields["prompt"].count(" AND ")
    forge_call.prepared(patcher, torch.zeros(3, 4, 8, 8))
    ask(patcher, parts=parts, negative=fields["cfg_scale"] != 1, frames=3)
    trace = calls_traced.read(host, name)
    call = next(event for event in trace if "chunks" in event)
    assert [event["estimate"] for event in trace if "estimate" in event][: len(patcher.model.estimates)] \
        == patcher.model.estimates
    [made] = patcher.model.calls
    assert (made["rows"], made["chunks"]) == (call["rows"], call["chunks"])
    told = made["told"]
    assert ("cond_mark" in told, "uuids" in told) == ("marks" in call, "uuids" in call)
    assert told.get("cond_mark", torch.tensor([])).tolist() == call.get("marks", [])
    assert len(told.get("uuids", [])) == call.get("uuids", 0)
    for name in ("cond_indices", "uncond_indices"):
        assert told.get(name) == call["told"].get(name)


@pytest.mark.parametrize("asked", [{}, {"parts": 2}, {"parts": 3, "weights": [[1.0, 0.5, 2.0]] * FRAMES},
                                   {"negative": False}, {"control": torch.ones(FRAMES, 4, 8, 8)}],
                         ids=["prompt and negative", "AND", "AND of three", "prompt alone", "ControlNet"])
def test_windows_answer_what_the_whole_clip_would(patcher, asked):
    expected = ask(patcher, **asked)
    [whole] = patcher.model.calls
    patcher.model.calls.clear()
    run = Run()
    with calls.called(patcher, run, plenty):
        found = ask(patcher, run, **asked)
    assert torch.allclose(found, expected, atol=1e-5)
    roles = len(whole["chunks"])
    assert {call["rows"] for call in patcher.model.calls} == {WINDOW * roles}
    assert all(sorted(call["chunks"]) == sorted(whole["chunks"]) for call in patcher.model.calls)
    for call in patcher.model.calls if "cond_mark" in whole["told"] else []:
        told = call["told"]
        kinds = [kind for kind in call["chunks"] for _ in range(WINDOW)]
        assert told["cond_mark"].tolist() == kinds
        assert sorted(told["cond_indices"] + told["uncond_indices"]) == list(range(WINDOW * roles))


@pytest.mark.parametrize("negative", [True, False])
def test_ands_weights_are_each_frames_own(patcher, negative):
    """The host uses the last frame's weights for all frames. Each frame computed alone gives the expected result."""
    weights = [[1.0 - f / 10, f / 8] for f in range(FRAMES)]
    run, asked = Run(), {"parts": 2, "negative": negative}
    with calls.called(patcher, run, plenty, mean=isinstance(patcher.model, forge_call.BaseModel)):
        found = ask(patcher, run, weights=weights, **asked)
    each = [ask(patcher, weights=[own] * FRAMES, **asked)[f] for f, own in enumerate(weights)]
    assert torch.allclose(found, torch.stack(each), atol=1e-5)
    assert not torch.allclose(ask(patcher, weights=weights, **asked), torch.stack(each), atol=1e-2)


def test_memory_is_estimated_for_a_window(patcher):
    run = Run()
    with calls.called(patcher, run, plenty):
        assert forge_call.prepared(patcher, torch.zeros(FRAMES, 4, 8, 8)) == 2 * WINDOW
    patcher.model_options["memory_peak_estimation_modifier"] = lambda shape: 7 * shape[0]
    with calls.called(patcher, run, plenty):
        assert forge_call.prepared(patcher, torch.zeros(FRAMES, 4, 8, 8)) == 7 * 2 * WINDOW


@pytest.mark.parametrize(("free", "chunks"), [(2 * WINDOW + 1, {(0, 1)}), (2 * WINDOW, {(0,), (1,)})])
def test_little_memory_takes_the_windows_roles_apart(patcher, free, chunks):
    """The roles of each window are split, but not those of the whole clip, as Forge would do when memory is short."""
    expected = ask(patcher)
    patcher.model.calls.clear()
    run = Run()
    with calls.called(patcher, run, lambda device: free):
        found = ask(patcher, run, free=free)
    assert torch.allclose(found, expected, atol=1e-5)
    assert {tuple(call["chunks"]) for call in patcher.model.calls} == chunks


@pytest.mark.parametrize("asked", [{}, {"parts": 2}, {"free": 2 * WINDOW}], ids=["together", "AND", "apart"])
def test_self_attention_guidance_gets_the_maps_of_all_frames(patcher, asked):
    """The extension takes the last map that its function recorded."""
    maps = []

    def attn_and_record(q, k, v, told):
        kinds = told["cond_or_uncond"]
        if 1 in kinds:
            maps.append((q @ k.mT).softmax(-1).chunk(len(kinds))[kinds.index(1)])
        return v

    patches = {"attn1": {("middle", 0, 0): attn_and_record}}
    patcher.model_options["transformer_options"]["patches_replace"] = patches
    ask(patcher, parts=asked.get("parts", 1))
    expected, free = maps[-1], asked.pop("free", float("inf"))
    run = Run()
    with calls.called(patcher, run, lambda device: free):
        ask(patcher, run, **asked)
    assert expected.shape[0] == FRAMES and torch.equal(maps[-1], expected)
    assert patches == {"attn1": {("middle", 0, 0): attn_and_record}}


def test_nothing_is_reused_once_another_extension_calls_the_unet(patcher):
    run = Run()
    run.reuse = Reuse("draft")
    run.settings = replace(run.settings, speed="draft")
    with calls.called(patcher, run, plenty):
        ask(patcher, run)
        ask(patcher, run)
        assert not run.reuse.stopped and run.reuse.differences
        expected, weights = ask(patcher), [[1.0]] * FRAMES
        ask(patcher, run, weights=weights)
        found = ask(patcher, run, weights=weights)
    assert run.reuse.stopped and not run.reuse.differences and not run.reuse.kept.rows
    assert torch.allclose(found, expected, atol=1e-5)
    assert run.reuse.note.endswith("because another extension calls the UNet, too")


@pytest.mark.parametrize("error", [None, RuntimeError("on purpose"), KeyboardInterrupt()], ids=repr)
def test_everything_is_as_before_however_it_ends(patcher, error):
    options, kind = patcher.model_options, type(patcher.model)
    inside, required, own = dict(options), kind.memory_required, set(vars(kind))
    try:
        with calls.called(patcher, Run(), plenty):
            assert patcher.model_options is not options
            if error:
                raise error
    except BaseException as raised:
        assert raised is error
    assert patcher.model_options is options and options == inside
    assert kind.memory_required is required and set(vars(kind)) == own
    assert "memory_required" not in vars(patcher.model)


def test_a_wrapper_that_was_there_is_called_for_each_window(patcher):
    seen = []

    def theirs(apply_model, call):
        seen.append((len(call["input"]), call["cond_or_uncond"]))
        return apply_model(call["input"], call["timestep"], **call["c"])

    expected = ask(patcher)
    patcher.model_options["model_function_wrapper"] = theirs
    run = Run()
    with calls.called(patcher, run, plenty):
        found = ask(patcher, run)
    assert torch.allclose(found, expected, atol=1e-5)
    assert set(map(str, seen)) == {str((2 * WINDOW, [0, 1]))}
    assert patcher.model_options["model_function_wrapper"] is theirs


def test_calls_that_are_not_the_clips_are_the_hosts(patcher):
    with calls.called(patcher, Run(), plenty):
        ask(patcher, frames=3)
    assert [call["rows"] for call in patcher.model.calls] == [6]


def test_an_error_of_the_callback_comes_out_of_the_call(patcher):
    run = Run()
    run.error = ValueError("told")
    with calls.called(patcher, run, plenty), pytest.raises(ValueError, match="told"):
        ask(patcher, run)


def test_the_schedule_comes_back_bit_for_bit(bare_host, patcher):
    from animatediff.hosts.forge.objects import Forge
    from animatediff.motion.families import FAMILIES
    from animatediff.sampling import betas

    predictor = patcher.model.predictor
    predictor.register_buffer("log_sigmas", predictor.log_sigmas + 1e-3)  # differ from the logarithms of its σ
    model = SimpleNamespace(forge_objects=SimpleNamespace(unet=patcher), model_config=None)
    before, schedule = (predictor.sigmas, predictor.log_sigmas), FAMILIES["v2"].betas
    host = Forge()
    with host.scheduled(model, schedule, None):
        assert torch.allclose(host.alphas_cumprod(model), betas.alphas_cumprod(schedule), atol=1e-6)
        assert torch.equal(predictor.log_sigmas, predictor.sigmas.log())
    assert predictor.sigmas is before[0] and predictor.log_sigmas is before[1]
    assert not hasattr(model, "alphas_cumprod")


def test_another_extensions_schedule_is_refused(bare_host, patcher):
    from animatediff.hosts.forge.objects import Forge
    from animatediff.motion.families import FAMILIES

    patcher.object_patches = {"predictor": nn.Identity()}
    model = SimpleNamespace(forge_objects=SimpleNamespace(unet=patcher), model_config=None)
    with pytest.raises(SettingsError, match="noise schedule.*Switch"), \
            Forge().scheduled(model, FAMILIES["v2"].betas, None):
        pass


BACKENDS = {"Forge": ("packages", "objects", "Forge"), "reForge": ("packages_reforge", "reforge", "ReForge")}


@pytest.fixture(params=BACKENDS)
def backend(request, bare_host, monkeypatch):
    """A host's backend, its memory management, and a checkpoint with a patcher in `forge_objects`."""
    folder, module, name = BACKENDS[request.param]
    monkeypatch.syspath_prepend(str(Path(__file__).parent / folder))
    found = getattr(import_module(f"animatediff.hosts.forge.{module}"), name)()
    with monkeypatch.context() as patch:
        memory = import_module(found.memory)
        patcher = forge_call.Patcher(HOSTS[request.param]())
        encoded = []
        model = SimpleNamespace(
            forge_objects=SimpleNamespace(unet=patcher), cond_stage_model_empty_prompt=torch.zeros(1, 77, 16),
            get_learned_conditioning=lambda texts: encoded.append(texts) or torch.zeros(1, 77, 16))
        yield SimpleNamespace(backend=found, memory=memory, model=model, patch=patch, encoded=encoded)
    for name in [name for name in sys.modules if name.split(".")[0] in ("backend", "modules_forge", "ldm_patched")]:
        del sys.modules[name]


def test_padding_encodes_once_and_loads_the_unet_with_room_for_a_window(backend):
    """Forge encodes the empty prompt, for which it may replace the UNet. reForge keeps it with the checkpoint."""
    loads, run = [], Run()
    backend.patch.setattr(backend.memory, "load_models_gpu", lambda models, wanted=0: loads.append(wanted))
    with backend.backend.called(backend.model, run):
        for _ in range(3):
            run.parts = None
            params = SimpleNamespace(x=torch.zeros(FRAMES, 4, 8, 8), text_cond=torch.ones(FRAMES, 154, 16),
                                     text_uncond=torch.ones(FRAMES, 77, 16))
            backend.backend.equal_lengths(backend.model, params, run)
            assert params.text_uncond.shape == params.text_cond.shape
    of_forge = type(backend.backend).__name__ == "Forge"
    assert (backend.encoded, loads) == (([[""]], [2 * WINDOW]) if of_forge else ([], []))


def test_a_window_is_split_as_the_host_would_split_it(backend):
    """reForge wants 1.5 times its estimate."""
    for free, together in [(2 * WINDOW + 1, not backend.backend.margin > 1), (3 * WINDOW + 1, True)]:
        backend.patch.setattr(backend.memory, "get_free_memory", lambda device, free=free: free)
        run, patcher = Run(), backend.model.forge_objects.unet
        patcher.model.calls.clear()
        with backend.backend.called(backend.model, run):
            ask(patcher, run)
        assert {len(call["chunks"]) for call in patcher.model.calls} == {2 if together else 1}


def test_a_compiled_unet_is_uncompiled_in_the_pass(backend):
    """What torch.compile returns ignores hooks that are added later."""
    network, unet = backend.model.forge_objects.unet.model, nn.Identity()
    network.diffusion_model = compiled = torch.compile(unet, backend="eager")
    assert backend.backend.unet(backend.model) is unet
    with backend.backend.called(backend.model, Run()):
        assert network.diffusion_model is unet
    assert network.diffusion_model is compiled


def test_nothing_is_moved_where_the_device_is_the_cpu(backend):
    """There the host loads all networks, however little memory is free."""
    freed = []
    backend.patch.setattr(backend.memory, "free_memory", lambda bytes, device: freed.append(bytes))
    backend.backend.make_room(1000)
    assert freed == []
    backend.patch.setattr(backend.memory, "get_torch_device", lambda: torch.device("cpu:0"))
    backend.backend.make_room(1000)
    assert freed == [1000]


def test_an_adapters_layers_are_found_though_forges_linear_is_of_its_own_class(bare_host):
    from animatediff.motion.lora import unet_layers

    class Linear(nn.Module):
        """As in backend/operations.py."""

        def __init__(self, layer):
            super().__init__()
            self.in_features, self.out_features = layer.in_features, layer.out_features
            self.weight, self.bias = layer.weight, layer.bias

    unet = bare_host.shared.sd_model.model.diffusion_model
    known = set(unet_layers(unet))
    for module in list(unet.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Linear(child))
    assert set(unet_layers(unet)) == known and len(known) > 20

"""Step reuse, against the outermost blocks called by hand on features that a hook recorded in a plain call."""
from __future__ import annotations

import pytest
import torch
from test_motion_inject import FOR, state_of

from animatediff.layout import ClipLayout
from animatediff.motion import injected
from animatediff.unet.reuse import Kept, Reuse

STEPS = 20  # the preset draft runs the whole UNet in steps 0, 1, 3, 5, 8, 11, 15 and 19
FRAMES = (0, 1, 2, 3)


def features(host, x, text, t):
    """Return the deep features that enter the outermost block on the way up, without those of the skip connection."""
    unet = host.unet
    last = unet.output_blocks[-1] if host.layout == "ldm" else unet.up_blocks[-1].resnets[-1]
    seen = []
    handle = last.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    try:
        host(x, text, t)
    finally:
        handle.remove()
    skipped = (unet.input_blocks[0](x, None, None) if host.layout == "ldm" else unet.conv_in(x)).shape[1]
    return seen[0][:, :-skipped]


@torch.no_grad()
def outermost(host, deep, x, text, t, site=lambda x: x):
    """Run the UNet's first convolution and last block on the features `deep`. site: the motion module's last site."""
    unet, time = host.unet, torch.full((len(x),), t)
    if host.layout == "ldm":
        from ldm.modules.diffusionmodules.util import timestep_embedding

        emb = unet.time_embed(timestep_embedding(time, unet.model_channels))
        h = torch.cat([deep, unet.input_blocks[0](x, emb, text)], 1)
        return unet.out(site(unet.output_blocks[-1](h, emb, text)))
    block, emb = unet.up_blocks[-1], unet.time_embedding(unet.time_proj(time))
    h = block.resnets[-1](torch.cat([deep, unet.conv_in(x)], 1), emb)
    if getattr(block, "attentions", None):
        h = block.attentions[-1](h, encoder_hidden_states=text, return_dict=False)[0]
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(site(h))))


class Caller:
    """A host's denoiser. Called with x [f c h w] and a text for each role."""

    def __init__(self, host, reuse, roles=2):
        self.host, self.reuse, self.roles, self.rows = host, reuse, roles, []
        self.layout = ClipLayout((), ())

    def __call__(self, x, text, step, t, frames=FRAMES, separate=False):
        def call(roles):
            parts = []
            for subset in [[role] for role in roles] if separate else [roles]:
                self.layout = ClipLayout.contiguous(frames, len(subset))
                self.reuse.shows(frames, subset)
                self.rows.append(len(subset) * len(frames))
                out = self.host(torch.cat([x] * len(subset)), torch.cat([text[role] for role in subset]), t)
                parts.append(out.unflatten(0, (len(subset), -1)))
            return torch.cat(parts)

        return self.reuse.answers(frames, self.roles, step, STEPS, torch.tensor(float(t)), call)


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("with_motion", [False, True])
@pytest.mark.parametrize("separate", [False, True])
def test_a_reusing_step_runs_the_outermost_blocks_on_stored_features(host, inputs, make_module, with_motion, separate):
    x, text = inputs(4)
    text = [text, text.flip(0)]
    later = x + 0.3 * randn(5, *x.shape)
    module, reuse = make_module(FOR[host.base][1] if host.base == "SD1.5" else "AnimateDiff-SDXL"), Reuse("draft")
    caller = Caller(host, reuse)
    site = list(module.up_blocks)[-1].motion_modules[-1] if with_motion else None
    before = state_of(host.unet)

    def in_scope(work, layout_of):
        if not with_motion:
            return work()
        with injected(host.unet, module, layout_of):
            return work()

    both = torch.cat([x, x]), torch.cat(text)
    exact = in_scope(lambda: host(*both, t=700), lambda rows: ClipLayout.contiguous(FRAMES, rows // 4))
    deep = in_scope(lambda: features(host, *both, t=700), lambda rows: ClipLayout.contiguous(FRAMES, rows // 4))
    sites = []
    for part in (module.down_blocks[0], module.up_blocks[0]):
        part.motion_modules[0].register_forward_hook(lambda *a: sites.append(1))

    def run():
        with reuse.installed(host.unet):
            first = caller(x, text, 1, 700, separate=separate)
            ran, counts = len(sites), []
            inner = host.unet.middle_block[0].in_layers if host.layout == "ldm" else host.unet.mid_block.resnets[0]
            handle = inner.register_forward_hook(lambda *a: counts.append(1))
            second = caller(later, text, 2, 650, separate=separate)
            handle.remove()
            assert counts == [] and len(sites) == ran, "the inner blocks and their motion are skipped"
            return first, second, caller(later, text, 3, 600, separate=separate)

    first, second, third = in_scope(run, reuse.layout_of(lambda rows: caller.layout))
    assert caller.rows == ([4, 4, 4, 4, 4] if separate else [8, 4, 8]), "the second step runs the prompt alone"
    torch.testing.assert_close(first.flatten(0, 1), exact, rtol=1e-5, atol=1e-5)
    expected = outermost(host, deep[:4], later, text[0], 650, (lambda h: site(h, 4)) if with_motion else lambda h: h)
    torch.testing.assert_close(second[0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(second[1] - second[0], first[1] - first[0], rtol=1e-4, atol=1e-4)
    whole = in_scope(lambda: host(torch.cat([later, later]), both[1], t=600),
                     lambda rows: ClipLayout.contiguous(FRAMES, rows // 4))
    torch.testing.assert_close(third.flatten(0, 1), whole, rtol=1e-5, atol=1e-5)
    assert (second[0] - host(later, text[0], 650)).abs().max() > 1e-3, "otherwise the test could not fail"
    assert state_of(host.unet) == before and not reuse.kept.rows
    assert reuse.note == "speed draft: the UNet ran as a whole for 2 of 3 windows"


def test_moved_windows_use_the_features_of_their_frames(make_host):
    """Without a motion module frames are independent, so a window's result is that of its frames."""
    host, reuse = make_host("diffusers", "SD1.5"), Reuse("draft")
    x, later, text = randn(1, 6, 4, 8, 8), randn(2, 6, 4, 8, 8), randn(3, 6, 5, 24)
    caller = Caller(host, reuse, roles=1)
    with reuse.installed(host.unet):
        for window in ((0, 1, 2, 3), (2, 3, 4, 5)):
            caller(x[list(window)], [text[list(window)]], 1, 700, window)
        for window in ((4, 5, 0, 1), (1, 2, 3, 4)):
            index = list(window)
            found = caller(later[index], [text[index]], 2, 650, window)[0]
            expected = outermost(host, features(host, x, text, 700)[index], later[index], text[index], 650)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_features_that_are_not_stored_are_computed(make_host):
    host, reuse = make_host("diffusers", "SD1.5"), Reuse("draft")
    x, text = randn(1, 4, 4, 8, 8), [randn(3, 4, 5, 24)]
    caller = Caller(host, reuse, roles=1)
    with reuse.installed(host.unet):
        caller(x, text, 3, 500)
        for step, t, frames in ((4, 450, (0, 1, 2, 9)), (4, 800, FRAMES), (0, 999, FRAMES), (5, 300, FRAMES)):
            assert torch.equal(caller(x, text, step, t, frames)[0], host(x, text[0], t)), "new frame or more noise"
        assert not torch.equal(caller(x, text, 6, 250)[0], host(x, text[0], 250))
        assert torch.equal(host(x, text[0], 250), host(x, text[0], 250)), "calls of other code are plain"
        reuse.kept.device_bytes = reuse.kept.host_bytes = 0
        caller(x, text, 8, 200)
        assert torch.equal(caller(x, text, 9, 150)[0], host(x, text[0], 150)), "nothing was stored"


def test_a_new_negative_prompt_is_computed(make_host):
    """Hosts skip the negative prompt in some steps; when it returns it is computed."""
    host, reuse = make_host("diffusers", "SD1.5"), Reuse("draft")
    x, text = randn(1, 4, 4, 8, 8), [randn(3, 4, 5, 24), randn(4, 4, 5, 24)]
    with reuse.installed(host.unet):
        Caller(host, reuse, roles=1)(x, text, 3, 500)
        assert torch.equal(Caller(host, reuse)(x, text, 4, 450)[1], host(torch.cat([x, x]), torch.cat(text), 450)[4:])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left(host, inputs, error):
    x, text = inputs(4)
    blocks = host.unet.input_blocks if host.layout == "ldm" else host.unet.down_blocks[0].resnets
    # a forward set by another extension
    theirs = blocks[1].forward = lambda *args, plain=blocks[1].forward, **more: plain(*args, **more)
    before, plain = state_of(host.unet), host(x, text)
    reuse = Reuse("balanced")
    caller = Caller(host, reuse, roles=1)
    with pytest.raises(error), reuse.installed(host.unet):
        assert state_of(host.unet) != before
        caller(x, [text], 4, 500)
        caller.host = lambda *args: (_ for _ in ()).throw(error())
        caller(x, [text], 5, 400)
    assert state_of(host.unet) == before and blocks[1].forward is theirs and not reuse.kept.rows
    assert not (reuse.reusing or reuse.resting) and torch.equal(host(x, text), plain)
    with Reuse("exact").installed(host.unet):
        assert state_of(host.unet) == before, "the preset exact installs nothing"


def test_memory_is_bounded():
    kept, features = Kept(device_bytes=2 * 48, host_bytes=2 * 48), torch.arange(60.0).view(5, 3, 4)
    rows = [(0, frame) for frame in range(5)]
    kept.put(rows, features)
    assert kept.has(rows[:4]) and not kept.has(rows) and torch.equal(kept.get(rows[:4], features.device), features[:4])
    kept.put(rows[:4], features + 1)
    assert torch.equal(kept.get([rows[3], rows[0]], features.device), features[[3, 0]] + 1), "the newest features"
    for kept, place in ((Kept(48, 0), "meta"), (Kept(0, 0), None)):
        kept.put(rows[:1], torch.empty(1, 3, 4, device="meta"))
        assert [feature.device.type for feature in kept.rows.values()] == ([place] if place else [])


def test_placeholder_zeros_do_not_reach_the_output(make_host):
    """Other extensions' hooks on skipped blocks see outputs with the usual shape and dtype."""
    host, reuse = make_host("ldm", "SD1.5"), Reuse("draft")
    x, text, seen = randn(1, 4, 4, 8, 8), [randn(3, 4, 5, 24)], []
    handles = [block.register_forward_hook(lambda m, a, out: seen.append((out.shape, out.dtype)) or out + 1)
               for block in [*host.unet.input_blocks[1:], host.unet.middle_block, *host.unet.output_blocks[:-2]]]
    caller = Caller(host, reuse, roles=1)
    with reuse.installed(host.unet):
        caller(x, text, 3, 500)
        shapes = seen[:]
        found = caller(x, text, 4, 450)
        assert seen[len(shapes):] == shapes
        for handle in handles:
            handle.remove()
        assert torch.equal(caller(x, text, 4, 450), found)

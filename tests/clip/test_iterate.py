"""The loop over a clip's sampler runs, with a sampler that counts: which runs, what each starts from, and interrupts.

tests/test_latents_parity.py and the tests of FreeInit and loops run it on real samplers of both hosts.
"""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from animatediff.clip.iterate import Iterations, Start
from animatediff.clip.plan import Passes
from animatediff.clip.resume import Keeper
from animatediff.clip.sampled import Sampled
from animatediff.sampling import Event
from animatediff.sampling.from_pictures import Held
from animatediff.settings import parse

FRAMES = 6
SHAPE = FRAMES, 4, 8, 8


def passes(settings, second=None):
    sampled = Sampled("Euler", "", settings.steps, 7.0, None, False, second)
    return Passes.of(settings, FRAMES, sampled, lambda each: SimpleNamespace(steps=each.done, call_steps=None))


def settings(**more):
    return parse({"enable": True, "frames": FRAMES, "context_length": 4, "steps": 6, **more})


class Sampler:
    """Returns latents that differ in every frame and run. interrupted_in: number of the run, counted from 1."""

    def __init__(self, interrupted_in=0):
        self.interrupted_in, self.interrupted = interrupted_in, False
        self.runs, self.made, self.drawn = [], [], []
        self.random = torch.Generator().manual_seed(0)

    def noise(self, part):
        self.drawn.append(torch.randn(SHAPE, generator=self.random))
        return self.drawn[-1]

    def start_level(self, part):
        return 0.25

    def sample_once(self, part, start, on_event):
        self.runs.append((part, start))
        on_event(Event("window", 1, 1))
        self.interrupted = len(self.runs) == self.interrupted_in
        self.made.append(torch.randn(SHAPE, generator=self.random))
        return self.made[-1].clone()


def sampled(asked, sampler, *, clean=None, held=None, of=None):
    """Return the latents and the events. of: the runs, by default those of all passes."""
    first, events = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)), []
    latents = Iterations(asked, of or passes(asked), sampler, events.append).latents(Start(first, clean, held))
    return latents, first, events


def mixed(low, high):
    """Diffusers' mixture of frequencies, with its default filter's values."""
    from diffusers.pipelines.free_init_utils import FreeInitMixin

    mixin = FreeInitMixin()
    low, high = (x.transpose(0, 1)[None] for x in (low, high))
    keep = mixin._get_free_init_freq_filter(low.shape, "cpu", "butterworth", 4, 0.25, 0.25)
    return mixin._apply_freq_filter(low, high, keep)[0].transpose(0, 1)


@pytest.mark.parametrize("picture", [False, True])
def test_each_iteration_starts_from_the_low_frequencies_of_the_one_before(picture):
    pytest.importorskip("diffusers")
    sampler = Sampler()
    clean = torch.randn(SHAPE) if picture else None
    latents, first, _ = sampled(settings(freeinit_iterations=3), sampler, clean=clean)
    assert [part.name for part, _ in sampler.runs] == ["sampling", "FreeInit iteration 2", "FreeInit iteration 3"]
    assert torch.equal(latents, sampler.made[-1]) and len(sampler.drawn) == 2
    starts = [start for _, start in sampler.runs]
    assert torch.equal(starts[0].noise, first) and all(start.clean is clean for start in starts)
    for made, new, start in zip(sampler.made, sampler.drawn, starts[1:]):
        seen = first + (made - clean) / 0.25 if picture else 0.25**0.5 * made + 0.75**0.5 * first
        torch.testing.assert_close(start.noise, mixed(seen, new), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("run", [1, 2, 3, 4])
def test_an_interrupt_ends_the_loop_with_the_last_complete_run(run):
    """The second and third run are FreeInit's, the fourth is the seam repair."""
    sampler = Sampler(run)
    latents, _, _ = sampled(settings(freeinit_iterations=3, seam_repair=0.5), sampler)
    assert len(sampler.runs) == run
    assert torch.equal(latents, sampler.made[max(run - 2, 0)])


def test_the_repair_changes_only_frames_of_the_seams_window_that_are_not_held():
    """The window is 4 5 0 1. Its ends are never denoised, and frame 5 is held to a picture."""
    pictures, until = torch.randn(SHAPE), torch.zeros(FRAMES)
    until[5] = 1
    sampler = Sampler()
    latents, _, _ = sampled(settings(seam_repair=1), sampler, held=Held(pictures, until))
    (_, first), (part, start) = sampler.runs
    finished, repaired = sampler.made
    expected = finished.clone()
    expected[5] = pictures[5]
    assert part.seam.window == (4, 5, 0, 1) and torch.equal(start.clean, expected)
    assert torch.equal(start.noise, sampler.drawn[0]) and first.stage is not None and start.stage is None
    expected[0] = repaired[0]
    assert torch.equal(latents, expected)


def test_held_frames_are_their_pictures_in_an_interrupted_clip():
    pictures = torch.randn(SHAPE)
    latents, *_ = sampled(settings(), Sampler(1), held=Held(pictures, torch.tensor([1.0, 0, 0, 0.5, 0, 1])))
    assert [frame for frame in range(FRAMES) if torch.equal(latents[frame], pictures[frame])] == [0, 5]


def test_events_name_the_run():
    sampler = Sampler()
    _, _, events = sampled(settings(freeinit_iterations=2, seam_repair=0.5), sampler)
    assert [(event.kind, event.iteration, event.iterations) for event in events] == [
        ("window", 1, 2), ("iteration", 2, 2), ("window", 2, 2), ("iteration", 3, 2), ("window", 3, 2)]
    assert [event.run_name for event in events if event.kind == "window"] == [
        "iteration 1 of 2", "iteration 2 of 2", "seam repair"]
    assert Event("window", 1, 1).run_name == ""


def test_the_second_pass_is_sampled_once_and_its_seam_is_repaired():
    asked = settings(freeinit_iterations=2, seam_repair=0.5)
    whole = passes(asked, Sampled("Euler", "", 4, 7.0, 0.5))
    names = [[part.name for part in whole.of_pass(second=second).all] for second in (False, True)]
    assert names == [["sampling", "FreeInit iteration 2"], ["second pass", "seam repair"]]
    alone = passes(asked)
    assert alone.of_pass(second=False).all == alone.all == alone.of_pass(second=True).all


def test_a_resumed_iteration_draws_no_noise_for_its_start():
    """The saved generators have drawn it already."""
    saved = torch.randn(SHAPE)
    found = {"stage": "FreeInit iteration 2", "step": 3, "generators": [], "solvers": [], "latents": saved}
    asked, sampler = settings(freeinit_iterations=3), Sampler()
    Iterations(asked, passes(asked), sampler, lambda event: None).latents(Start(torch.randn(SHAPE)),
                                                                         Keeper(found=found))
    assert [(part.name, start.stage.step) for part, start in sampler.runs] == [
        ("FreeInit iteration 2", 3), ("FreeInit iteration 3", 0)]
    assert sampler.runs[0][1].stage.latents is saved and len(sampler.drawn) == 1

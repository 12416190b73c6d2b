"""Samplers, compared with closed forms. Data of N(μ, s²) has an exact denoiser, an exact ODE map and exact moments."""
from itertools import pairwise

import numpy as np
import pytest
import torch

from animatediff import sampler_table, settings
from animatediff.engine import samplers
from animatediff.errors import SettingsError
from animatediff.motion import FAMILIES
from animatediff.sampling import from_pictures, noise

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from diffusers' schedulers with numpy 2

MU, S = 0.6, 0.5
V2, SDXL = FAMILIES["v2"].betas, FAMILIES["AnimateDiff-SDXL"].betas
ODE = [name for name, s in sampler_table.SAMPLERS.items() if not s.stochastic]
SDE = ["Euler a", "DPM++ SDE", "DPM++ 2M SDE"]
SCHEDULES = ["Uniform", "Karras", "Exponential", "SGM Uniform"]
TWO_CALLS = ("Heun", "DPM++ SDE")


class Gaussian:
    """The exact denoiser (ε prediction) of N(μ, s²) in float64, with a table of ᾱ computed here."""

    def __init__(self, schedule):
        a, b = schedule.start, schedule.end
        t = np.arange(1000) / 999
        beta = a + (b - a) * t if schedule.kind == "linear" else (a**0.5 + (b**0.5 - a**0.5) * t) ** 2
        alpha = np.cumprod(1 - beta)
        self.log_sigma = np.log(np.sqrt((1 - alpha) / alpha))

    def level(self, t):
        """Return α and σ with α² + σ² = 1 at the continuous timestep t."""
        sigma = np.exp(np.interp(float(t), np.arange(1000), self.log_sigma))
        return 1 / np.sqrt(1 + sigma**2), sigma / np.sqrt(1 + sigma**2)

    def __call__(self, x, t, step):
        alpha, sigma = self.level(t)
        x = x.double()
        x0 = MU + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (x - alpha * MU)
        return (x - alpha * x0) / sigma

    def ode(self, noise_):
        """Return the result of the probability flow ODE, which maps quantiles to quantiles."""
        alpha, sigma = self.level(999)
        x = noise_.double() * sigma
        return MU + S * (x - alpha * MU) / np.sqrt(alpha**2 * S**2 + sigma**2)


def unit(frames=4, size=8, seed=0):
    sources = noise.generators("per frame", seed, frames, 16)
    return noise.draw(sources, (frames, 4, size, size)), sources


def error(name, steps, schedule=V2, schedule_type="Automatic"):
    model = Gaussian(schedule)
    x, sources = unit()
    out = samplers.Run(name, schedule, steps, schedule_type=schedule_type)(model, x, sources)
    assert out.dtype == torch.float32 and out.shape == x.shape
    return (out.double() - model.ode(x)).abs().max().item() / S


def levels(schedule_type, steps, schedule=V2):
    """Return σ of each step and a final 0, in float64, with the formulas of k-diffusion and the WebUI."""
    log_sigma = Gaussian(schedule).log_sigma
    low, high = np.exp(log_sigma[0]), np.exp(log_sigma[-1])
    if schedule_type == "Karras":
        ramp = np.linspace(0, 1, steps)
        sigma = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    elif schedule_type == "Exponential":
        sigma = np.exp(np.linspace(log_sigma[-1], log_sigma[0], steps))
    else:
        t = {"Uniform": np.linspace(999, 0, steps), "SGM Uniform": np.linspace(999, 0, steps + 1)[:-1],
             "trailing": 999 - 1000 / steps * np.arange(steps)}[schedule_type]
        sigma = np.exp(np.interp(t, np.arange(1000), log_sigma))
    return np.append(sigma, 0.0)


def x0(x, sigma):
    return MU + S**2 / (S**2 + sigma**2) * (x - MU)


def textbook(name, noise_, sigma):
    """Sample with the formulas of the papers (or k-diffusion), in float64 on x₀ + σε."""
    x, old = noise_.double() * sigma[0], None
    for i, (here, there) in enumerate(pairwise(sigma)):
        d = x0(x, here)
        slope = (x - d) / here
        if there == 0 or name in ("Euler", "DDIM"):
            x = x + slope * (there - here)
        elif name == "Heun":
            guess = x + slope * (there - here)
            x = x + (slope + (guess - x0(guess, there)) / there) / 2 * (there - here)
        else:  # DPM-Solver++(2M), arXiv:2211.01095, algorithm 2
            h = np.log(here / there)
            r = np.log(sigma[i - 1] / here) / h if i else None
            mixed = d if old is None else (1 + 1 / (2 * r)) * d - old / (2 * r)
            x = there / here * x - np.expm1(-h) * mixed
        old = d
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 20, 30])
@pytest.mark.parametrize("name, schedule_type", [
    ("DDIM", "trailing"), *((name, kind) for name in ("Euler", "Heun", "DPM++ 2M") for kind in SCHEDULES),
])  # fmt: skip
def test_parity_with_the_papers(name, schedule_type, steps):
    x, sources = unit()
    asked = "Automatic" if schedule_type == "trailing" else schedule_type
    out = samplers.Run(name, V2, steps, schedule_type=asked)(Gaussian(V2), x, sources)
    torch.testing.assert_close(out.double(), textbook(name, x, levels(schedule_type, steps)), atol=2e-4, rtol=0)


def draws(seed, shape):
    """Return a source of unit noise that continues after the noise of a run's start."""
    sources = noise.generators("per frame", seed, shape[0], 16)
    noise.draw(sources, shape)
    return lambda: noise.draw(sources, shape).double()


def ancestral(here, there):
    """Return the level of k-diffusion's ancestral step, and the noise that it adds, for η = 1."""
    up = min(there, np.sqrt(there**2 * (here**2 - there**2) / here**2))
    return np.sqrt(there**2 - up**2), up


@pytest.mark.parametrize("steps", [1, 2, 3, 12])
@pytest.mark.parametrize("schedule_type", SCHEDULES)
def test_dpmpp_sde_parity_with_k_diffusion(schedule_type, steps):
    """Compared with k-diffusion's sample_dpmpp_sde with r = 1/2, with a Brownian path W(σ) that is drawn here."""
    x_, sources = unit()
    sigma, fresh = levels(schedule_type, steps), draws(0, tuple(x_.shape))
    x = x_.double() * sigma[0]
    for here, there in pairwise(sigma):
        denoised = x0(x, here)
        if there == 0:
            x = denoised
            break
        t, t_next = -np.log(here), -np.log(there)
        middle = np.exp(-(t + (t_next - t) / 2))
        to_middle = fresh() * np.sqrt(here - middle)  # increments of W
        to_end = to_middle + fresh() * np.sqrt(middle - there)
        down, up = ancestral(here, middle)
        x_2 = down / here * x - np.expm1(t + np.log(down)) * denoised + to_middle / np.sqrt(here - middle) * up
        down, up = ancestral(here, there)
        x = down / here * x - np.expm1(t + np.log(down)) * x0(x_2, middle) + to_end / np.sqrt(here - there) * up
    out = samplers.Run("DPM++ SDE", V2, steps, schedule_type=schedule_type)(Gaussian(V2), x_, sources)
    torch.testing.assert_close(out.double(), x, atol=3e-4, rtol=0)


@pytest.mark.parametrize("name, schedule_type", [("Euler", "Uniform"), ("Euler a", "Uniform"), ("Heun", "Uniform"),
                                                 ("DPM++ 2M", "Karras"), ("DPM++ SDE", "Karras"),
                                                 ("DPM++ 2M SDE", "Exponential")])
def test_automatic_is_the_webuis_choice(name, schedule_type):
    """The values are the option "scheduler" of each sampler in modules/sd_samplers_kdiffusion.py of WebUI 1.10."""
    for steps in (1, 2, 20):
        np.testing.assert_allclose(samplers.Run(name, V2, steps).levels, levels(schedule_type, steps), rtol=1e-6)


@pytest.mark.parametrize("name", ["DDIM", "UniPC", "LCM"])
def test_samplers_with_their_own_grid_ignore_schedule_types(name):
    for kind in SCHEDULES:
        assert samplers.Run(name, V2, 7, schedule_type=kind).levels == samplers.Run(name, V2, 7).levels
    with pytest.raises(SettingsError, match="'Beta' is unknown.*Karras"):
        samplers.Run(name, V2, 7, schedule_type="Beta")


@pytest.mark.parametrize("schedule", [V2, SDXL], ids=["linear", "scaled linear"])
@pytest.mark.parametrize("name", ODE)
def test_ode_samplers_reach_the_exact_map(name, schedule):
    """The largest error over 1,024 values is in units of s. The last step from σ(0) alone adds 0.006."""
    bound = 0.045 if name in ("Euler", "DDIM") else 0.015
    assert error(name, 400, schedule) < bound
    assert error(name, 400, schedule) < error(name, 100, schedule) / 2 or error(name, 100, schedule) < 0.007


@pytest.mark.parametrize("name, schedule_type, expected", [
    ("Euler", "Uniform", 0.47), ("DDIM", "Automatic", 0.51), ("DPM++ 2M", "Uniform", 0.54), ("Heun", "Uniform", 0.05),
    ("UniPC", "Automatic", 0.32), ("DPM++ 2M", "Karras", 0.06),
])  # fmt: skip
def test_error_of_twenty_steps(name, schedule_type, expected):
    assert error(name, 20, schedule_type=schedule_type) == pytest.approx(expected, abs=0.015)


def spread(name, sigma):
    """Return the standard deviation of a stochastic method's result. x and the last x₀ are linear in the noise."""
    cov, old_step = np.array([[sigma[0] ** 2, 0.0], [0.0, 0.0]]), None  # of (x, previous x₀)
    for here, there in pairwise(sigma):
        gain, added = S**2 / (S**2 + here**2), 0.0
        if there == 0:
            row = [gain, 0.0]
        elif name == "Euler a":
            down, up = ancestral(here, there)
            row, added = [gain + (1 - gain) * down / here, 0.0], up**2
        elif name == "DPM++ SDE":
            middle = np.sqrt(here * there)
            (down, up), (down_2, up_2) = ancestral(here, middle), ancestral(here, there)
            seen = (1 - down_2 / here) * S**2 / (S**2 + middle**2)  # weight of the middle's x in the step's result
            row = [down_2 / here + seen * (gain + (1 - gain) * down / here), 0.0]
            alike = np.sqrt((here - middle) / (here - there))  # correlation of the step's two noises
            added = (seen * up) ** 2 + up_2**2 + 2 * alike * seen * up * up_2
        else:  # SDE-DPM-Solver++(2M), midpoint, η = 1
            h = np.log(here / there)
            k = -np.expm1(-2 * h)
            more = 0.0 if old_step is None else k / 2 * h / old_step
            row, added, old_step = [there / here * np.exp(-h) + (k + more) * gain, -more], there**2 * k, h
        step = np.array([row, [gain, 0.0]])
        cov = step @ cov @ step.T
        cov[0, 0] += added
    return np.sqrt(cov[0, 0])


@pytest.mark.parametrize("steps", [5, 20, 60])
@pytest.mark.parametrize("schedule_type", SCHEDULES)
@pytest.mark.parametrize("name", SDE)
def test_sde_samplers_have_the_moments_of_their_formula(name, schedule_type, steps):
    x, sources = unit(frames=4, size=64)
    out = samplers.Run(name, V2, steps, schedule_type=schedule_type)(Gaussian(V2), x, sources).double()
    expected = spread(name, levels(schedule_type, steps))
    assert out.std().item() == pytest.approx(expected, rel=0.015)  # 5 standard errors of 65,536 values
    assert abs(out.mean().item() - MU) < 0.02
    assert (out - Gaussian(V2).ode(x)).std() > 0.5 * S  # stochastic samplers do not follow the ODE


@pytest.mark.parametrize("name", SDE)
def test_sde_samplers_converge_to_the_data(name):
    x, sources = unit(frames=4, size=32)
    out = samplers.Run(name, V2, 900)(Gaussian(V2), x, sources)
    assert out.std().item() == pytest.approx(S, rel=0.03) and out.mean().item() == pytest.approx(MU, abs=0.02)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_lcm_with_the_exact_consistency_function(steps):
    """The consistency function of a Gaussian maps each level to N(μ, s²), with any number of steps."""
    gaussian = Gaussian(V2)

    def network(x, t, step):
        alpha, sigma = gaussian.level(t)
        x = x.double()
        x0 = MU + S / np.sqrt(alpha**2 * S**2 + sigma**2) * (x - alpha * MU)
        return (x - alpha * x0) / sigma

    x, sources = unit(frames=4, size=64)
    out = samplers.Run("LCM", V2, steps)(network, x, sources).double()
    assert out.mean() == pytest.approx(MU, abs=0.02) and out.std() == pytest.approx(S, rel=0.02)


@pytest.mark.parametrize("family", ["v2", "HotShot-XL", "AnimateDiff-SDXL"])
@pytest.mark.parametrize("name", sampler_table.SAMPLERS)
def test_sampling_starts_at_sigma_max_of_the_family(name, family):
    schedule = FAMILIES[family].betas
    sigma_max = np.exp(Gaussian(schedule).log_sigma[-1])
    for steps in (1, 2, 7, 20):
        run = samplers.Run(name, schedule, steps)
        assert run.sigma_max == pytest.approx(sigma_max, rel=1e-5)
        assert float(run.times[0]) == pytest.approx(999)
        assert all(a >= b for a, b in zip(run.times, run.times[1:]))
        x = run.start(torch.ones(1, 4, 1, 1))
        scaled = run.solver.scale_model_input(x, run.times[0])  # the network's input, of unit variance
        assert scaled.flatten()[0].item() == pytest.approx(sigma_max / (1 + sigma_max**2) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("name", sampler_table.SAMPLERS)
def test_steps_calls_and_reports(name):
    for steps in (1, 2, 5):
        calls, reports = [], []
        run = samplers.Run(name, V2, steps)
        model = Gaussian(V2)

        def denoise(x, t, step):
            calls.append(step)
            return model(x, t, step)

        x, sources = unit(2)
        out = run(denoise, x, sources, lambda step, estimate: reports.append((step, estimate)))
        assert calls == run.call_steps and len(calls) == (2 * steps - 1 if name in TWO_CALLS else steps)
        assert sorted(set(calls)) == list(range(steps)) and calls == sorted(calls)
        assert [step for step, _ in reports] == list(range(steps))
        torch.testing.assert_close(reports[-1][1].float(), out, atol=1e-4, rtol=1e-4)  # the last step ends at its x₀


@pytest.mark.parametrize("name", sampler_table.SAMPLERS)
def test_frame_does_not_depend_on_its_batch(name):
    """Frame 3 of six equals frame 0 of a clip with a seed higher by 3, in stochastic samplers too."""
    model = Gaussian(V2)
    outs = []
    for seed, frames in ((10, 6), (13, 2)):
        x, sources = unit(frames, seed=seed)
        outs.append(samplers.Run(name, V2, 6)(model, x, sources))
    assert torch.equal(outs[0][3:5], outs[1])


@pytest.mark.parametrize("kind", noise.KINDS)
def test_stochastic_runs_repeat(kind):
    def run():
        sources = noise.generators(kind, 5, 4, 2)
        return samplers.Run("Euler a", V2, 5)(Gaussian(V2), noise.draw(sources, (4, 4, 6, 6)), sources)

    assert torch.equal(run(), run())


def test_lcm_uses_the_modules_distillation_steps():
    assert samplers.Run("LCM", FAMILIES["AnimateLCM"].betas, 4).times.tolist() == [999, 749, 499, 249]
    with pytest.raises(SettingsError, match="at most 50"):
        samplers.Run("LCM", V2, 51)


def test_error_about_an_unknown_sampler_lists_the_known_ones():
    with pytest.raises(SettingsError, match="Euler a"):
        sampler_table.get("euler z")


@pytest.mark.parametrize("strength, done", [(1, 12), (0.75, 10), (0.5, 7), (0, 1)])
@pytest.mark.parametrize("name", sampler_table.SAMPLERS)
def test_img2img_starts_in_the_middle_of_the_grid(name, strength, done):
    """The levels are the last ones of the whole run. At the first, x = α x₀ + σ ε."""
    whole, run = samplers.Run(name, V2, 12), samplers.Run(name, V2, 12, strength=strength)
    assert run.steps == done and run.call_steps[-1] == done - 1 and sorted(set(run.call_steps)) == list(range(done))
    assert run.times.tolist() == whole.times.tolist()[-len(run.times):]
    noise_, sources = unit()
    picture = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    seen, model = [], Gaussian(V2)

    def denoise(x, t, step):
        seen.append((x, float(t)))
        return model(x, t, step)

    out = run(denoise, noise_, sources, clean=picture)
    alpha, sigma = model.level(seen[0][1])
    expected = alpha * picture.double() + sigma * noise_.double()
    torch.testing.assert_close(seen[0][0].double(), expected, atol=1e-4, rtol=1e-4)
    if strength == 1:  # almost like a start from noise: α is 0.07
        assert (seen[0][0] - sigma * noise_).abs().max() < 0.08 * picture.abs().max()
    if not strength:
        x0 = MU + alpha * S**2 / (alpha**2 * S**2 + sigma**2) * (seen[0][0].double() - alpha * MU)
        torch.testing.assert_close(out.double(), x0, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["Euler", "DDIM", "Heun", "DPM++ 2M", "UniPC"])
def test_img2img_reaches_the_exact_map(name):
    """Compared with the probability flow from the middle level, like `Gaussian.ode` from σmax."""
    run, model = samplers.Run(name, V2, 400, strength=0.6), Gaussian(V2)
    noise_, sources = unit()
    picture = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    alpha, sigma = model.level(run.times[0])
    x = alpha * picture.double() + sigma * noise_.double()
    exact = MU + S * (x - alpha * MU) / np.sqrt(alpha**2 * S**2 + sigma**2)
    assert (run(model, noise_, sources, clean=picture) - exact).abs().max() < 0.03


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", sampler_table.SAMPLERS)
def test_held_frames_are_noised_pictures_in_each_step(name, prediction):
    """Held frames are noised pictures in each call, with the same ε if the sampler adds no noise.

    Other frames are the same as without the lock, bit for bit, since this model treats frames independently.
    """
    run, model, calls = samplers.Run(name, V2, 10, strength=0.8, prediction_type=prediction), Gaussian(V2), []
    noise_, sources = unit(4)
    pictures = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    held = from_pictures.Held(pictures, torch.tensor([1.0, 0.5, 0.0, 0.0]))

    def denoise(x, t, step):
        calls.append((x.clone(), float(t), step))
        alpha, sigma = model.level(t)
        out = model(x, t, step)
        return out if prediction == "epsilon" else (out - sigma * x) / alpha  # v = αε − σx₀

    out = run(denoise, noise_, sources, clean=pictures, held=held)
    assert torch.equal(out[0], pictures[0]) and (out[1] - pictures[1]).abs().mean() > 0.05
    for x, t, step in calls:
        alpha, sigma = model.level(t)
        for frame in (0, 1) if step < run.steps / 2 else (0,):
            noise_there = (x[frame].double() - alpha * pictures[frame]) / sigma
            if run.sampler.stochastic:
                assert noise_there.std().item() == pytest.approx(1, abs=0.2) and abs(noise_there.mean()) < 0.25
            else:
                torch.testing.assert_close(noise_there, noise_[frame].double(), atol=0.02, rtol=0.02)
    again, sources = unit(4)
    free = samplers.Run(name, V2, 10, strength=0.8, prediction_type=prediction)(
        denoise, again, sources, clean=pictures)
    assert torch.equal(out[2:], free[2:])


@pytest.mark.parametrize("name", ["Euler", "DDIM", "Heun"])
def test_frames_and_parts_join_where_img2img_with_their_own_strength_begins(name):
    """They are what a run of their own makes of them, since this model knows no neighbours, and these samplers neither
    draw noise nor remember steps."""
    shares = torch.tensor([1.0, 0.5, 0.25, 0.0], dtype=torch.float64)
    maps = shares.view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
    maps[0, :, :, :3] = 0.5
    pictures, model = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(9)), Gaussian(V2)

    def run(strength, held=None):
        noise_, sources = unit(4)
        return samplers.Run(name, V2, 10, strength=strength)(model, noise_, sources, clean=pictures, held=held)

    alone = {share: run(0.8 * share) for share in (1.0, 0.5, 0.25)}
    out = run(0.8, from_pictures.Held(pictures, from_pictures.until_share(10, 0.8, shares, 0.8)))
    for frame, share in enumerate(shares[:3].tolist()):
        torch.testing.assert_close(out[frame], alone[share][frame], atol=2e-5, rtol=2e-5)
    assert torch.equal(out[3], pictures[3]) and (alone[0.5] - alone[1.0])[0].abs().mean() > 0.01
    parts = run(0.8, from_pictures.Held(pictures, from_pictures.until_share(10, 0.8, maps, 0.8)))
    assert torch.equal(parts[1:], out[1:]) and torch.equal(parts[0, :, :, 3:], out[0, :, :, 3:])
    torch.testing.assert_close(parts[0, :, :, :3], alone[0.5][0, :, :, :3], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", sampler_table.SAMPLERS)
def test_several_solvers_equal_one_bit_for_bit(name, monkeypatch):
    def clip(at_once):
        monkeypatch.setattr(samplers, "AT_ONCE", at_once)
        x, sources = unit(frames=7)
        seen = []
        out = samplers.Run(name, V2, 4)(Gaussian(V2), x, sources, lambda step, estimate: seen.append(estimate.clone()))
        return torch.stack([out, *seen])

    whole = clip(64)
    assert all(torch.equal(whole, clip(at_once)) for at_once in (1, 3, 7))


def test_table_of_settings_has_all_samplers():
    assert settings.BY_NAME["sampler"].choices == tuple(sampler_table.SAMPLERS)
    read = {older: settings.parse({"sampler": older}) for older in ("DPM++ 2M Karras", "DPM++ SDE Karras")}
    assert [s.sampler for s in read.values()] == ["DPM++ 2M", "DPM++ SDE"]
    assert sampler_table.notices("DDIM", "Karras") and not sampler_table.notices("Euler", "Karras")

"""Run samplers on diffusers' solvers, with the motion module's noise schedule.

diffusers' timestep grids differ between its schedulers (integer rounding, first step not at σmax, DDIM's
`t − 1000 // n`). So the grid is computed here for all of them. Timesteps are continuous, σ(t) is interpolated in log σ
as in k-diffusion, and the network is called with the t that belongs to σ. LCM keeps its own integer timesteps, which
it was distilled on.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from animatediff.errors import SettingsError
from animatediff.sampler_table import AUTOMATIC, OWN_SOLVER, get, grid_of

if TYPE_CHECKING:
    from torch import Tensor

    from animatediff.clip.resume import Stage
    from animatediff.sampling.from_pictures import Held


AT_ONCE = 64  # largest number of frames in a solver
LCM_STEPS = 50  # distillation steps of models that do not name them (latent-consistency's value)


class Run:
    """A sampler with its timesteps. `run(denoise, noise, generators)` may be called any number of times.

    name: the sampler's name in `sampler_table`.
    betas: the family's motion.BetaSchedule. Its lcm_steps is the number of steps that an LCM was distilled on.
    steps: number of sampler steps in the grid.
    schedule_type: a name in `sampler_table.SCHEDULE_TYPES`.
    prediction_type: "epsilon" or "v_prediction".
    strength: denoising strength from 0 to 1 for a run that starts from a picture. Such a run does only the last steps
    of the grid, as many as img2img in the WebUI. None: start from noise.
    exact: as in `steps_placed`.
    """

    def __init__(self, name: str, betas, steps: int, *, schedule_type: str = AUTOMATIC,
                 prediction_type: str = "epsilon", strength: float | None = None, exact: bool = False):
        import numpy as np

        from animatediff.engine.grids import times
        from animatediff.sampling.betas import sigmas
        from animatediff.sampling.from_pictures import steps_placed

        if steps < 1:
            raise SettingsError(f"{steps} is below 1", where="steps", remedy="Use 1 or more.")
        self.sampler, (steps, self.steps) = get(name), steps_placed(steps, strength, exact=exact)
        self.prediction_type = prediction_type
        first = steps - self.steps
        table = sigmas(betas).numpy()
        numbers = np.arange(len(table))
        self._sigma = lambda t: np.exp(np.interp(t, numbers, np.log(table)))
        self._time = lambda sigma: np.interp(np.log(sigma), np.log(table), numbers)
        self.solver = self._solver(betas, steps)
        grid = grid_of(self.sampler, schedule_type)
        if grid == "lcm":
            t = self.solver.timesteps
            levels = table[t.numpy()]
        else:
            t = np.array(times(grid, steps, table))
            levels = self._sigma(t)
            t = self._place(t, levels)
        self._before = first * (2 if len(t) > steps else 1)  # calls that img2img skips
        self.times = t[self._before:]
        self.levels = [*map(float, levels[first:]), 0.0]  # σ before each step, and after the last one
        self.sigma_max = self.levels[0]

    def _solver(self, betas, steps: int):
        """Return a new solver. It has diffusers' timesteps until `_place` is called."""
        import diffusers

        from animatediff.sampling.betas import alphas_cumprod

        if self.sampler.solver == OWN_SOLVER:
            from animatediff.engine.dpmpp_sde import DPMSolverSDE

            return DPMSolverSDE(self.prediction_type)
        options, alphas = dict(self.sampler.options), alphas_cumprod(betas)
        if self.sampler.own_grid == "lcm":
            original_steps = betas.lcm_steps or LCM_STEPS
            if steps > original_steps:
                raise SettingsError(f"LCM takes at most {original_steps} steps, not {steps}", where="steps",
                                    remedy="Use 4 to 8 steps with LCM, or another sampler.")
            options |= {"original_inference_steps": original_steps, "clip_sample": False}
        solver = getattr(diffusers, self.sampler.solver)(
            num_train_timesteps=len(alphas), trained_betas=betas.betas().numpy(),
            prediction_type=self.prediction_type, **options,
        )
        solver.alphas_cumprod = alphas
        solver.set_timesteps(steps)
        return solver

    def _place(self, t, levels):
        """Set the solver's timesteps and sigmas. Return the timestep of each of its calls.

        t, levels: timestep and σ of each step, in float64.
        """
        import numpy as np
        import torch

        from animatediff.engine.dpmpp_sde import midpoints

        if self.sampler.solver == OWN_SOLVER:
            levels = np.array(midpoints(levels.tolist()))
            t = self._time(levels)
        t, levels = torch.from_numpy(t).float(), torch.from_numpy(np.append(levels, 0.0)).float()
        if self.sampler.solver == "HeunDiscreteScheduler":  # each inner point is called twice
            t = torch.cat([t[:1], t[1:].repeat_interleave(2)])
            levels = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
        self.solver.timesteps, self.solver.sigmas = t, levels
        return t

    def start(self, noise, clean=0.0):
        """Return the latents [f c h w] that sampling starts from, scaled for the solver, as in the WebUI.

        noise: of unit variance. clean: latents of a picture.
        """
        x = clean + noise * self.sigma_max
        return x if self.sampler.variance_exploding else x / (1 + self.sigma_max**2) ** 0.5

    @property
    def call_steps(self) -> list[int]:
        """The step, from 0, of each denoiser call. Heun and DPM++ SDE have two calls in each step except the last."""
        per_step = 2 if len(self.times) > self.steps else 1
        return [call // per_step for call in range(len(self.times))]

    def __call__(self, denoise: Callable, noise, generators, on_step: Callable | None = None, *, clean=None,
                 held: Held | None = None, stage: Stage | None = None) -> Tensor:
        """Return latents [f c h w] in float32.

        denoise(x, t, step): the network's output for x = αx₀ + σε at the continuous timestep t, in step `step` from 0.
        noise: [f c h w], of unit variance.
        generators: the generators that drew the noise (see sampling.noise), one for each frame or one for the clip.
        Noise that a step adds is also drawn from them.
        on_step(step, estimate of x₀ [f c h w]): called after each step.
        clean: latents of a picture [f c h w], which are noised to the level of the first step.
        held: frames that are held to pictures.
        stage: state of the run. If `stage.step` is above 0, an interrupted run continues there. `stage.done` is called
        after each step except the last.
        """
        x: Any = self.start(noise.float(), 0.0 if clean is None else clean)
        call_steps, begin, parts = self.call_steps, 0, self._parts(len(x), generators)
        for part in parts:
            part.solver.set_begin_index(self._before)
        if stage and stage.step:
            x, begin = stage.latents, call_steps.index(stage.step)
            for part, state in zip(parts, stage.solvers or ()):
                part.restore(state, x)
            stage.latents = stage.solvers = None  # frees the memory
        for call, (t, step) in enumerate(zip(self.times[begin:], call_steps[begin:]), begin):
            seen = parts[0].solver.scale_model_input(x, t)
            out = denoise(seen, t, step).float()
            if held is not None:
                out = held.into(out, step / self.steps, lambda x0, seen=seen, t=t: self._answer(seen, x0, t))
            ends = step not in call_steps[call + 1 :]
            if call == len(call_steps) - 1:
                for part in parts:
                    part.draw_no_more()
            x, estimate = _stepped(parts, out, t, x, estimate=bool(ends and on_step))
            del seen, out
            if ends:
                if on_step:
                    on_step(step, estimate)
                if stage and step + 1 < self.steps:
                    stage.done(step + 1, x, lambda: [part.state() for part in parts])
        return x if held is None else held.pinned(x)

    def _answer(self, x, x0, t):
        """Return the exact prediction for x at timestep t, given x₀."""
        import torch

        from animatediff.sampling.from_pictures import answer

        alpha = torch.tensor(1 / (1 + float(self._sigma(float(t))) ** 2), dtype=torch.float64)
        return answer(x, x0, alpha, self.prediction_type)

    def _parts(self, frames: int, generators) -> list[_Part]:
        """Return new solvers, each for at most AT_ONCE frames.

        Intermediate tensors of a single solver take many times the memory of a long clip. A single generator draws for
        all frames at once, so it needs a single solver.
        """
        import copy

        if len(generators) == 1 or frames <= AT_ONCE:
            return [_Part(copy.deepcopy(self.solver), slice(None), generators if self.sampler.stochastic else [])]
        parts = [_Part(copy.deepcopy(self.solver), slice(start, start + AT_ONCE),
                       generators[start : start + AT_ONCE] if self.sampler.stochastic else [])
                 for start in range(0, frames, AT_ONCE)]
        for part in parts:
            part.solver.is_scale_input_called = True  # only the first part's solver scales the input, for all frames
        return parts


@dataclass
class _Part:
    """A solver for some of the frames. Solvers treat frames independently."""

    solver: Any
    rows: slice  # its frames
    generators: list[Any]  # empty if the sampler adds no noise

    def step(self, out, t, x, *, estimate: bool):
        """Return the next latents of these frames, and the estimate of x₀ if `estimate`, else None."""
        own = self.generators
        extra = {"generator": own if len(own) > 1 else own[0]} if own else {}
        result = self.solver.step(out[self.rows], t, x[self.rows], **extra)
        return result.prev_sample, self._estimate(result) if estimate else None

    def draw_no_more(self) -> None:
        """Make the solver draw from copies of its generators.

        The last step adds no noise, but some solvers draw it. The WebUI's samplers (k-diffusion) do not. With copies,
        later draws are the same as in the WebUI.
        """
        self.generators = [_copied(generator) for generator in self.generators]

    def _estimate(self, result):
        """Return the estimate of x₀. Its place depends on the solver."""
        for name in ("pred_original_sample", "denoised"):
            if getattr(result, name, None) is not None:
                return getattr(result, name)
        return self.solver.model_outputs[-1]

    def state(self) -> dict[str, Any]:
        """Return the solver's plain attributes, which include its state between steps."""
        return {name: value for name, value in vars(self.solver).items() if _plain(value)}

    def restore(self, state: dict[str, Any], x) -> None:
        """Restore the attributes. Tensors shaped like the latents go to their device; tables stay where they were.

        x: the clip's latents.
        """
        like = x[self.rows]

        def there(value):
            if isinstance(value, list):
                return [there(part) for part in value]
            return value.to(like.device) if getattr(value, "shape", None) == like.shape else value

        for name, value in state.items():
            setattr(self.solver, name, there(value))


def _stepped(parts: list[_Part], out, t, x, *, estimate: bool) -> tuple[Any, Any]:
    """Return the clip's next latents, and the estimate of x₀ if `estimate`, else None."""
    if len(parts) == 1:
        return parts[0].step(out, t, x, estimate=estimate)
    latents = x.new_empty(x.shape)  # not in place, because solvers keep references to x
    estimates = x.new_empty(x.shape) if estimate else None
    for part in parts:
        latents[part.rows], taken = part.step(out, t, x, estimate=estimate)
        if estimates is not None:
            estimates[part.rows] = taken
    return latents, estimates


def _copied(generator):
    import torch

    return torch.Generator(generator.device).set_state(generator.get_state())


def _plain(value) -> bool:
    """Return whether a torch file stores the value without pickled code."""
    import torch

    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, torch.Tensor))

"""Guidance: one call of the model for cond and uncond, or several, with callbacks before and after."""
import torch

from modules import prompt_parser, sd_samplers_common, shared
from modules.script_callbacks import (
    AfterCFGCallbackParams,
    CFGDenoisedParams,
    CFGDenoiserParams,
    cfg_after_cfg_callback,
    cfg_denoised_callback,
    cfg_denoiser_callback,
)
from modules.shared import opts, state


class CFGDenoiser(torch.nn.Module):
    def __init__(self, sampler):
        super().__init__()
        self.sampler, self.model_wrap, self.p, self.init_latent = sampler, None, None, None
        self.mask = self.nmask = self.steps = self.total_steps = None
        self.step = 0

    @property
    def inner_model(self):
        raise NotImplementedError

    def get_pred_x0(self, x_in, x_out, sigma):
        return x_out

    def update_inner_model(self):
        self.model_wrap = None
        cond, uncond = self.p.get_conds()
        self.sampler.sampler_extra_args.update(cond=cond, uncond=uncond)

    def forward(self, x, sigma, uncond, cond, cond_scale, s_min_uncond, image_cond):
        if state.interrupted or state.skipped:
            raise sd_samplers_common.InterruptedException
        if sd_samplers_common.refined(self):
            cond, uncond = (self.sampler.sampler_extra_args[key] for key in ("cond", "uncond"))
        conds_list, text_cond = prompt_parser.reconstruct_multicond_batch(cond, self.step)
        text_uncond = prompt_parser.reconstruct_cond_batch(uncond, self.step)
        frames = len(conds_list)
        owner = torch.tensor([i for i, parts in enumerate(conds_list) for _ in parts] + list(range(frames)))
        params = CFGDenoiserParams(x[owner], image_cond[owner], sigma[owner], state.sampling_step,
                                   state.sampling_steps, text_cond, text_uncond, self)
        cfg_denoiser_callback(params)
        x_in, image_in, sigma_in = params.x, params.image_cond, params.sigma
        text_cond, text_uncond = params.text_cond, params.text_uncond

        early = opts.skip_early_cond != 0 and self.step / self.total_steps <= opts.skip_early_cond
        odd = self.step % 2 or opts.s_min_uncond_all
        skip_uncond = bool(early or (odd and s_min_uncond > 0 and sigma[0] < s_min_uncond))
        if skip_uncond:
            x_in, sigma_in = x_in[:-frames], sigma_in[:-frames]
        if opts.pad_cond_uncond and text_cond.shape[1] != text_uncond.shape[1]:
            text_cond, text_uncond = self._padded(text_cond, text_uncond)
        out = self._call(x_in, sigma_in, image_in, text_cond, text_uncond, skip_uncond, frames)
        first = torch.tensor([parts[0][0] for parts in conds_list])
        if skip_uncond:
            out = torch.cat([out, out[first]])
        cfg_denoised_callback(CFGDenoisedParams(out, state.sampling_step, state.sampling_steps, self.inner_model))

        negative = out[-frames:]
        denoised = negative.clone()
        for i, parts in enumerate(conds_list):
            for row, weight in parts:
                denoised[i] += (out[row] - negative[i]) * (weight * (1.0 if skip_uncond else cond_scale))
        self.sampler.last_latent = self.get_pred_x0(x_in[first], out[first], sigma)
        sd_samplers_common.store_latent(self.get_pred_x0(x_in[first], denoised[first] if len(denoised) > max(first) else
                                                         denoised, sigma))
        after = AfterCFGCallbackParams(denoised, state.sampling_step, state.sampling_steps)
        cfg_after_cfg_callback(after)
        self.step += 1
        return after.x

    def _padded(self, cond, uncond):
        empty = shared.sd_model.cond_stage_model_empty_prompt
        more = (cond.shape[1] - uncond.shape[1]) // empty.shape[1]
        short = cond if more < 0 else uncond
        short = torch.cat([short, empty.repeat(short.shape[0], abs(more), 1)], 1)
        return (short, uncond) if more < 0 else (cond, short)

    def _call(self, x, sigma, image, cond, uncond, skip_uncond, frames):
        """Call the model with all rows at once, or batch by batch with the negative rows last."""
        rows, positives = len(x), len(cond)
        same = cond.shape[1] == uncond.shape[1]
        if same or skip_uncond:
            texts = [*cond] if skip_uncond else [*cond, *uncond]
            at_once = rows if shared.opts.batch_cond_uncond else frames
            cuts = [(a, min(a + at_once, rows)) for a in range(0, rows, at_once)]
        else:
            texts = [*cond, *uncond]
            at_once = 2 * frames if shared.opts.batch_cond_uncond else frames
            cuts = [(a, min(a + at_once, positives)) for a in range(0, positives, at_once)]
            cuts.append((rows - frames, rows))
        out = torch.zeros_like(x)
        for a, b in cuts:
            cond_in = {"c_crossattn": [torch.stack(texts[a:b])], "c_concat": [image[a:b]]}
            out[a:b] = self.inner_model(x[a:b], sigma[a:b], cond=cond_in)
        return out

"""Keys and values of shared prompts are computed once per call for any rows, and nothing is left afterwards."""
from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from animatediff.unet.prompts_once import prompts_once


def keys_and_values(unet):
    return [part for name, part in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]


class RecordedRows:
    """Context manager that records the number of rows in each call of the layers."""

    def __init__(self, layers):
        self.rows, self.undo = [], []
        for layer in layers:
            plain = layer.forward
            layer.forward = lambda x, plain=plain: self.rows.append(len(x)) or plain(x)
            self.undo.append(layer)

    def __enter__(self):
        return self.rows

    def __exit__(self, *error):
        for layer in self.undo:
            del layer.forward


@hypothesis(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(prompts=st.lists(st.integers(0, 2), min_size=1, max_size=7),
       dtype=st.sampled_from([torch.float32, torch.bfloat16]),
       form=st.sampled_from(["plain", "expanded", "every second row", "inference"]))
def test_any_rows_of_any_prompts(host, inputs, prompts, dtype, form):
    dtype = torch.float32 if host.layout == "ldm" else dtype  # its time embedding is always float32
    host.unet.to(dtype)
    x, texts = (each.to(dtype) for each in inputs(len(prompts)))
    if form == "expanded":
        prompts = prompts[:1] * len(prompts)
        text = texts[:1].expand(len(prompts), -1, -1)
    else:
        text = inputs(3)[1].to(dtype)[prompts]
    if form == "every second row":
        text = text.repeat_interleave(2, 0)[::2]
    with torch.inference_mode(form == "inference"):
        text = text.clone() if form == "inference" else text
        expected = host(x, text)
        with prompts_once(host.unet), RecordedRows(layers := keys_and_values(host.unet)) as rows:
            found = host(x, text)
    runs = 1 + sum(a != b for a, b in itertools.pairwise(prompts))
    assert rows == [runs] * len(layers) and layers
    tight = 1e-5 if dtype is torch.float32 else 2e-2
    assert (found.float() - expected.float()).abs().max() <= tight * max(1.0, expected.float().abs().max())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_tokens_that_were_written_to_are_compared_again(make_host, inputs, mode):
    host = make_host("diffusers", "SD1.5")
    x, text = inputs(4)
    with mode(), prompts_once(host.unet), RecordedRows(keys_and_values(host.unet)) as rows:
        text = text[:1].repeat(4, 1, 1)
        host(x, text)
        text[2:] *= 2
        found = host(x, text)
    assert set(rows) == {1, 2}
    torch.testing.assert_close(found, host(x, text), rtol=1e-5, atol=1e-5)


@pytest.fixture
def rows_of(monkeypatch):
    """Return rows_of(layers): a list of the numbers of rows in each product with the layers' weights."""
    weights, rows, plain = [], [], torch.nn.functional.linear

    def linear(x, weight, bias=None):
        if any(weight is other for other in weights):
            rows.append(len(x))
        return plain(x, weight, bias)

    def record(layers):
        weights[:] = [layer.weight for layer in layers]
        return rows

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    return record


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_prompts_are_computed_once_in_a_run(make_host, inputs, rows_of, mode):
    """Calls alternate between two prompts together and one of them alone, with other pictures each time."""
    host = make_host("diffusers", "SD1.5")
    text = inputs(3)[1]
    with mode():
        pictures = [inputs(4)[0] + step for step in range(6)]
        texts = [text[rows] for rows in ([0, 0, 1, 1], [1, 1, 1, 1])] * 3
        expected = [host(x, prompt) for x, prompt in zip(pictures, texts)]
        with prompts_once(host.unet):
            rows, found, made = rows_of(layers := keys_and_values(host.unet)), [], []
            for x, prompt in zip(pictures, texts):
                found.append(host(x, prompt.clone()))
                made.append([row for row in rows if row])
                rows.clear()
    assert made == [[2] * len(layers), [1] * len(layers), [], [], [], []]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["prompt", "weight", "other weight", "forward", "dtype"])
def test_changes_during_a_run_are_computed_again(make_host, inputs, change):
    host = make_host("diffusers", "SD1.5")
    host.unet.double()
    x, text = (each.double() for each in inputs(4))
    text = text[:1].repeat(4, 1, 1)
    layer = keys_and_values(host.unet)[2]
    with torch.no_grad(), prompts_once(host.unet):
        before = host(x, text)
        if change == "prompt":
            text = text * 1.5
        elif change == "weight":
            layer.weight.mul_(3)
        elif change == "other weight":
            layer.weight = torch.nn.Parameter(layer.weight * 3)
        elif change == "forward":
            layer.forward = lambda x: 3 * torch.nn.functional.linear(x, layer.weight)
        else:
            host.unet.float()
            x, text = x.float(), text.float()
        found = host(x, text)
    with torch.no_grad():
        expected = host(x, text)
    tight = 1e-10 if change != "dtype" else 1e-5
    torch.testing.assert_close(found, expected, rtol=tight, atol=tight)
    if change != "dtype":
        assert (found - before).abs().max() > 1e-5


@pytest.mark.parametrize("grad_of", ["prompt", "weights"])
def test_gradients_after_a_call_without_gradients(make_host, inputs, grad_of):
    unet = make_host("diffusers", "SD1.5").unet.double().requires_grad_(grad_of == "weights")
    layers = keys_and_values(unet)
    x, text = (each.double() for each in inputs(4))

    def gradients():
        unet.zero_grad()
        prompt = text[:1].clone().requires_grad_(grad_of == "prompt")
        unet(x, torch.arange(4), prompt.expand(4, -1, -1), return_dict=False)[0].square().sum().backward()
        return [prompt.grad] if grad_of == "prompt" else [layer.weight.grad.clone() for layer in layers]

    expected = gradients()
    with prompts_once(unet):
        with torch.no_grad():
            unet(x, torch.arange(4), text[:1].expand(4, -1, -1))
        torch.testing.assert_close(gradients(), expected, rtol=1e-9, atol=1e-9)


def test_gradients_are_the_same(make_host, inputs):
    """As in training, every row contributes to the gradients of the weights and of the shared prompt."""
    unet = make_host("diffusers", "SD1.5").unet.double().requires_grad_(True)
    x, text = inputs(5)
    x, text = x.double(), text[:2].double()

    def gradients():
        unet.zero_grad()
        prompts = text.clone().requires_grad_()
        unet(x, torch.arange(5), prompts[[0, 0, 1, 1, 1]], return_dict=False)[0].square().sum().backward()
        return [prompts.grad, *(p.grad.clone() for p in unet.parameters() if p.grad is not None)]

    expected = gradients()
    with prompts_once(unet):
        found = gradients()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_nothing_is_left(host, inputs):
    before = [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in host.unet.modules()]
    x, text = inputs(3)
    expected = host(x, text)
    with pytest.raises(KeyboardInterrupt), prompts_once(host.unet):
        raise KeyboardInterrupt
    assert [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in host.unet.modules()] == before
    assert torch.equal(host(x, text), expected)


def test_an_error_in_a_layer_is_not_kept(make_host, inputs):
    host = make_host("ldm", "SD1.5")
    x, text = inputs(4)
    text = text[:1].repeat(4, 1, 1)
    expected = host(x, text)
    layer = keys_and_values(host.unet)[3]
    with prompts_once(host.unet):
        layer.forward = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            host(x, text)
        del layer.forward
        torch.testing.assert_close(host(x, text), expected, rtol=1e-5, atol=1e-5)


def test_layers_with_hooks_see_all_rows(make_host, inputs):
    host = make_host("diffusers", "SD1.5")
    x, text = inputs(4)
    text, seen = text[:1].repeat(4, 1, 1), []
    handle = keys_and_values(host.unet)[0].register_forward_hook(lambda layer, args, out: seen.append(len(args[0])))
    with prompts_once(host.unet):
        host(x, text)
    handle.remove()
    assert seen == [4]

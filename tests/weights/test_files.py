"""WeightFile against torch.load and safetensors, and its refusal of damaged and hostile files."""
from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from safetensors.torch import save_file

from animatediff.errors import ModelError
from animatediff.weights.files import WeightFile, read_tensors

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.bool, torch.complex64)


def numbers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(5)) * 9).to(dtype)


WHOLE = numbers(torch.float32, 6, 5)
CONTENTS = {
    **{str(dtype): {"a": numbers(dtype, 3, 4), "b": numbers(dtype, 7)} for dtype in DTYPES},
    "views of one storage": {"rows": WHOLE[2:4], "column": WHOLE[:, 1], "turned": WHOLE.T, "all": WHOLE},
    "no dimensions and none in one": {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "a": torch.ones(1)},
    "expanded": {"a": torch.ones(1, 3).expand(4, 3)},
    "parameters": {"a": torch.nn.Parameter(WHOLE.clone()), "b": torch.nn.Parameter(WHOLE.clone(), requires_grad=False)},
    "a state dict": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(),
}


def same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("name", CONTENTS)
def test_tensors_agree_with_torch_load(name, legacy, tmp_path):
    path = tmp_path / "a.pt"
    torch.save(CONTENTS[name], path, _use_new_zipfile_serialization=not legacy)
    expected = {key: value.detach() for key, value in torch.load(path, weights_only=True).items()}
    file = WeightFile(path)
    assert file.shapes == {key: tuple(value.shape) for key, value in expected.items()}
    same(file.read(), expected)
    same(read_tensors(path), expected)
    real = {key: value.to(torch.bfloat16) if value.is_floating_point() else value for key, value in expected.items()}
    same(read_tensors(path, torch.bfloat16), real)


def test_tensors_do_not_need_the_file_after_reading(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": WHOLE}, path)
    found = read_tensors(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(found["a"], WHOLE)


def test_writing_to_a_tensor_does_not_change_the_file(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": WHOLE}, path)
    before = path.read_bytes()
    WeightFile(path).read()["a"].add_(1)
    assert path.read_bytes() == before


def test_wrappers_and_other_objects_beside_the_weights(tmp_path):
    """A file with NumPy scalars and arrays, paths and similar objects is accepted; these are never created."""
    path = tmp_path / "a.ckpt"
    torch.save({"epoch": 3, "loss": np.float64(0.5), "curve": np.arange(3), "out": tmp_path,
                "sizes": torch.Size([1, 2]), "dtype": torch.float16, "names": {"a"}, "optimizer": [{"lr": 1e-4}],
                "state_dict": {"module.a": WHOLE}}, path)
    same(WeightFile(path).read(), {"a": WHOLE})
    torch.save({"inner": collections.OrderedDict(a=WHOLE)}, path)
    same(WeightFile(path).read(), {"inner.a": WHOLE})


def test_a_header_whose_length_looks_like_a_pickle(tmp_path):
    """A safetensors file begins with the header's length, whose first byte may be that of a pickle."""
    path, key = tmp_path / "a.safetensors", None
    for length in range(8, 300):
        save_file({"a" * length: WHOLE}, path)
        if path.read_bytes()[:1] == b"\x80":
            key = "a" * length
            break
    same(WeightFile(path).read(), {key: WHOLE})


class Call:
    """An object that is pickled as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return self.function, self.arguments, self.state


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("function, arguments", [
    (exec, ("raise SystemExit",)), (eval, ("1",)), (getattr, (1, "real")), (__import__, ("os",)), (open, ("x", "w")),
    (torch.load, ("x",)), (bytearray, (10**12,)), (pickle.loads, (b"",)),
])  # fmt: skip
def test_callables_are_refused_with_their_names(function, arguments, legacy, tmp_path):
    path = tmp_path / "bad.ckpt"
    torch.save({"a": WHOLE, "b": Call(function, *arguments)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError, match=rf"^bad.ckpt holds pickled Python objects \(.*{function.__name__}\)"):
        WeightFile(path)


class Network(torch.nn.Module):
    """A network with attributes of each kind that TorchScript stores."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 3, padding="same"), torch.nn.BatchNorm2d(4)])
        self.layers.append(torch.nn.Sequential(torch.nn.Conv2d(4, 2, 1), torch.nn.PReLU()))
        self.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
        self.sizes, self.curve, self.table, self.parts, self.name = [1, 2], [0.5], {"a": 1}, [torch.ones(2)], None

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x * self.scale


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda network: torch.jit.trace(network, torch.zeros(1, 3, 8, 8))],
                         ids=["script", "trace"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_torchscript_is_read_as_tensors_by_name(tmp_path, make, dtype):
    with torch.random.fork_rng():
        made = make(Network().eval()).to(dtype)
    made.save(tmp_path / "film.pt")
    expected = {key: value.detach() for key, value in torch.jit.load(tmp_path / "film.pt").state_dict().items()}
    file = WeightFile(tmp_path / "film.pt")
    assert len(expected) >= 9 and file.shapes == {key: tuple(value.shape) for key, value in expected.items()}
    same(file.read(), expected)
    same(read_tensors(tmp_path / "film.pt"), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_quantised_weights_are_refused_by_name(tmp_path):
    tensor = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    torch.save({"a": tensor}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="^a.pt holds quantised weights"):
        WeightFile(tmp_path / "a.pt")
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return
    torch.backends.quantized.engine = "fbgemm"
    network = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 4)), {torch.nn.Linear})
    torch.jit.script(network).save(tmp_path / "b.pt")
    with pytest.raises(ModelError, match="^b.pt holds quantised weights"):
        WeightFile(tmp_path / "b.pt")


def test_a_pickle_cannot_change_its_reader(tmp_path):
    """The opcode BUILD sets attributes of any object on the stack, including the reader's classes and functions."""
    def write_bad(global_name: bytes) -> None:
        code = b"\x80\x02}X\x01\x00\x00\x00ac" + global_name + b"N}X\x05\x00\x00\x00shapeK\x01s\x86bs."
        with zipfile.ZipFile(tmp_path / "bad.ckpt", "w") as archive:
            archive.writestr("bad/data.pkl", code)

    for name in (b"collections\nOrderedDict\n", b"torch._utils\n_rebuild_tensor_v2\n", b"numpy\nndarray\n",
                 b"torch\nFloatStorage\n", b"torch\nfloat16\n"):
        write_bad(name)
        try:
            WeightFile(tmp_path / "bad.ckpt")
        except ModelError as error:
            assert "damaged" in str(error)
        torch.save({"a": WHOLE}, tmp_path / "good.ckpt")
        same(WeightFile(tmp_path / "good.ckpt").read(), {"a": WHOLE})


@pytest.mark.parametrize("shape, stride, offset", [
    ((31,), (1,), 0), ((2, 2), (1000, 1), 0), ((1,), (1,), 30), ((1,), (1,), -1), ((2,), (-1,), 1),
    ((10**12,), (1,), 0), ((2, 10**30), (0, 0), 0), ((0, 10**30), (1, 1), 0),
])  # fmt: skip
def test_tensors_outside_their_storage_are_refused(shape, stride, offset, tmp_path):
    storage, path = torch.arange(30.0).untyped_storage(), tmp_path / "bad.ckpt"
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    call = Call(torch._utils._rebuild_tensor_v2, typed, offset, shape, stride, False, collections.OrderedDict())
    torch.save({"a": call}, path)
    with pytest.raises(ModelError, match="bad.ckpt is truncated or damaged"):
        WeightFile(path).read()


def saved(legacy: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {"a": WHOLE, "b": WHOLE[1:3]}, "loss": np.float64(0.5)}, file,
               _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


FILES = {legacy: saved(legacy) for legacy in (False, True)}


@given(st.booleans(), st.data())
@hypothesis(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_only_raises_a_model_error(tmp_path, legacy, data):
    whole = bytearray(FILES[legacy])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.ckpt"
    path.write_bytes(whole[:data.draw(st.integers(1, len(whole)))])
    try:
        WeightFile(path).read()
    except ModelError as error:
        assert str(error).startswith("a.ckpt ") and error.remedy


def test_a_storage_beyond_the_end_of_the_file(tmp_path):
    """In the old format the file states the number of elements of a storage, so it may be wrong."""
    whole = FILES[True]
    count = whole.rindex(struct.pack("<q", WHOLE.numel()))
    for number in (2**62, -1, WHOLE.numel() + 1):
        path = tmp_path / "a.ckpt"
        path.write_bytes(whole[:count] + struct.pack("<q", number) + whole[count + 8:])
        with pytest.raises(ModelError, match="truncated or damaged"):
            WeightFile(path).read()

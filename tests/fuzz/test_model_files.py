"""Changed model files: each loads, or ends in one error that names it; a listing has them all. RUN_FUZZ=minutes."""
from __future__ import annotations

import io
import json
import random
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import lora_files_by_hand as by_hand
import pytest
import torch
from inputs import draws, mutated
from safetensors.torch import save
from tiny_models import WIDTHS, write_checkpoint, write_module

from animatediff.engine import checkpoint
from animatediff.errors import ModelError
from animatediff.motion import library, load, lora_files

NUMBERS = (0, 1, -1, 2, 32, 2**31, 2**63, 2**64, 10**30, True, None, 0.5, "4", [], [4], {})
DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I8", "U8", "BOOL", "C64", "F4", "", None)
ENTRIES = ("dtype", "shape", "data_offsets")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> dict[str, list[bytes]]:
    """Small valid files of each kind: safetensors, torch's in both formats, and TorchScript."""
    folder = tmp_path_factory.mktemp("seeds")
    contents = {"module": torch_of(write_module(folder / "m.ckpt", "v3")), "motion lora": by_hand.original(
        by_hand.pairs(WIDTHS, rank=1)), "webui lora": by_hand.webui(by_hand.pairs(WIDTHS, rank=1), alpha=1.0),
        "embedding": {"emb_params": torch.ones(1, 768)}, "anything": {"a": torch.ones(3), "b": torch.ones(())}}
    contents["checkpoint"] = {key: tensor[:1].clone() for key, tensor in torch_of(
        write_checkpoint(folder)).items()}  # of one channel: it never loads, and is small
    found: dict[str, list[bytes]] = {"safetensors": [], "zip": [], "old": []}
    for content in contents.values():
        found["safetensors"].append(save({key: tensor.contiguous() for key, tensor in content.items()}))
        for kind in ("zip", "old"):
            file = io.BytesIO()
            torch.save({"state_dict": content, "epoch": 1}, file, _use_new_zipfile_serialization=kind == "zip")
            found[kind].append(file.getvalue())
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the format
        torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.PReLU())), file)
    found["zip"].append(file.getvalue())
    return found


def torch_of(path: Path) -> dict:
    if path.suffix == ".ckpt":
        return torch.load(path)
    from safetensors.torch import load_file

    return load_file(path)


def other_header(rng: random.Random, whole: bytes) -> bytes:
    """A safetensors file with one to three changes in what its header says."""
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    for _ in range(rng.randint(1, 3)):
        name, entry = rng.choice([*header.items()] or [("a", {})])
        way = rng.randrange(7)
        if way == 0:
            header.pop(name, None)
        elif way == 1:
            end = rng.choice((".lora_down.weight", "pe", "\x1b[2J", "é" * 99))
            header[name[: rng.randrange(len(name) + 1)] + end] = entry
        elif way == 2 and isinstance(entry, dict):
            entry["dtype"] = rng.choice(DTYPES)
        elif way == 3 and isinstance(entry, dict) and isinstance(entry.get("shape"), list):
            entry["shape"].insert(rng.randrange(4), rng.choice(NUMBERS))
        elif way == 4 and isinstance(entry, dict):
            entry["shape"] = rng.choice(([], [0, 200_000, 320], [0], [0, 2**40, 2**40], None))
            entry["data_offsets"] = [0, 0]
        elif way == 5 and isinstance(entry, dict):
            entry[rng.choice(ENTRIES)] = rng.choice((rng.choice(NUMBERS), [rng.choice(NUMBERS), rng.choice(NUMBERS)]))
        else:
            header[name] = rng.choice(NUMBERS)
    text = json.dumps(header).encode()
    text = mutated(rng, [text]) if rng.random() < 0.1 else text
    claimed = rng.choice((len(text),) * 9 + (len(text) + 8, 2**31, 2**63))
    return struct.pack("<Q", claimed) + text + data


def other_archive(rng: random.Random, whole: bytes) -> bytes:
    """A torch file whose pickle is changed, and sometimes how its entries lie in the archive."""
    file = io.BytesIO()
    way = rng.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))
    with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(file, "w", way) as after:
        for name in before.namelist():
            content = before.read(name)
            if name.endswith("data.pkl"):
                content = mutated(rng, [content])
            if rng.random() > 0.01:
                after.writestr(name, content)
    return file.getvalue()


def changed(rng: random.Random, seeds: dict[str, list[bytes]]) -> bytes:
    kind = rng.choice([*seeds])
    whole = rng.choice(seeds[kind])
    if rng.random() < 0.3:
        return mutated(rng, [whole])
    if kind == "safetensors":
        return other_header(rng, whole)
    if kind == "zip":
        return other_archive(rng, whole)
    pickles = 40_000  # of the old format; its numbers lie behind them
    return mutated(rng, [whole[:pickles]]) + whole[pickles:]


def loaded_or_refused(read, path: Path) -> None:
    try:
        read(path)
    except ModelError as error:
        said = str(error)
        assert path.name in said and error.remedy and said.isprintable() and len(said) < 1000, said


def test_changed_files(seeds, tmp_path):
    for rng in draws(60):
        path = tmp_path / rng.choice(("mm.safetensors", "mm.ckpt", "mm.pth"))
        path.write_bytes(changed(rng, seeds))
        (entry,) = library.listing([tmp_path])
        assert entry.name == path.name and str(entry.problem).isprintable()
        assert not entry.problem or entry.problem.startswith("mm.")
        loaded_or_refused(rng.choice((load, lora_files.load, checkpoint.load)), path)
        path.unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("folder") / "sd"
    whole = write_checkpoint(path.parent)
    parts = checkpoint.load(whole)
    for part, network in (("unet", parts.unet), ("vae", parts.vae), ("text_encoder", parts.text.model)):
        network.save_pretrained(path / part)
    shutil.copytree(whole.parent / "clip", path / "tokenizer")
    (path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (path / "scheduler").mkdir()
    (path / "scheduler" / "scheduler_config.json").write_text(
        '{"beta_schedule": "linear", "beta_start": 0.001, "beta_end": 0.012, "num_train_timesteps": 1000}')
    return path


def test_changed_settings_of_a_folder(folder):
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".txt"))
    for rng in draws(12):
        path = rng.choice(files)
        whole = path.read_bytes()
        content = mutated(rng, [whole])
        if path.suffix == ".json" and rng.random() < 0.7:
            options = json.loads(whole)
            options[rng.choice([*options])] = rng.choice((*NUMBERS, [10**9] * 3, "text", ["text"] * 9))
            content = json.dumps(options).encode()
        path.write_bytes(content)
        loaded_or_refused(checkpoint.load, folder)
        path.write_bytes(whole)

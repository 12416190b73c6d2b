"""Hostile and damaged model files raise one error that names the file, and take little time and memory."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from tiny_models import write_module

from animatediff.errors import ModelError
from animatediff.motion import load, lora_files
from animatediff.weights.files import WeightFile

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return hostile.write(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", hostile.FILES)
def test_each_file_raises_one_error_that_names_it(name, paths):
    for read in (load, lora_files.load):
        with pytest.raises(ModelError) as caught:
            read(paths[name])
        assert str(caught.value).startswith(paths[name].name) and caught.value.remedy
        assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's memory limit")
def test_a_listing_shows_each_reason_and_takes_little_memory(paths):
    """The listing runs in a process that may take at most 512 MiB more than at its start."""
    script = """if True:
        import json, resource, sys
        from pathlib import Path
        from animatediff.motion import library

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + 2**29
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(json.dumps({entry.name: entry.problem for entry in library.listing([Path(sys.argv[1])])}))
    """
    folder = paths["text"].parent
    good = write_module(folder / "good.safetensors")
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found.pop(good.name) == ""
    assert found.keys() == {path.name for path in paths.values()}
    assert all(problem.startswith(name) and "memory" not in problem for name, problem in found.items())


def test_a_safetensors_file_is_recognised_with_any_first_byte(tmp_path):
    """A header length of 0x80, 0x180, … looks like the start of a pickle, 0x4B50 like that of an archive."""
    for length in (0x80, 0x180, 0x4B50):
        path = tmp_path / f"{length}.ckpt"
        entry = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        path.write_bytes(length.to_bytes(8, "little") + entry.ljust(length).encode() + bytes(4))
        assert WeightFile(path).read()["a"].tolist() == [0]

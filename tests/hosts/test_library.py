"""Motion modules in folders: found by name, only inside the folders, described once; and the WebUI's choice of them."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import WIDTHS, write_module

from animatediff.errors import ModelError
from animatediff.motion import build, library, load

STANDIN = Path(__file__).parent / "standin"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("written")
    return SimpleNamespace(
        v2=write_module(folder / "v2.safetensors").read_bytes(), v3=write_module(folder / "v3.ckpt", "v3").read_bytes(),
        xl=write_module(folder / "xl.safetensors", "HotShot-XL", widths=(32, 32, 32)).read_bytes(),
        wide=write_module(folder / "wide.safetensors", "v3", widths=(64, 64, 64, 64)).read_bytes())


def fill(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_finding_by_name(tmp_path):
    folder = fill(tmp_path / "a", mm_dot_ckpt=b"1", sub__deep_dot_safetensors=b"2", sub__mm_dot_ckpt=b"3",
                  adapter__config_dot_json=b"{}", adapter__weights_dot_safetensors=b"", notes_dot_txt=b"")
    other = fill(tmp_path / "b", mm_dot_ckpt=b"4", only_dot_bin=b"5")
    for name, found in {"mm.ckpt": "a/mm.ckpt", "mm": "a/mm.ckpt", "sub/mm.ckpt": "a/sub/mm.ckpt",
                        "sub/mm": "a/sub/mm.ckpt", "deep": "a/sub/deep.safetensors",
                        "deep.safetensors": "a/sub/deep.safetensors",
                        "only": "b/only.bin", "adapter": "a/adapter", "sub/../mm": "a/mm.ckpt"}.items():
        assert library.find(name, [folder, other]).resolve() == (tmp_path / found).resolve(), name
    for name in ("nothing", "sub", "b/only.bin", "elsewhere/mm.ckpt", "m" * 5000, "mm\0.ckpt", "."):
        assert library.find(name, [folder, other]) is None, name
    assert library.find("mm", [tmp_path / "nowhere"]) is None


def test_nothing_outside_the_folders_is_found(tmp_path):
    folder = fill(tmp_path / "models", inside_dot_ckpt=b"")
    secret = fill(tmp_path / "models-not", secret_dot_ckpt=b"") / "secret.ckpt"
    for name in ("../models-not/secret.ckpt", "../models-not/secret", str(secret), "sub/../../models-not/secret.ckpt",
                 ".."):
        assert library.find(name, [folder]) is None, name
    assert library.inside(folder / "x" / ".." / "inside.ckpt", folder) and not library.inside(folder, folder)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links(tmp_path):
    elsewhere = fill(tmp_path / "elsewhere", big_dot_ckpt=b"")
    folder = fill(tmp_path / "models", mm_dot_ckpt=b"")
    (folder / "linked.ckpt").symlink_to(elsewhere / "big.ckpt")  # a common way to keep one copy of a large file
    (folder / "round").symlink_to(folder)
    assert [path.name for path in library.files(folder)] == ["linked.ckpt", "mm.ckpt"]
    assert library.find("linked", [folder]) == folder / "linked.ckpt"


def test_listing(tmp_path, written):
    folder = fill(tmp_path / "m", v2_dot_safetensors=written.v2, sub__v3_dot_ckpt=written.v3, broken_dot_pt=b"PK no",
                  readme_dot_md=b"", _dot_hidden_dot_ckpt=written.v3)
    about = {entry.name: entry for entry in library.listing([folder])}
    assert list(about) == ["broken.pt", "sub/v3.ckpt", "v2.safetensors"]
    assert about["broken.pt"].problem and not about["broken.pt"].to_dict()["usable"]
    v3 = about["sub/v3.ckpt"]
    assert (v3.family, v3.base, v3.max_frames, v3.trained_frames, v3.widths) == ("v3", "SD1.5", 32, 16, WIDTHS)
    with pytest.raises(ModelError, match="cannot be read"):
        library.listing([tmp_path / "nowhere"])


def test_networks_for_finished_clips_are_not_listed(tmp_path, written):
    folder = fill(tmp_path / "m", v2_dot_safetensors=written.v2)
    for name, *keys in (
            ("film_net_fp32.pt", "extract.extract_sublevels.convs.0.0.0.weight", "fuse.output_conv.weight",
             "predict_flow._predictor._convs.0.0.weight"),
            ("rife.pth", "block0.conv0.0.0.weight", "block1.conv0.0.0.weight", "block0.lastconv.weight"),
            ("esrgan.pth", "RRDB_trunk.0.weight")):
        torch.save({key: torch.zeros(4, 4, 3, 3) for key in keys}, folder / name)
    assert [entry.name for entry in library.listing([folder])] == ["v2.safetensors"]


def test_a_file_is_described_once_until_it_changes(tmp_path, written, monkeypatch):
    folder = fill(tmp_path / "m", mm_dot_safetensors=written.v2)
    path, read = folder / "mm.safetensors", []
    plain = library.read
    monkeypatch.setattr(library, "read", lambda p: read.append(p) or plain(p))
    assert [library.describe(path).family.name for _ in range(3)] == ["v2"] * 3 and len(read) == 1
    path.write_bytes(written.v3)
    assert library.describe(path).family.name == "v3" and len(read) == 2
    path.write_bytes(b"broken")
    errors = []
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            library.describe(path)
        errors.append(str(caught.value))
    assert errors[0] == errors[1] and len(read) == 3
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelError):
        library.describe(path)
    assert len(read) == 4


def test_a_file_that_the_system_does_not_give_is_an_entry_and_asked_for_again(tmp_path):
    """No file can be opened for a while, as with an unmounted disk or wrong permissions."""
    resource = pytest.importorskip("resource")
    folder = tmp_path / "m"
    write_module(folder / "mm.safetensors")
    library.describe(write_module(tmp_path / "other.safetensors"))  # imports everything
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = [folder / "mm.safetensors"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        away = library.entry(found[0], "mm.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "mm.safetensors cannot be read (Too many open files)" in away.problem
    assert library.entry(found[0], "mm.safetensors").family == "v2"


@pytest.mark.parametrize("zipped", [True, False])
def test_reading_where_the_host_has_put_its_own_torch_load(tmp_path, monkeypatch, zipped):
    """The WebUI's modules/safe.py refuses an open file that is an old pickle, and returns None."""
    path = tmp_path / "mm.ckpt"
    module = build(WIDTHS, "v3")
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(torch, "load", lambda *_, **__: None)
    assert library.describe(path).family.name == "v3"
    assert len(load(path).state_dict()) == len(module.state_dict())


# In the WebUI.


@pytest.fixture
def host(tmp_path, monkeypatch):
    """`.library`: the host's library. `.models`: the folder of the settings. `.load_model(model)`: loads a model."""
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    with standing_in(tmp_path / "webui") as host:
        host.models = tmp_path / "own"
        host.opts.data["animatediff_model_path"] = str(host.models)
        from animatediff.hosts.a1111 import library as ours

        monkeypatch.setattr(ours, "OWN_FOLDER", tmp_path / "extension" / "model")
        host.library, host.own = ours, ours.OWN_FOLDER
        checkpoints = sys.modules["modules.sd_models"]

        def load(model):
            monkeypatch.setattr(checkpoints, "model_data", SimpleNamespace(sd_model=model))

        host.load_model = load
        load(None)
        yield host


def image_model(name="photo"):
    from tiny_ldm import LatentDiffusion

    model = LatentDiffusion()
    model.sd_checkpoint_info = SimpleNamespace(name_for_extra=name)
    return model


def test_folders(host, tmp_path, monkeypatch):
    older = fill(tmp_path / "webui" / "extensions" / "sd-webui-animatediff", motion_module_dot_py=b"",
                 scripts__animatediff_mm_dot_py=b"")
    fill(tmp_path / "webui" / "extensions" / "something", scripts__animatediff_mm_dot_py=b"")
    monkeypatch.setattr(sys.modules["modules.paths_internal"], "extensions_dir", str(older.parent))
    assert host.library.folders() == [host.models, host.own, older / "model"]
    for unset in (None, "", "  "):
        host.opts.data["animatediff_model_path"] = unset
        assert host.library.folders() == [host.own, older / "model"]
    host.opts.data["animatediff_model_path"] = str(host.own)
    assert host.library.folders() == [host.own, older / "model"]


def test_entries_of_several_folders(host, written):
    fill(host.models, a_dot_ckpt=written.v3, same_dot_safetensors=written.v2)
    fill(host.own, same_dot_safetensors=written.xl, b_dot_safetensors=written.xl)
    entries = {entry.name: entry for entry in host.library.entries()}
    assert list(entries) == ["a.ckpt", "same.safetensors", "b.safetensors"]
    assert entries["same.safetensors"].path == host.library.find("same") == host.models / "same.safetensors"


def test_the_first_module_that_fits(host, written):
    fill(host.models, a_dot_safetensors=written.xl, b_dot_safetensors=written.wide, c_dot_ckpt=written.v3,
         d_dot_safetensors=written.v2, _0_dot_ckpt=b"broken")
    find = host.library.find
    assert find("").name == "a.safetensors"  # no checkpoint is loaded: the first usable module
    host.load_model(image_model())
    assert find("").name == "c.ckpt"
    (host.models / "c.ckpt").unlink()
    assert find("").name == "d.safetensors"
    (host.models / "d.safetensors").unlink()
    with pytest.raises(ModelError, match="none of the 3 motion modules fits the checkpoint photo"):
        find("")


def test_one_module_that_does_not_fit_says_why(host, written):
    fill(host.models, xl_dot_safetensors=written.xl)
    host.load_model(image_model())
    with pytest.raises(ModelError, match="xl.safetensors is an SDXL motion module but the checkpoint is SD1.5"):
        host.library.find("")
    assert host.library.find("xl").name == "xl.safetensors"  # found by name though it does not fit
    assert host.library.described("xl")[0].family.name == "HotShot-XL"


def test_an_empty_folder_says_where_to_put_which_file(host):
    fill(host.models)
    for name in ("", "mm"):
        module, problem = host.library.described(name)
        assert module is None
        for words in (str(host.models), "v3_sd15_mm.ckpt", "SD1.5", "hsxl_temporal_layers.safetensors", "SDXL"):
            assert words in str(problem)


def test_unknown_names_and_paths(host, written, tmp_path):
    fill(host.models, mm_dot_ckpt=written.v3, sub__deep_dot_ckpt=written.v3)
    fill(host.own)
    outside = fill(tmp_path / "outside", mm_dot_ckpt=written.v3) / "mm.ckpt"
    find = host.library.find
    assert find(str(host.models / "sub" / "deep.ckpt")) == host.models / "sub" / "deep.ckpt"
    assert find(str(host.models / "mm")).name == "mm.ckpt"
    for name in (str(outside), str(host.models / ".." / "outside" / "mm.ckpt"), "../outside/mm.ckpt", "/etc/passwd",
                 "nothing", str(host.models)):
        with pytest.raises(ModelError, match="no such motion module") as caught:
            find(name)
        assert "mm.ckpt" in caught.value.remedy and caught.value.where == name


def test_labels(host, written):
    fill(host.models, mm_dot_ckpt=written.v3, xl_dot_safetensors=written.xl, broken_dot_ckpt=b"")
    def labels():
        return [host.library.label(entry, host.library.checkpoint()) for entry in host.library.entries()]

    broken, mm = "broken.ckpt (cannot be used)", "mm.ckpt (v3, 16 frames)"
    assert labels() == [broken, mm, "xl.safetensors (HotShot-XL, 8 frames)"]
    host.load_model(image_model())
    assert labels() == [broken, mm, "xl.safetensors (HotShot-XL, 8 frames; does not fit the checkpoint)"]


def test_the_loaded_checkpoint(host, monkeypatch):
    assert host.library.checkpoint() is None
    model = image_model()
    host.load_model(model)
    found = host.library.checkpoint()
    assert (found.name, found.base, found.widths, found.problem) == ("photo", "SD1.5", WIDTHS, "")
    calls = []
    monkeypatch.setattr(host.library, "find_places", lambda unet: calls.append(unet))
    assert host.library.checkpoint() is found and not calls
    host.load_model(SimpleNamespace(sd_checkpoint_info=None))
    assert "has no UNet" in host.library.checkpoint().problem


def test_a_folder_that_may_not_be_read_hides_no_other(host, written, monkeypatch):
    fill(host.models, mm_dot_ckpt=written.v3)
    fill(host.own, b_dot_ckpt=written.v3)
    plain = library.listing

    def listing(folders):
        if host.models in folders:
            raise ModelError("this folder cannot be read (Permission denied)", where=str(host.models))
        return plain(folders)

    monkeypatch.setattr(library, "listing", listing)
    first, second = host.library.entries()
    assert "Permission denied" in first.problem and second.name == "b.ckpt"

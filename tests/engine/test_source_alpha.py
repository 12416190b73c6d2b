"""The transparency of a source in the files of the clip, decoded by Pillow and PyAV."""
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from animatediff.clip import pictures
from animatediff.faces.cli import main as cli
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
av = pytest.importorskip("av")
SIZE = 64


def clip(count=2, width=SIZE, height=SIZE):
    """A soft disc that moves to the right."""
    y, x = np.mgrid[:height, :width]
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    colours = np.asarray(Image.fromarray(colours).resize((width, height)))
    alphas = [np.clip(400 - 20 * np.hypot(x - width / 4 - 16 * i, y - height / 2), 0, 255) for i in range(count)]
    return [np.dstack([colours, alpha]).astype(np.uint8) for alpha in alphas]


def write_video(path, frames, codec, pixels):
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=8)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if codec == "libvpx-vp9":
            stream.options = {"crf": "4", "b": "0", "auto-alt-ref": "0"}
            stream.metadata["alpha_mode"] = "1"
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgba").reformat(format=pixels)))
        output.mux(stream.encode())
    return path


def write_animation(path, frames):
    images = [Image.fromarray(frame) for frame in frames]
    options = {"lossless": True, "exact": True} if path.suffix == ".webp" else {"default_image": False}
    images[0].save(path, save_all=True, append_images=images[1:], duration=125, **options)
    return path


def write_folder(path, frames):
    path.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{index}.png")
    return path


SOURCES = {
    "folder": lambda folder, frames: write_folder(folder / "in", frames),
    "WebP": lambda folder, frames: write_animation(folder / "in.webp", frames),
    "APNG": lambda folder, frames: write_animation(folder / "in.png", frames),
    "FFV1": lambda folder, frames: write_video(folder / "in.mkv", frames, "ffv1", "bgra"),
    "QuickTime Animation": lambda folder, frames: write_video(folder / "in.mov", frames, "qtrle", "argb"),
    "ProRes 4444": lambda folder, frames: write_video(folder / "in.mov", frames, "prores_ks", "yuva444p10le"),
    "VP9": lambda folder, frames: write_video(folder / "in.webm", frames, "libvpx-vp9", "yuva420p"),
}


def decoded(path, shape):
    """uint8 [f h w c] of a file, c 4 where it has an alpha channel; of a folder's pictures."""
    if path.is_dir():
        return np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())])
    if path.suffix in (".webp", ".apng"):
        with Image.open(path) as image:
            found = []
            for index in range(image.n_frames):
                image.seek(index)
                found.append(np.asarray(image))
            return np.stack(found)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        if path.suffix == ".webm":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    form = "rgba" if any(part.is_alpha for part in frames[0].format.components) else "rgb24"
    return np.stack([frame.to_ndarray(format=form) for frame in frames])[:, :shape[0], :shape[1]]


def render(tiny, folder, source, formats, *more):
    command = ["render", "a red circle", "--video", str(source), "--steps", "2", "--cfg", "1", "--device", "cpu",
               "--denoising-strength", "0.5", "--checkpoint", str(tiny.checkpoint), "--motion-module",
               str(tiny.module), "--format", formats, "--out", str(folder / "out") + "/", "--frames", "2", *more]
    code = cli.main(command)
    assert code == 0
    found = {}
    for path in (folder / "out").iterdir():
        found[path.suffix[1:] or "png"] = path
    return found


def asked(source, **more):
    return parse({"enable": True, "prompt": "a red circle", "video_path": str(source), **more})


@pytest.mark.parametrize("kind", SOURCES)
def test_the_alpha_channel_of_each_kind_of_source(tmp_path, kind):
    frames = clip()
    found = pictures.read(asked(SOURCES[kind](tmp_path, frames)))
    error = np.abs(np.asarray(found.alpha).astype(int) - np.stack(frames)[..., 3])
    assert error.max() <= {"ProRes 4444": 1, "VP9": 12}.get(kind, 0)
    seen, own = np.asarray(found.first).astype(float), np.stack(frames).astype(float)
    white = own[..., :3] * own[..., 3:] / 255 + 255 - own[..., 3:]
    assert np.abs(seen - white).mean() < 6  # what the sampler starts from


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_it_is_fitted_as_the_pictures_are(tmp_path, fit):
    """The second picture is opaque, and smaller. What pad adds is transparent, also there."""
    [frame] = clip(1, 96, 64)
    (tmp_path / "in").mkdir()
    Image.new("RGB", (24, 16)).save(tmp_path / "in" / "0.png")
    Image.fromarray(frame).save(tmp_path / "in" / "1.png")
    found = pictures.read(asked(tmp_path / "in", size="64x64", fit=fit)).alpha
    image = Image.fromarray(frame[..., 3])
    if fit == "pad":
        inner = np.asarray(image.resize((64, 43), Image.Resampling.LANCZOS))
        assert not found[0][:10].any() and not found[0][-10:].any() and found[0][11:53].min() == 255
        assert not found[1][:10].any() and np.abs(found[1][10:53].astype(int) - inner).max() <= 1
        return
    box = (16, 0, 80, 64) if fit == "crop" else None
    expected = image.resize((64, 64), Image.Resampling.LANCZOS, box=box)
    assert (found[0] == 255).all() and np.abs(found[1].astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "LA", "P", "clear colour"])
def test_pictures_that_are_opaque_and_pictures_that_are_not(tmp_path, mode):
    """Nothing is stored for a source that is opaque, whatever its mode."""
    image, expected = Image.new("RGB", (64, 64), (9, 9, 9)), None
    image.paste((200, 0, 0), (0, 0, 32, 64))
    options = {}
    if mode == "clear colour":
        options = {"transparency": (9, 9, 9)}
    elif mode == "P":
        image = image.quantize(2)
        options = {"transparency": image.getpixel((40, 0))}
    else:
        image = image.convert(mode)
    if options:
        expected = np.zeros((64, 64), np.uint8)
        expected[:, :32] = 255
    image.save(tmp_path / "in.png", **options)
    found = pictures.read(asked(tmp_path / "in.png", frames=2))
    if expected is None:
        assert found.alpha is None and found.alpha_of([0, 1]) is None
        return
    assert np.array_equal(found.alpha_of([0, 1])(1), expected)
    assert (found.first[0][:, 32:] == 255).all()


@pytest.mark.parametrize("more, said", [
    ({"formats": ["MKV", "GIF"]}, "the same transparency in MKV"), ({"formats": ["MOV"]}, "cannot contain that"),
    ({"formats": ["MOV"], "video_codec": "ProRes 4444"}, "the same transparency in MOV"),
    ({"formats": ["PNG"], "interp": "flow", "interp_x": 2}, "interpolated frames are opaque")], ids=str)
def test_notes(tmp_path, more, said):
    settings = asked(write_folder(tmp_path / "in", clip()), size="64x64", **more)
    found = pictures.read(settings)
    settings = found.of(settings)
    assert [said in note for note in pictures.notices(settings, found, "64x64")] == [True]


def test_each_format_that_can_has_it_and_the_others_show_the_frames(tiny, tmp_path, capsys):
    frames = clip()
    source = write_folder(tmp_path / "in", frames)
    files = render(tiny, tmp_path, source, "GIF,MP4,WEBM,MKV,WEBP,APNG,PNG")
    said = capsys.readouterr()
    assert "GIF and MP4 cannot contain transparency" in said.out + said.err and "white" not in said.out + said.err
    own = np.stack(frames)[..., 3].astype(int)
    for name, bound in {"mkv": 0, "apng": 0, "png": 0, "webp": 0, "webm": 24}.items():
        assert np.abs(decoded(files[name], (SIZE, SIZE))[..., 3] - own).max() <= bound, name
    shown = decoded(files["mkv"], (SIZE, SIZE))[..., :3].astype(int)
    film = decoded(files["mp4"], (SIZE, SIZE))
    assert film.shape[-1] == 3 and np.abs(film - shown).mean() < 12
    clear = own == 0
    assert np.abs(film - shown)[clear].mean() < 12 and np.abs(film.astype(int) - 255)[clear].mean() > 40
    deep = decoded(render(tiny, tmp_path / "deep", source, "PNG,MKV", "--bit-depth", "16")["mkv"], (SIZE, SIZE))
    assert np.abs(deep[..., 3] - own).max() <= 1  # of the 16 bits, ffmpeg shows 8


def test_an_enlarged_clip_has_the_enlarged_alpha_channel(tmp_path, capsys):
    frames = clip()
    source = write_video(tmp_path / "in.mkv", frames, "ffv1", "bgra")
    assert cli.main(["refine", str(source), "--denoising-strength", "0", "--scale", "2", "--out",
                     str(tmp_path / "large.apng")]) == 0
    found = decoded(tmp_path / "large.apng", (128, 128))[..., 3]
    expected = [Image.fromarray(frame[..., 3]).resize((128, 128), Image.Resampling.LANCZOS) for frame in frames]
    assert np.array_equal(found, np.stack(expected))
    assert "opaque" not in capsys.readouterr().err


def test_interpolated_frames_have_an_alpha_channel_between_their_neighbours(tmp_path, capsys):
    """Own frames are the same bit for bit, clear parts included. A blend on white is the mean of both on white."""
    first = np.random.default_rng(0).integers(0, 200, (SIZE, SIZE, 4)).astype(np.uint8)
    first[..., 3] = np.linspace(0, 200, SIZE)
    frames = [first, first + np.uint8(20)]
    frames[1][:8, :, 3] = 255
    source = write_video(tmp_path / "in.mkv", frames, "ffv1", "bgra")
    assert cli.main(["interpolate", str(source), "--method", "blend", "--format", "MKV,GIF,WEBM", "--out",
                     str(tmp_path / "more.mkv")]) == 0
    assert "GIF cannot contain transparency, which is white" in capsys.readouterr().err
    found = decoded(tmp_path / "more.mkv", (SIZE, SIZE))
    assert len(found) == 4 and all(np.array_equal(found[2 * i], frame) for i, frame in enumerate(frames))
    mean = (frames[0][..., 3].astype(int) + frames[1][..., 3]) / 2
    assert np.abs(found[1][..., 3] - mean).max() <= 0.5
    shown = [flat(frame) for frame in (*frames, found[1])]
    assert np.abs(shown[2] - (shown[0] + shown[1]) / 2).max() <= 1.5
    webm = decoded(tmp_path / "more.webm", (SIZE, SIZE))
    assert webm.shape[-1] == 4 and np.abs(webm[1][..., 3] - mean).mean() < 8
    assert cli.main(["interpolate", str(tmp_path / "more.webm"), "--method", "blend", "--out",
                     str(tmp_path / "again.mkv")]) == 0
    assert np.abs(decoded(tmp_path / "again.mkv", (SIZE, SIZE))[2][..., 3] - mean).mean() < 8


def flat(frame):
    """A frame on white, by the definition of an alpha channel."""
    share = frame[..., 3:] / 255
    return frame[..., :3] * share + 255 * (1 - share)

"""`animatediff interpolate`: the written files are read by Pillow and PyAV."""
from __future__ import annotations

import json
import subprocess

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from animatediff.faces.cli import main as cli
from animatediff.media import metadata
from animatediff.media.write import ClipWriter


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """main(arguments) in an empty folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        code = cli.main([str(each) for each in arguments])
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return code, out.out, out.err

    return command


def frames(count=4):
    pattern = np.random.default_rng(0).integers(0, 60, (16, 16, 3))
    return [(pattern + 60 + 5 * i).astype(np.uint8) for i in range(count)]


def clip(path, count=4, fps=8.0, text="", formats=None, loop=0, **settings):
    about = {"animatediff": "0", "settings": {"fps": fps, **settings}}
    with ClipWriter(path, formats or path.suffix[1:], fps, loop, text or json.dumps(about)) as writer:
        for frame in frames(count):
            writer.add(frame)
    return path


def gif(path):
    with Image.open(path) as image:
        return [(image.seek(i) or image.info["duration"]) for i in range(image.n_frames)]


def test_twice_as_many_frames_as_long_as_before(run, tmp_path):
    clip(tmp_path / "a.gif", prompt="x")
    code, out, _ = run("interpolate", "a.gif", "--method", "blend", "--out", "b.gif", "--json")
    assert code == 0 and json.loads(out)["frames"] == 8 and json.loads(out)["fps"] == 16
    assert sum(gif("b.gif")) == sum(gif("a.gif")) == 500 and len(gif("b.gif")) == 8
    about = json.loads(metadata.read("b.gif"))
    assert about["settings"] == {"fps": 8.0, "prompt": "x"}
    assert about["interpolation"] == [{"method": "blend", "from_fps": 8.0, "fps": 16.0}]


def test_again_goes_on_from_the_rate_that_it_has(run, tmp_path):
    clip(tmp_path / "a.webp")
    assert run("interpolate", "a.webp", "--method", "blend", "--out", "b.webp")[0] == 0
    assert run("interpolate", "b.webp", "--method", "blend", "--times", "3", "--out", "c.webp")[0] == 0
    assert [step["fps"] for step in json.loads(metadata.read("c.webp"))["interpolation"]] == [16, 48]


@pytest.mark.parametrize(("flags", "count", "fps"), [
    (("--fps", "24"), 12, 24), (("--fps", "20"), 10, 20), (("--fps", "6"), 3, 6),
    (("--times", "4", "--fps", "8"), 16, 8),
    (("--times", "3", "--from-fps", "23.976"), 12, 72000 / 1001)])
def test_rates(run, tmp_path, flags, count, fps):
    clip(tmp_path / "a.mp4")
    code, _, err = run("interpolate", "a.mp4", *flags, "--method", "blend", "--out", "b.mp4")
    assert code == 0, err
    with av.open("b.mp4") as file:
        stream = file.streams.video[0]
        assert len(list(file.decode(stream))) == count and float(stream.average_rate) == pytest.approx(fps)


@pytest.mark.parametrize(("loop", "flag", "last"), [
    ("none", "auto", 3), ("seamless", "auto", 1.5), ("none", "yes", 1.5), ("seamless", "no", 3)])
def test_the_last_frame_of_a_loop_leads_to_the_first(run, tmp_path, loop, flag, last):
    clip(tmp_path / "a.apng", closed_loop=loop, frames=4)
    assert run("interpolate", "a.apng", "--method", "blend", "--loop", flag, "--format", "PNG", "--out", "b/")[0] == 0
    found = [np.asarray(Image.open(path)).astype(float) for path in sorted((tmp_path / "b").glob("*/*.png"))]
    assert len(found) == 8 and abs((found[-1] - frames()[0]).mean() / 5 - last) < 0.2


def test_a_clip_of_the_webui_keeps_its_text(run, tmp_path):
    text = 'a cat\nSteps: 20, AnimateDiff: "enable: True, closed_loop: ping-pong"'
    clip(tmp_path / "a.gif", text=text)
    code, _, err = run("interpolate", "a.gif", "--method", "blend", "--out", "b.gif")
    assert code == 0 and "as a loop" in err
    assert metadata.read("b.gif") == f"{text}, AnimateDiff interpolation: blend 8 to 16 fps"


def test_frames_that_are_shown_unequally_long(run, tmp_path):
    """Ten frames of 0.1 s, then one of 1 s. At 10 fps the ten stay as they are, and nine come between the last two."""
    pictures = [Image.fromarray(frame) for frame in frames(12)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=[100] * 10 + [1000, 100],
                     lossless=True)
    assert run("interpolate", "a.webp", "--method", "blend", "--fps", "10", "--format", "PNG", "--out", "b/")[0] == 0
    found = [np.asarray(Image.open(path)).astype(float).mean() for path in sorted((tmp_path / "b").glob("*/*.png"))]
    steps = np.diff(found)
    assert len(found) == 21 and np.allclose(steps[:10], 5, atol=0.1) and np.allclose(steps[10:20], 0.5, atol=0.6)


def test_a_folder_of_pictures(run, tmp_path):
    clip(tmp_path / "a", formats="PNG", fps=12.0)
    code, out, _ = run("interpolate", tmp_path / "a" / "clip", "--method", "blend", "--out", "b/")
    assert code == 0 and "8 frames at 24 fps" in out and len(list((tmp_path / "b").glob("*/*.png"))) == 8


@pytest.mark.parametrize(("flags", "seconds"), [((), 2), (("--times", "2", "--fps", "8"), None)])
def test_sound_stays_beside_the_frames(run, flags, seconds):
    sources = ["-f", "lavfi", "-i", "testsrc=s=32x32:r=8:d=2", "-f", "lavfi", "-i", "sine=f=440:d=2"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *sources, "a.mp4"], check=True)
    code, _, err = run("interpolate", "a.mp4", "--method", "blend", "--out", "b.mp4", *flags)
    with av.open("b.mp4") as file:
        found = [float(frame.time) for frame in file.decode(audio=0)] if file.streams.audio else None
    assert code == 0 and (found is None) == (seconds is None) == ("sound was left out" in err)
    assert found is None or abs(found[-1] - seconds) < 0.1


@pytest.mark.parametrize(("words", "said"), [
    (("gone.gif",), "gone.gif"), (("a.gif", "--times", "0"), "--times"), (("a.gif", "--method", "magic"), "--method"),
    (("a.gif", "--times", "1"), "--times"), (("a.gif", "--method", "off"), "--method"),
    (("a.gif", "--model", "gone.pkl"), "gone.pkl"), (("a.gif", "--model", "a.gif"), "a.gif"),
    (("a.gif", "--fps", "2000"), "--fps"), (("a.gif", "--out", "x.doc"), "x.doc"), (("text.txt",), "text.txt"),
    (("sizes", "--out", "outputs/b.gif"), "sizes: picture 2 has 8x4 pixels, the first one 4x4")])
def test_what_is_refused(run, tmp_path, words, said):
    clip(tmp_path / "a.gif")
    (tmp_path / "text.txt").write_text("no clip")
    (tmp_path / "sizes").mkdir()
    for number, width in enumerate((4, 8)):
        Image.new("RGB", (width, 4)).save(tmp_path / "sizes" / f"{number}.png")
    code, _, err = run("interpolate", *words)
    assert code in (2, 3, 4) and said in err and not list(tmp_path.glob("outputs/*"))

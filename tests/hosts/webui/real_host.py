"""A real host as fixtures: the WebUI for this folder's tests, hosts of Forge's family for those of ../forge."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from webui_host import A1111, DEMO, ROOT, Host, Kind, write_controlnet

HERE = Path(__file__).parent


@contextmanager
def started(kind: Kind, folder: Path) -> Iterator[Host]:
    """A host of this kind with this checkout as its extension, and its state after a clean start."""
    extensions = {"animatediff": ROOT, "animatediff-test-probe": HERE / "probe"}
    motion = folder / "motion"
    motion.mkdir()
    (motion / "motion.safetensors").symlink_to(DEMO / "motion.safetensors")
    host = Host(folder, extensions, {"animatediff_model_path": str(motion)}, kind=kind)
    host.motion = motion
    if kind is not A1111:  # hosts with a ControlNet of their own read its models as they start
        write_controlnet(folder / "models" / "ControlNet")
    try:
        host.start()
        learn(host)
        yield host
    finally:
        host.stop()


def learn(host: Host) -> None:
    """Record the host's state before any clip is made."""
    host.clean_pictures, host.clean_state, host.dirty = host.plain(), host.state(), ""


def differences(host: Host) -> str:
    """Return the differences that a case has left behind, or ""."""
    try:
        host.post("/test-probe/reset", {}).expect()
        pictures, state = host.plain(), host.state()
    except (OSError, AssertionError) as error:
        return f"the WebUI does not answer as it did: {error}"
    found = [f"the plain {name} picture differs" for name, bytes_ in pictures.items()
             if bytes_ != host.clean_pictures[name]]
    for key, value in state.items():
        before = host.clean_state[key]
        if value == before:
            continue
        if isinstance(value, dict):
            names = [k for k in {**before, **value} if before.get(k, "nothing") != value.get(k, "nothing")]
            found += [f"{key}: {k} was {before.get(k, 'not there')!r:.80}, is {value.get(k, 'not there')!r:.80}"
                      for k in names]
        elif isinstance(value, list):
            found.append(f"{key}: gone {sorted(set(before) - set(value))[:5]}, "
                         f"new {sorted(set(value) - set(before))[:5]}")
        else:
            found.append(f"{key}: was {before!r:.80}, is {value!r:.80}")
    return "\n".join(found)


@pytest.fixture
def host(clean_host):
    """The WebUI in the state of its clean start, compared with it, bit for bit, after the case.

    Nothing happens between two cases, so one comparison serves as the check after the first and before the second. If a
    case leaves differences, it fails, and the next one gets a newly started WebUI.
    """
    if clean_host.dirty:
        clean_host.restart()
        now = differences(clean_host)
        assert not now, f"a WebUI started anew is not as the first was: {now}"
        clean_host.dirty = ""
    clean_host.mark()
    yield clean_host
    clean_host.dirty = differences(clean_host)
    if clean_host.dirty:
        pytest.fail(f"the case left behind: {clean_host.dirty}\n--- the WebUI printed\n{clean_host.log()[-3000:]}")


@pytest.fixture
def files(host):
    """files(): the files written under the outputs folder since the case began, as relative paths."""
    def listed() -> set[Path]:
        return {p.relative_to(host.outputs) for p in host.outputs.rglob("*") if p.is_file()}

    before = listed()
    return lambda: sorted(listed() - before)

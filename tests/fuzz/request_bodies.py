"""Bodies of requests for the fuzz tests: well-formed ones with odd values in some places, and their bytes mutated."""
from __future__ import annotations

import base64
import json
import random
from typing import Any

from animatediff.settings import BY_NAME
from tests.fuzz.inputs import mutated

PNG = base64.b64encode(bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f64540"
    "0000000049454e44ae426082")).decode()
# Names of files that no request may have opened, and names that no file can have.
PLACES = (
    "/etc/shadow", "/etc/hostname", "/nowhere/at/all.png", "../../../../etc/hostname", "~root/.bashrc", "~/.bashrc",
    "~nosuchuser/x.png", "file:///etc/hostname", "http://127.0.0.1:1/x.png", "\\\\server\\share\\x.png",
    "//server/share/x.png", "/proc/self/environ", "/dev/zero", "/dev/stdin", "C:\\Windows\\win.ini", "CON", "x" * 5000,
    "a/" * 3000, "a\0.png", "..", ".", "/", "", "\ud800.png", "0" * 16, "0" * 16 + ".png", "pipe:0",
    "concat:/etc/hostname")
NUMBERS = (0, -1, 1, 2**31, 2**70, -2**70, 10**4000, 1e308, -1e308, 5e-324, 0.5,
           float("nan"), float("inf"), float("-inf"))
TEXTS = ("", " ", "0", "9" * 400, "1e999", "NaN", "text", "\u0000", "\ud83d", "\u202e", "\x1b[2J", "\uff10",
         "N" * 2000, "0: 1", "0: a\n8: b", "<lora:x:y>", "%s%n", "{}", "[]", "null", "true",
         "data:image/png;base64,", "data:,", PNG,
         PNG[:60])


def nested(depth: int, kind: type = list) -> Any:
    """Lists or objects in one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def odd(rng: random.Random) -> Any:
    """A value that no parameter, or only some, can have."""
    way = rng.randrange(9)
    if way < 2:
        return rng.choice(PLACES)
    if way < 4:
        return rng.choice(NUMBERS)
    if way < 6:
        return rng.choice(TEXTS)
    if way == 6:
        return [odd(rng) for _ in range(rng.randrange(4))]
    if way == 7:
        return {str(rng.choice(TEXTS)): odd(rng) for _ in range(rng.randrange(3))}
    return rng.choice((None, True, False, nested(rng.choice((3, 40, 400))), nested(30, dict)))


def settings(rng: random.Random) -> Any:
    """What stands in `args`: an object with names, of which up to two have odd values."""
    values: dict[str, Any] = {"enable": True, "motion_module": "motion.safetensors", "frames": 2, "formats": ["PNG"]}
    for _ in range(rng.randrange(3)):
        values[rng.choice([*BY_NAME, "video_path", "mask_path", "freeinit_iters", "unheard of"])] = odd(rng)
    return values


def entry(rng: random.Random) -> Any:
    """What stands in alwayson_scripts.AnimateDiff."""
    args: Any = [settings(rng)]
    way = rng.randrange(16)
    if way == 0:
        args = [odd(rng) for _ in range(rng.randrange(60))]
    elif way == 1:
        args = rng.choice((args[0], odd(rng)))
    elif way == 2:
        args += [odd(rng), odd(rng)]
    return odd(rng) if way == 3 else {"args": args, **({} if way != 4 else {"more": odd(rng)})}


def preflight(rng: random.Random) -> Any:
    """A body for the route of this name."""
    body: dict[str, Any] = {"prompt": "0: a\n8: b", "steps": 2, "alwayson_scripts": {"AnimateDiff": entry(rng)}}
    for _ in range(rng.randrange(3)):
        body[rng.choice(("prompt", "negative_prompt", "steps", "n_iter", "sampler_name", "sampler_index", "enable_hr",
                         "denoising_strength", "hr_second_pass_steps", "hr_sampler_name", "init_images",
                         "alwayson_scripts", "unheard of"))] = odd(rng)
    return body if rng.randrange(20) else odd(rng)


def schedule(rng: random.Random) -> Any:
    """A body for the route of this name."""
    body: dict[str, Any] = {"prompt": "0: a\n8: b", "settings": {"frames": 9}}
    if rng.randrange(2):
        body["settings"] = settings(rng)
    for _ in range(rng.randrange(3)):
        body[rng.choice(("prompt", "negative_prompt", "settings", "to", "unheard of"))] = odd(rng)
    return body if rng.randrange(20) else odd(rng)


def raw(rng: random.Random, body: Any) -> bytes:
    """A body as it is sent, now and then damaged."""
    data = json.dumps(body).encode()
    return data if rng.randrange(4) else mutated(rng, [data])

"""Infotexts: `key: value, key: "value, with a comma"` in the last line."""
import json
import re

from PIL import Image

PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


class PasteField(tuple):
    def __new__(cls, component, target, *, api=None):
        return super().__new__(cls, (component, target))

    def __init__(self, component, target, *, api=None):
        self.component, self.api = component, api
        self.label, self.function = (target, None) if isinstance(target, str) else (None, target)


def quote(text):
    return json.dumps(text, ensure_ascii=False) if any(c in str(text) for c in ",\n:") else text


def unquote(text):
    try:
        return json.loads(text) if text[:1] == text[-1:] == '"' else text
    except ValueError:
        return text


def image_from_url_text(item):
    return Image.open(item["name"].rsplit("?", 1)[0])


def parse_generation_parameters(text, skip_fields=None):
    *lines, last = text.strip().split("\n")
    return {"Prompt": "\n".join(lines), **{key: unquote(value) for key, value in PARAMETER.findall(last)}}

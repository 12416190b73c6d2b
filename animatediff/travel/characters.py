"""Replace look-alike characters from other scripts, keyboards and editors by the ASCII characters of the syntaxes."""
from __future__ import annotations

import re
import unicodedata

DOUBLE, SINGLE = "\"“”„‟«»″〝〞＂", "'‘’‚‛′＇‹›"
_LIKE = {
    ":": "：﹕︓∶꞉˸ː։׃",
    ",": "，、﹐،",
    "%": "％﹪٪",
    "-": "−－﹣‐‑‒–",
    "\"": DOUBLE[1:],
    "'": SINGLE[1:],
    "{": "｛﹛",
    "}": "｝﹜",
    "@": "＠﹫",
    "(": "（",
    ")": "）",
    ";": "；",
    "=": "＝",
    ".": "．",
    "<": "＜﹤〈《⟨‹",
    ">": "＞﹥〉》⟩›",
    "|": "｜",
    " ": "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
         "\ufeff\u200b\u200c\u200d\u2060\u200e\u200f\u00ad\t",
}
_PLAIN = {ord(other): plain for plain, others in _LIKE.items() for other in others if plain not in "<>"}
_IN_TAGS = _PLAIN | {ord(other): plain for plain in "<>" for other in _LIKE[plain]}
_OPEN, _CLOSE = (f"[{plain}{_LIKE[plain]}]" for plain in "<>")
_TAG = re.compile(rf"(?:{_OPEN}|&lt;)(?P<blank>\s{{0,3}})(?P<kind>lora|lyco)\s{{0,3}}[:{_LIKE[':']}]"
                  rf"(?P<rest>[^<>{_LIKE['<']}{_LIKE['>']}&]{{1,1000}})(?:{_CLOSE}|&gt;)", re.IGNORECASE)


def plain(text: str) -> str:
    """Return the text with digits, blanks, quotes, colons and brackets in ASCII.

    The length does not change, so offsets in the result are offsets in `text`.
    """
    return text if text.isascii() and "\t" not in text else "".join(map(_digit, text.translate(_PLAIN)))


def with_tags(text: str) -> str:
    """Return the text with LoRA tags in the form that hosts read: `＜LORA：zoom-in：1＞` becomes `<lora:zoom-in:1>`."""
    return _TAG.sub(_tag, text)


def _tag(found: re.Match[str]) -> str:
    rest, exact = found["rest"], found[0].startswith(f"<{found['kind']}:")
    if not exact:
        rest = "".join(map(_digit, rest.translate(_IN_TAGS)))
    return f"<{found['kind'].lower()}:{rest.strip() if not exact else rest}>"


def _digit(character: str) -> str:
    """Return the ASCII digit for a decimal digit of any script, and any other character as it is."""
    value = unicodedata.decimal(character, None) if character > "\x7f" else None
    return character if value is None else str(value)

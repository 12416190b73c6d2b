"""The lines below the gallery: what the buttons for finished clips would do with the selected clip."""
from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from animatediff.errors import AnimateDiffError, MediaError
from animatediff.hosts.a1111 import finished, words
from animatediff.hosts.a1111.page_lines import box, paragraph

CALLS = "UNet calls"


def lines(selected: Callable[[], finished.Source], controls: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the lines as HTML, "" if no clip is selected.

    selected: returns the selected clip. MediaError if there is none.
    controls: the values of each operation's controls, by operation and parameter name.
    """
    try:
        source = selected()
        source.read()
    except MediaError:  # the gallery is empty, or a picture is selected
        return ""
    except Exception as error:  # the page must stay usable
        return _unexpected(error)
    return box("".join(_line(finished.OPERATIONS[name], source, given) for name, given in controls.items()))


def _line(operation: finished.Operation, source: finished.Source, controls: Mapping[str, Any]) -> str:
    try:
        planned = operation.plan(source, operation.values(controls))
        found = planned.preflight()
    except AnimateDiffError as error:
        text = f"{operation.symbol} {words.error(error.named(operation.meant))}"
        return paragraph("ad-problem", text)
    except Exception as error:
        return _unexpected(error)
    calls = "".join(f'<span class="ad-fact"><span>{label}</span> <b>{html.escape(value)}</b></span>'
                    for label, value in found.facts if label == CALLS)
    about = f"{operation.symbol} {html.escape(words.value(str(planned)))}"
    problems = [paragraph("ad-problem", words.error(error)) for error in found.errors]
    notices = [paragraph("ad-notice", words.notice(text)) for text in found.notices]
    return f'<p><span class="ad-fact">{about}</span> {calls}</p>{"".join(problems + notices)}'


def _unexpected(error: Exception) -> str:
    from modules import errors

    errors.report("AnimateDiff cannot tell what the buttons would do", exc_info=True)
    return paragraph("ad-problem", f"{type(error).__name__}: {error}")

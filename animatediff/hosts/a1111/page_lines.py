"""The lines on the page that say what a run will do, from the values of our controls and the host's."""
from __future__ import annotations

import html
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from animatediff import settings as table
from animatediff import travel
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import words

if TYPE_CHECKING:
    from animatediff.clip.preflight import Preflight

OFF = "Not enabled. With Enable AnimateDiff:"
LONGEST_TABLE, MOST_FRAMES = 300, 1000  # limits of a schedule's table: rows shown, frames read
_number = count()  # makes each output different: gradio updates only changed ones, and the page marks outdated lines


def lines(ours: dict[str, Any], theirs: dict[str, Any], *, from_picture: bool) -> str:
    """Return the lines as HTML. ours, theirs: values of our controls and of the host's, by name."""
    try:
        return _html(_preflight(ours, theirs, from_picture), enabled=bool(ours["enable"]))
    except AnimateDiffError as error:
        return box(paragraph("ad-problem", words.error(error)))
    except Exception as error:  # the page must stay usable; the run itself does not depend on this
        from modules import errors

        errors.report("AnimateDiff cannot tell what the run will do", exc_info=True)
        return box(paragraph("ad-problem", f"{type(error).__name__}: {error}"))


def box(inner: str, css_class: str = "") -> str:
    return f'<div class="ad-preflight{css_class}" data-number="{next(_number)}">{inner}</div>'


def paragraph(css_class: str, text: str) -> str:
    return f'<p class="{css_class}">{html.escape(text)}</p>'


def _preflight(ours: dict[str, Any], theirs: dict[str, Any], from_picture: bool) -> Preflight:
    from animatediff.hosts.a1111.run_facts import of_run
    from animatediff.hosts.a1111.server_files import page_may_read_all

    # Empty values are not set, as in the request.
    given = {name: table.BY_NAME[name].for_people().read(value) for name, value in ours.items() if value is not None}
    return of_run(table.parse(given), theirs, from_picture=from_picture, anywhere=page_may_read_all())


def _html(found: Preflight, enabled: bool) -> str:
    """Return the lines. Labels are separate text nodes, because the host's localization replaces whole text nodes."""
    facts = "".join(f'<span class="ad-fact"><span>{html.escape(label)}</span> <b>{html.escape(words.value(value))}</b>'
                    "</span>" for label, value in found.facts)
    lines = [paragraph("ad-problem", words.error(error)) for error in found.errors]
    lines += [paragraph("ad-notice", words.notice(text)) for text in found.notices]
    off = "" if enabled else f'<span class="ad-off">{OFF}</span>'
    tables = "".join(f'<details class="ad-schedule"><summary>{name}</summary>{_table(schedule, found.frames)}</details>'
                     for name, schedule in found.schedules)
    css_class = ("" if enabled else " ad-disabled") + ("" if found.seam else " ad-no-seam")
    return box(f"<p>{off}{facts}</p>{''.join(lines)}{tables}", css_class)


def _table(schedule: travel.Schedule, frames: int) -> str:
    """Return the prompts of each frame as a table. A long schedule is cut off."""
    shown = replace(schedule, mixes=schedule.mixes[:MOST_FRAMES])
    lines = []
    for row in shown.rows():
        first, last = row["first"], row["last"]
        number = str(first) if first == last else f"{first}\N{EN DASH}{last}"
        for part in row["prompts"]:
            text = html.escape(part["text"]) or "<i>(empty)</i>"
            lines.append(f"<tr><td>{number}</td><td>{part['weight']:.0%}</td><td>{text}</td></tr>")
            number = ""
    if len(lines) > LONGEST_TABLE or frames > MOST_FRAMES:
        lines[LONGEST_TABLE:] = ["<tr><td>…</td><td></td><td></td></tr>"]
    head = "".join(f"<th>{name}</th>" for name in ("Frames", "Share", "Prompt"))
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"

"""A schedule as a text table."""
from __future__ import annotations

from animatediff.travel.schedule import Schedule


def table(schedule: Schedule) -> str:
    """Return aligned lines with frames, share and prompt."""
    lines = [("frames", "share", "prompt")]
    for row in schedule.rows():
        first, last = row["first"], row["last"]
        name = f"{first}" if first == last else f"{first}-{last}"
        for part in row["prompts"]:
            lines.append((name, f"{part['weight']:.0%}", part["text"] or "(empty)"))
            name = ""
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "\n".join(f"{a:>{widths[0]}}  {b:>{widths[1]}}  {c}" for a, b, c in lines)

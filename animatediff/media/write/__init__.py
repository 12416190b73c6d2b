"""Clips to files. A new format is a writer in a file of its own, and its name in `registry.WRITERS`."""
from __future__ import annotations

from animatediff.media.write.base import WriteError, WriteOptions, Writer
from animatediff.media.write.clip_writer import ClipWriter
from animatediff.media.write.registry import (
    WRITERS,
    check,
    format_of,
    names,
    probe,
    remove_leftovers,
    stem_of,
)

__all__ = ["WRITERS", "ClipWriter", "WriteError", "WriteOptions", "Writer", "check", "format_of", "names", "probe",
           "remove_leftovers", "stem_of"]

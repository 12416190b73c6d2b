"""Write clips to files. To add a format, write a Writer class in its own file and add it to `registry.WRITERS`."""
from __future__ import annotations

from animatediff.media.write.base import WriteError, WriteOptions, Writer
from animatediff.media.write.clip_writer import ClipWriter
from animatediff.media.write.places import NameTakenError, Target, check, check_apart, check_free
from animatediff.media.write.registry import WRITERS, format_of, names, probe

__all__ = ["WRITERS", "ClipWriter", "NameTakenError", "Target", "WriteError", "WriteOptions", "Writer", "check",
           "check_apart", "check_free", "format_of", "names", "probe"]

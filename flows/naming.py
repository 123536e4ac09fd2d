"""What the file that is written for an input is called."""

from __future__ import annotations

import os
from pathlib import Path

from flows.store import Row
from flows.views import record_id


def file_name(row: Row, ending: str) -> str:
    """The input's path and `.srt`; the record's id where that is too long for a file system."""
    path = Path(os.fsdecode(row.raw))
    if len(os.fsencode(path.name)) + len(ending) > 250:
        path = path.with_name(record_id(row))
    return f"{path}.{ending}"

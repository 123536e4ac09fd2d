"""One item -> one record: the library.

    from pipelines import extract

    record = extract("receipt.jpg", schema="receipt")
    record.output.total, record.fields["total"].grounding.box

`extract`, `clean`, `transcribe`, `repair`, `tag` and `call` are functions here and modules below
this package (`from pipelines.extract import subtask` works); all names are loaded when first used,
so that a parser process does not load a model runtime.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.folder import run_folder
    from pipelines.library import call, clean, extract, repair, tag, transcribe
    from pipelines.options import Options
    from pipelines.records import Check, FieldValue, Grounding, Record, Source, Word
    from pipelines.subtask import Subtask
    from pipelines.tools import Toolbox, Verbatim
    from pipelines.values import Locale

_HOMES = {
    **dict.fromkeys(("call", "clean", "extract", "repair", "tag", "transcribe"), "library"),
    **dict.fromkeys(("Check", "FieldValue", "Grounding", "Record", "Source", "Word"), "records"),
    "Options": "options",
    "Toolbox": "tools",
    "Verbatim": "tools",
    "Subtask": "subtask",
    "Locale": "values",
    "run_folder": "folder",
}

__all__ = [
    "Check", "FieldValue", "Grounding", "Locale", "Options", "Record", "Source", "Subtask",
    "Toolbox", "Verbatim", "Word", "call", "clean", "extract", "repair", "run_folder", "tag",
    "transcribe",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Python binds a submodule in its package when it is imported, which would hide the function of
    the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

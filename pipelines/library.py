"""The six subtasks as functions on a file, bytes, a picture or a waveform.

The embedded model is opened by the first call and closed at exit; `model` names another bundle,
`engine` is one that the caller opened. Files and bytes are parsed in a child process.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from pydantic import BaseModel

from model_onnx.errors import InputError
from pipelines.auto import AUTO, named
from pipelines.call import subtask as call_subtask
from pipelines.clean import SUBTASK as CLEAN
from pipelines.opening import Opener, source_of
from pipelines.options import Options
from pipelines.records import Record
from pipelines.repair import SUBTASK as REPAIR
from pipelines.subtask import Model, Subtask, run, unread
from pipelines.tag import subtask as tag_subtask
from pipelines.tools import Toolbox, load_toolbox
from pipelines.transcribe import SUBTASK as TRANSCRIBE

if TYPE_CHECKING:
    from PIL.Image import Image

    from model_onnx.engine import Engine

Schema = str | type[BaseModel] | Mapping[str, Any]


def extract(
    item: str | Path | bytes | Image | NDArray[Any],
    schema: Schema = AUTO,
    *,
    rate: int | None = None,
    model: str | Path | None = None,
    engine: Model | None = None,
    options: Options | None = None,
) -> Record:
    """A document or recording -> a record whose output is of the schema.

    item: a path; the bytes of a file; a PIL picture; uint8 pixels [H, W] or [H, W, 3]; or a mono
    waveform [n] (float32 in -1..1 or int16) with its `rate` in Hz.
    schema: a pydantic model (the output is an instance of it), a JSON Schema (the output is a
    dict), or a name as for `--schema`. Without one the item's kind is chosen among the built-in
    schemas (`record.schema_name`, `record.fields["schema"]`); a recording gives its transcript.

    An item that cannot be read or answered gives a record with status `failed` and its reason.
    Raises ConfigError for a schema that cannot be used, BundleError and RuntimeUnavailableError
    when the model cannot be opened, ValueError for a waveform without a rate.
    """
    return _run(named(schema), item, rate, model, engine, options)


def clean(
    item: str | Path | bytes | Image | NDArray[Any],
    *,
    model: str | Path | None = None,
    engine: Model | None = None,
    options: Options | None = None,
) -> Record:
    """Text with OCR errors -> a record with `output.text` and `output.edits`.

    item and errors: as for `extract`. Pixels without words are read first.
    """
    return _run(CLEAN, item, None, model, engine, options)


def transcribe(
    item: str | Path | bytes | Image | NDArray[Any],
    *,
    rate: int | None = None,
    model: str | Path | None = None,
    engine: Model | None = None,
    options: Options | None = None,
) -> Record:
    """A page or recording -> a record with `output.text` and, with times, `output.segments`.

    item and errors: as for `extract`.
    """
    return _run(TRANSCRIBE, item, rate, model, engine, options)


def repair(
    item: str | Path | bytes | Image | NDArray[Any],
    *,
    rate: int | None = None,
    model: str | Path | None = None,
    engine: Model | None = None,
    options: Options | None = None,
) -> Record:
    """A dictation -> a record with punctuated `output.text`, `output.segments`, `output.edits`.

    item and errors: as for `extract`. A recording is transcribed first.
    """
    return _run(REPAIR, item, rate, model, engine, options)


def tag(
    item: str | Path | bytes | Image | NDArray[Any],
    labels: Sequence[str],
    *,
    several: bool = False,
    rate: int | None = None,
    model: str | Path | None = None,
    engine: Model | None = None,
    options: Options | None = None,
) -> Record:
    """An item -> a record with `output.label`, `output.labels` and `output.probabilities`.

    labels: two or more; several: keep all that are at least half as probable as the best one.
    item and errors: as for `extract`.
    """
    subtask = tag_subtask(labels, several=several)
    return _run(subtask, item, rate, model, engine, options)


def call(
    item: str | Path | bytes | Image | NDArray[Any],
    tools: Toolbox | Sequence[Callable[..., Any]] | str,
    *,
    allowed: Sequence[str] = (),
    rate: int | None = None,
    model: str | Path | None = None,
    engine: Model | None = None,
    options: Options | None = None,
) -> Record:
    """An item -> a record with `output.calls` of the tools, and `output.answer`.

    tools: a Toolbox, typed functions, or a name as for `--tools`; allowed: names of those that run,
    calls of the others are proposals. item and errors: as for `extract`; ConfigError also for tools
    that cannot be declared.
    """
    if isinstance(tools, str):
        tools = load_toolbox(tools)
    toolbox = tools if isinstance(tools, Toolbox) else Toolbox(tuple(tools))
    return _run(call_subtask(toolbox, allowed=allowed), item, rate, model, engine, options)


def _run(
    subtask: Subtask,
    item: str | Path | bytes | Image | NDArray[Any],
    rate: int | None,
    model: str | Path | None,
    engine: Model | None,
    options: Options | None,
) -> Record:
    engine = engine or shared_engine(model)
    try:
        opened = _shared.opener().open(item, rate=rate)
    except InputError as error:
        return unread(engine, subtask, source_of(item), error)
    return run(engine, subtask, opened, options=options)


class _Shared:
    """What one process opens once: an engine per bundle and the parser's child process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] = {}
        self._opener: Opener | None = None

    def engine(self, model: str | Path | None) -> Engine:
        from model_onnx.engine import Engine

        key = str(Path(model).resolve()) if model else ""
        with self._lock:
            if key not in self._engines:
                self._engines[key] = Engine.open(model)
            return self._engines[key]

    def opener(self) -> Opener:
        with self._lock:
            self._opener = self._opener or Opener()
            return self._opener

    def close(self) -> None:
        with self._lock:
            for engine in self._engines.values():
                engine.close()
            self._engines.clear()
            if self._opener:
                self._opener.close()
            self._opener = None


_shared = _Shared()
atexit.register(_shared.close)


def shared_engine(model: str | Path | None = None) -> Engine:
    """The process's engine for a bundle (default: the embedded one), opened when first asked for.

    Raises BundleError, RuntimeUnavailableError.
    """
    return _shared.engine(model)

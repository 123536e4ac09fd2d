"""What comes out: one Record per input item, and the evidence that its values point to.

Knows no model and no file format. Boxes are (x0, y0, x1, y1) as fractions of the upright page, so
they hold at any resolution; times are seconds from the start of the recording.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["ok", "review", "truncated", "failed"]
Alignment = Literal["exact", "fuzzy", "none"]
Box = tuple[float, float, float, float]
Span = tuple[float, float]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Source(_Frozen):
    """The file that a record came from. pages: how many, of a video its
    frames; span: seconds; turned: clockwise degrees
    by which each page lies upright, beyond what the file says; None when no page is turned."""

    path: str
    sha256: str
    kind: Literal["document", "recording", "video", "text"]
    pages: int | None = None
    span: Span | None = None
    turned: tuple[int, ...] | None = None


class Word(_Frozen):
    """One word of the evidence where it stands. page: 1-based; times for recordings."""

    text: str
    page: int | None = None
    box: Box | None = None
    span: Span | None = None


class Grounding(_Frozen):
    """Where a value stands in the evidence. `none`: nothing like it there, or no words at all."""

    status: Alignment
    page: int | None = None
    box: Box | None = None
    span: Span | None = None
    evidence: str | None = None  # the evidence's own words that the value was matched to


class FieldValue(_Frozen):
    """One leaf of the output. path: `items[0].name`; words: as the evidence writes it.

    confidence: probability of the value's tokens under the mask, 0..1 (see docs on calibration);
    parsed: what code made of the words (ISO date, decimal amount), None where there is nothing to
    parse.
    """

    value: Any
    confidence: float
    grounding: Grounding
    parsed: str | None = None


class Check(_Frozen):
    """One named check of the output. `reason` is for a person; it never quotes the document."""

    name: str
    passed: bool
    reason: str = ""


class ModelInfo(_Frozen):
    bundle: str  # sha256 of the bundle
    provider: str
    prompt_version: str


class Timing(_Frozen):
    """Seconds and tokens."""

    parse_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    prompt_tokens: int = 0
    new_tokens: int = 0
    forced_tokens: int = 0
    thought_tokens: int = 0


class Record(_Frozen):
    """The result of one subtask on one item. `output` is None exactly when status is `failed`.

    thoughts: of the model before its answers, where they were asked for and kept.
    """

    id: str
    source: Source
    subtask: str
    schema_name: str | None
    output: Any
    fields: dict[str, FieldValue] = Field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    status: Status
    reason: str = ""
    model: ModelInfo
    timing: Timing = Timing()
    thoughts: tuple[str, ...] = ()

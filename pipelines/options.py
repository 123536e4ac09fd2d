"""How items are processed: what a person chooses, and what a bundle's model was made for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from model_onnx.bundle import Bundle
from model_onnx.errors import BundleError
from pipelines.values import Locale


@dataclass(frozen=True)
class Options:
    """How items are processed. Every one but time_limit may change the result.

    minimum_confidence: a value below it makes the record `review`, 0..1;
    soft_tokens: budget of one image in the 12B's sizes (70, 140, 280, 560, 1120);
    least_soft_tokens: what a page's image is tried with first; while the record is not ok, twice as
    many, up to soft_tokens (None: soft_tokens at once);
    frame_tokens: the same budget of one frame of a video that is shown as a video;
    context_tokens: prompt and answer of one request together (None: what the bundle was made for);
    new_tokens: the answer's budget; time_limit: seconds a request may take;
    reading: how pixels without words are read: line strips first, or the page as one image (None:
    what the bundle was made for);
    thinking: most tokens of a thought before an answer, with the channel's own (10 of the embedded
    model, 4 of the 12B); 0: none. Words that are only read for another subtask get none;
    keep_thoughts: whether the record has them;
    recognised: whether words from character recognition are used, or read again from the pixels;
    locale: how dates and numbers are parsed.
    """

    minimum_confidence: float = 0.5
    soft_tokens: int = 560
    least_soft_tokens: int | None = None
    frame_tokens: int = 70
    context_tokens: int | None = None
    new_tokens: int = 1024
    time_limit: float | None = 600.0
    reading: Literal["strips", "page"] | None = None
    recognised: Literal["use", "read"] = "use"
    locale: Locale = field(default_factory=Locale)
    thinking: int = 0
    keep_thoughts: bool = False

    @property
    def budgets(self) -> tuple[int, ...]:
        """What page images are tried with, one after another."""
        tried, budget = [], self.least_soft_tokens or self.soft_tokens
        while budget < self.soft_tokens:
            tried.append(budget)
            budget *= 2
        return (*tried, self.soft_tokens)


@dataclass(frozen=True)
class Habits:
    """What the model of a bundle was made for: `pipeline` in its generation_config.json.

    evidence_characters: longer evidence is cut to a digest (None: never);
    fields_per_request: top-level fields asked for at once (None: all);
    block_lines: most lines of a text that is corrected at once;
    tag_characters: how much of a text decides its label;
    strip_patches: the widest strip of a line;
    images_with_text: whether a page's picture helps beside its words;
    calibration: (raw, calibrated) points of the confidences of fields, interpolated;
    heard: share of the words of speech that were right when it was measured; the confidence of
    every word that the model hears is multiplied by it.
    """

    context_tokens: int
    reading: Literal["strips", "page"] = "strips"
    evidence_characters: int | None = None
    fields_per_request: int | None = None
    block_lines: int | None = None
    tag_characters: int | None = None
    strip_patches: int = 24
    images_with_text: bool = True
    calibration: tuple[tuple[float, float], ...] = ()
    heard: float = 1.0

    @classmethod
    def of(cls, bundle: Bundle) -> Habits:
        stated = dict(bundle.generation_config.get("pipeline") or {})
        stated.setdefault("context_tokens", min(bundle.config.max_positions, 32768))
        try:
            return cls(**stated)
        except TypeError as error:
            raise BundleError(
                f"generation_config.json, pipeline: {error}; expected only fields of "
                f"{sorted(cls.__dataclass_fields__)}; export the bundle again"
            ) from None

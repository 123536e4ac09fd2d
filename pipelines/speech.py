"""Where a recording holds speech, and where it is cut: levels in, spans out.

Knows no file format and no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.records import Span

FRAME_SECONDS = 0.02
_SILENT = -50.0  # decibels below full scale: nothing louder in it is silence
_PADDING = 0.2  # seconds kept around speech: consonants begin and end softly
_CLICK = 0.06  # seconds: shorter is no speech


@dataclass(frozen=True)
class Cutting:
    """Seconds. A clip is at most `longest`; a longer stretch is cut at the longest silence after
    `shortest`, or where it is softest. Silences of `pause` and more are not part of any clip."""

    shortest: float = 10.0
    longest: float = 20.0
    pause: float = 1.5


def spans_of(levels: NDArray[np.float64], cutting: Cutting) -> tuple[Span, ...]:
    """Clips, in seconds. levels: mean square of each frame of FRAME_SECONDS."""
    loud = 10 * np.log10(np.maximum(levels, 1e-12))
    speech = _speech(loud)
    stretches = _runs(~_long_runs(~speech, _frames(cutting.pause)) & _between(speech))
    spans = []
    for start, end in stretches:
        spans += _cut(start, end, loud, speech, cutting)
    limit = len(levels) * FRAME_SECONDS
    return tuple((start * FRAME_SECONDS, min(end * FRAME_SECONDS, limit)) for start, end in spans)


def _speech(loud: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Frames above the floor, without clicks, with padding.

    The threshold is 10 dB above the quietest tenth, but 15 dB below the loudest twentieth, so a
    recording without pauses is not taken for silence.
    """
    floor, top = np.percentile(loud, (10, 95))
    if loud.max() < _SILENT:
        return np.zeros(len(loud), bool)
    above = loud > max(-60.0, min(floor + 10, max(top, _SILENT) - 15))
    joined = ~_long_runs(~above, _frames(_PADDING))  # what lies inside a word is not a click's edge
    speech = joined & _long_runs(joined, _frames(_CLICK))
    reach = _frames(_PADDING)
    padded = np.convolve(speech, np.ones(2 * reach + 1), "full")[reach : reach + len(speech)]
    return padded > 0.5


def _cut(
    start: int, end: int, loud: NDArray[np.float64], speech: NDArray[np.bool_], cutting: Cutting
) -> list[tuple[int, int]]:
    shortest, longest = _frames(cutting.shortest), _frames(cutting.longest)
    spans = []
    while end - start > longest:
        low, high = start + shortest, start + longest
        silences = _runs(~speech[low:high])
        if silences:
            left, right = max(silences, key=lambda run: run[1] - run[0])
            stop = go_on = low + (left + right) // 2
        else:
            smooth = np.convolve(loud[low:high], np.ones(5) / 5, "same")
            stop = go_on = low + int(smooth[2:-2].argmin()) + 2
        spans.append((start, stop))
        start = go_on
    return [*spans, (start, end)]


def _between(speech: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True from the first to the last frame of speech."""
    inside = np.zeros(len(speech), bool)
    found = np.flatnonzero(speech)
    if len(found):
        inside[found[0] : found[-1] + 1] = True
    return inside


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _long_runs(mask: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """The mask without its runs shorter than `length`."""
    kept = np.zeros(len(mask), bool)
    for start, end in _runs(mask):
        kept[start:end] = end - start >= length
    return kept


def _frames(seconds: float) -> int:
    return max(1, round(seconds / FRAME_SECONDS))

"""What the environment says about a bundle's two decoders, for every engine that flows opens."""

from __future__ import annotations

import os
from typing import TypedDict

from model_onnx.errors import UsageError
from model_onnx.precision import GRAPH_OF, Precision


class Wanted(TypedDict):
    """Arguments of `Engine.open`; None: what suits the machine."""

    prefill: Precision | None
    decode: Precision | None


def precisions() -> Wanted:
    """Which decoder reads (SCANSCRIBE_PREFILL) and which writes (SCANSCRIBE_DECODE): `recipe` or
    `int8`, for bundles with both. Raises UsageError."""
    return Wanted(prefill=_wanted("SCANSCRIBE_PREFILL"), decode=_wanted("SCANSCRIBE_DECODE"))


def _wanted(name: str) -> Precision | None:
    value = os.environ.get(name) or "auto"
    if value not in ("auto", *GRAPH_OF):
        raise UsageError(f"got {name}={value}, expected auto, {' or '.join(GRAPH_OF)}")
    return next((precision for precision in GRAPH_OF if precision == value), None)

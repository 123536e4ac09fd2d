"""What the environment says about a bundle's decoders, drafter and caches, for every engine that
flows opens."""

from __future__ import annotations

import os
from typing import TypedDict, get_args

from model_onnx.codes import CacheKind
from model_onnx.drafting import Drafts
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


def drafts() -> Drafts:
    """Whether a bundle's drafter guesses (SCANSCRIBE_DRAFTS): `auto`, `on` or `off`. Raises
    UsageError."""
    value = os.environ.get("SCANSCRIBE_DRAFTS") or "auto"
    for known in get_args(Drafts):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"got SCANSCRIBE_DRAFTS={value}, expected auto, on or off")


def cache() -> CacheKind:
    """Whether answers are written with 8-bit rows of global layers (SCANSCRIBE_CACHE): `auto`,
    `float` or `int8`. Raises UsageError."""
    value = os.environ.get("SCANSCRIBE_CACHE") or "auto"
    for known in get_args(CacheKind):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"got SCANSCRIBE_CACHE={value}, expected auto, float or int8")


def _wanted(name: str) -> Precision | None:
    value = os.environ.get(name) or "auto"
    if value not in ("auto", *GRAPH_OF):
        raise UsageError(f"got {name}={value}, expected auto, {' or '.join(GRAPH_OF)}")
    return next((precision for precision in GRAPH_OF if precision == value), None)

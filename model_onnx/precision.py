"""Which of a bundle's two decoders reads prompts and which one writes answers.

A bundle may hold its decoder twice: as the recipe stores it (INT4: least to read for one row) and
with 8-bit products (4.7 times faster for 512 rows, 2.9 times for 16 sequences, 1.4 times slower for
one row: one local layer of the 12B on a core with AMX). The choice is made once for an engine, by
phase and never by the number of rows at hand, so an answer does not depend on its company.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.errors import ConfigError
from model_onnx.session import Provider, has_integer_units

Precision = Literal["recipe", "int8"]

GRAPH_OF: dict[Precision, str] = {"recipe": names.DECODER, "int8": names.DECODER_INT8}

# From so many sequences together a step on 8-bit weights is the faster one.
_INT8_DECODE_SLOTS = 4
_SHARE_OF_MEMORY = 0.8  # for weights; the rest is for caches and everything else


class Precisions(NamedTuple):
    """prefill: for prompts and their images; decode: for answers."""

    prefill: Precision
    decode: Precision


RECIPE = Precisions("recipe", "recipe")


def choose_precisions(
    bundle: Bundle,
    provider: Provider,
    *,
    slots: int,
    prefill: Precision | None = None,
    decode: Precision | None = None,
) -> Precisions:
    """What was asked for, else what suits the machine: 8 bits where its processor has units for
    them and its memory holds the weights. slots: sequences that are decoded together.
    Raises ConfigError when the bundle or the provider cannot do what was asked for.
    """
    for wanted in (prefill, decode):
        if wanted not in (None, *GRAPH_OF):
            raise ConfigError(f"precision: got {wanted!r}, expected one of {tuple(GRAPH_OF)}")
    possible = bundle.has_int8 and provider == "cpu"
    if "int8" in (prefill, decode) and not possible:
        raise ConfigError(
            f"precision int8: {bundle.directory} has no 8-bit decoder for {provider}; export the "
            "checkpoint with --int8-prefill for the CPU, or leave the option out"
        )
    useful = possible and has_integer_units()
    decode = decode or _first_that_fits(
        bundle, useful and slots >= _INT8_DECODE_SLOTS, prefill or "int8"
    )
    return Precisions(prefill or _first_that_fits(bundle, useful, decode), decode)


def _first_that_fits(bundle: Bundle, useful: bool, other: Precision) -> Precision:
    """int8, if it is of use and its weights fit beside those of the other phase."""
    graphs: set[Precision] = {"int8", other}
    return "int8" if useful and _weights(bundle, graphs) <= _memory() else "recipe"


def _weights(bundle: Bundle, precisions: set[Precision]) -> int:
    """Bytes that stay in memory. Refused matrices of the 8-bit decoder are the recipe's own."""
    files = {
        "recipe": names.DECODER_WEIGHTS,
        "int8": names.DECODER_INT8_WEIGHTS,
    }
    used = {files[precision] for precision in precisions} | {names.EMBEDDING_WEIGHTS}
    return sum(int(bundle.files[name]["bytes"]) for name in used)


def _memory() -> float:
    """Bytes of the machine that weights may take."""
    return _SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

"""Which of a bundle's two decoders reads prompts, which writes answers, and how many together.

A bundle may hold its decoder twice: as the recipe stores it (INT4: least to read for one row) and
with 8-bit products (4.7 times faster for 512 rows, 2.9 times for 16 sequences, 1.4 times slower for
one row: one local layer of the 12B on a core with AMX). The choice is made once for an engine, by
phase and never by the number of rows at hand, so an answer does not depend on its company.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.errors import ConfigError
from model_onnx.session import ELEMENT_TYPES, Provider, has_integer_units

Precision = Literal["recipe", "int8"]

GRAPH_OF: dict[Precision, str] = {"recipe": names.DECODER, "int8": names.DECODER_INT8}

# From so many sequences together a step on 8-bit weights is the faster one.
_INT8_DECODE_SLOTS = 4
USUAL_SLOTS = 8  # as long as memory was not looked at
# Sequences together at most. 16 rows on 8-bit weights take 1.2 times as long as 8, on 4-bit weights
# 1.8 times: there is little left to gain.
_MOST_SLOTS: dict[Precision, int] = {"recipe": 8, "int8": 16}
_SHARE_OF_MEMORY = 0.8  # for weights and caches; the rest is for everything else
_ROWS = 4096  # of a sequence on global layers: prompt and answer of a page; longer ones are rarer
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


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
    them and its memory holds the weights and the caches. slots: sequences decoded together.
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

    def fits(*precisions: Precision) -> bool:
        few = min(slots, _INT8_DECODE_SLOTS)
        return useful and _weights(bundle, set(precisions)) + _caches(bundle, few) <= _memory()

    if decode is None:
        # For few sequences 4 bits are faster. Where only one decoder fits, 8 bits make up for that
        # with the prompt, as long as the answer is shorter than 0.4 of it.
        many = slots >= _INT8_DECODE_SLOTS and fits(prefill or "int8", "int8")
        alone = prefill != "recipe" and fits("int8") and not fits("int8", "recipe")
        decode = "int8" if many or alone else "recipe"
    return Precisions(prefill or ("int8" if fits("int8", decode) else "recipe"), decode)


def choose_slots(bundle: Bundle, provider: Provider, precisions: Precisions) -> int:
    """How many sequences are decoded together: what fits beside the weights, within reason."""
    most = _MOST_SLOTS[precisions.decode]
    if provider != "cpu":
        return most
    left = _memory() - _weights(bundle, set(precisions)) - _caches(bundle, 0)
    return max(1, min(most, int(left // _sequence_bytes(bundle))))


def _weights(bundle: Bundle, precisions: set[Precision]) -> int:
    """Bytes that stay in memory. Refused matrices of the 8-bit decoder are the recipe's own."""
    files = {
        "recipe": names.DECODER_WEIGHTS,
        "int8": names.DECODER_INT8_WEIGHTS,
    }
    used = {files[precision] for precision in precisions} | {names.EMBEDDING_WEIGHTS}
    return sum(int(bundle.files[name]["bytes"]) for name in used)


def _caches(bundle: Bundle, slots: int) -> int:
    """Bytes of the rows of so many sequences and of the prompt that is being read."""
    return (slots + 1) * _sequence_bytes(bundle)


def _sequence_bytes(bundle: Bundle) -> int:
    """Rows of one sequence: 1 GB of the 12B in float32, nearly all of it the windows, whose buffers
    have some room to spare."""
    config = bundle.config
    rows = {"local": 5 * config.sliding_window // 4, "global": min(_ROWS, config.max_positions)}
    values = sum(2 * spec.kv_heads * spec.head_dim * rows[spec.kind] for spec in config.layers)
    return values * ELEMENT_TYPES[bundle.activation_type].dtype.itemsize


def _memory() -> float:
    """Bytes that weights and caches may take of the machine, or of the container's share of it."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such hierarchy, or "max"
            limits.append(int(Path(path).read_text(encoding="ascii")))
    return _SHARE_OF_MEMORY * min(limits)

"""The comparison's table for README.md, from results/peers.json and results/peers-growth.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PEERS = {
    "llama": "llama.cpp Q4_0",
    "genai": "onnxruntime-genai INT4",
    "transformers": "transformers bfloat16",
}
_FULL = "extrapolated_48_layers_"


@dataclass(frozen=True)
class Line:
    """key: of the row. ours: the prefix of our figure. bar: how many times faster than llama.cpp we
    want to be."""

    label: str
    key: str
    ours: str
    bar: float | None = None
    unit: str = "ms"


LINES = (
    Line("prefill of 512 tokens", "prefill_512_ms", "int8_", 2),
    Line("prefill of 2048 tokens", "prefill_2048_ms", "int8_", 2),
    Line("1 token at 512", "decode_512_ms", "int4_", 0.9),
    Line("1 token at 8192", "decode_8192_ms", "int4_", 0.9),
    Line("1 token at 262144", "decode_262144_ms", "int4_"),
    Line("8 sequences at 512", "batch_8_ms", "int8_"),
    Line("16 sequences at 512", "batch_16_ms", "int8_", 1.2),
    Line("8 tokens verified at 512", "verify_8_ms", "int4_"),
    Line("**a page**", "page_1_ms", "ours_"),
    Line("**16 pages**", "page_16_ms", "ours_", 3),
    Line("load, cold", "load_cold_seconds", "mixed_", unit="s"),
    Line("load, warm", "load_warm_seconds", "mixed_", unit="s"),
    Line("memory (PSS), all rows done", "pss_bytes", "mixed_", unit="GB"),
)


def peer_table(result: Mapping[str, Any], growth: Mapping[str, Any] | None = None) -> str:
    """Markdown: our time, then each peer's with how many times it is ours; what is missing says
    why below. The last columns hold for 48 layers where the engine's head is known."""
    heads = " | ".join(f"{name} | times ours" for name in PEERS.values())
    lines = [
        f"| {result['layers']} layers and the head | ours | {heads} | bar | llama.cpp, 48 layers |",
        "|---" + "|---:" * (3 + 2 * len(PEERS)) + "|",
        *(_line(line, result) for line in LINES if f"{line.ours}{line.key}" in result),
        "",
        *_notes(result),
        *_growth(growth or {}),
        _origin(result),
    ]
    return "\n".join(lines)


def _line(line: Line, result: Mapping[str, Any]) -> str:
    ours = result[f"{line.ours}{line.key}"]
    cells = [line.label, _shown(ours, line.unit)]
    for name in PEERS:
        theirs = result.get(f"{name}_{line.key}")
        cells += ["", ""] if theirs is None else [_shown(theirs, line.unit), f"{theirs / ours:.2f}"]
    cells.append("" if line.bar is None else f">= {line.bar:g}")
    full = [result.get(f"{_FULL}{prefix}{line.key}") for prefix in (line.ours, "llama_")]
    cells.append(f"{full[1] / full[0]:.2f}" if full[0] and full[1] else "")
    return f"| {' | '.join(cells)} |"


def _notes(result: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, value in result.items():
        if key.endswith(("_reason", "_note")):
            name, _, row = key.rpartition("_")[0].partition("_")
            lines.append(f"- {PEERS.get(name, name)}, {row.replace('_', ' ')}: {value}.")
    restricted = result.get("ours_page_16_restricted_ms")
    if restricted is not None:
        lines.append(
            f"- 16 pages with the head on the allowed rows alone: {_shown(restricted, 'ms')}. The "
            f"answer has {result['page_answer_tokens']} tokens, the grammar forces "
            f"{result['page_forced_tokens']} of them."
        )
    if "memory_bytes_per_second" in result:
        lines.append(
            f"- The machine: {result['memory_bytes_per_second'] / 1e9:.1f} GB/s read, "
            f"{result['int8_operations_per_second'] / 1e12:.2f} 8-bit TOP/s."
        )
    return lines


def _growth(growth: Mapping[str, Any]) -> list[str]:
    counts = [key.split("_")[1] for key in growth if key.endswith("_page_ms")]
    shown = [
        f"{count}: {growth[f'growth_{count}_page_ms']:,.0f} ms, "
        f"{growth[f'growth_{count}_pss_bytes'] / 1e9:.2f} GB"
        for count in counts
    ]
    return [f"- Time of a page and memory by the number of pages: {'; '.join(shown)}."] * bool(
        shown
    )


def _origin(result: Mapping[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    peers = {name: result.get(f"{name}_version") for name in PEERS}
    named = {PEERS[name].split()[0]: version for name, version in peers.items() if version}
    packages = ", ".join(f"{name} {version}" for name, version in {**versions, **named}.items())
    where = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_bytes'] / 1e9:.0f} GB"
    return f"\n{result['date']}, {where}; {packages}: `{result['command']}`"


def _shown(value: float, unit: str) -> str:
    if unit == "GB":
        return f"{value / 1e9:.2f} GB"
    return f"{value:,.{1 if value < 10 else 0}f} {unit}"

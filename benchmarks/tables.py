"""The tables of performance and of the comparison in README.md, from the result files.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.peer_table import peer_table
from benchmarks.report import RESULTS, write_table

Unit = Literal["", "GB", "MB", "s", "ms", "%", "/s", "ratio"]
FULL_LAYERS = 48
EXTRAPOLATED = f"extrapolated_{FULL_LAYERS}_layers_"


@dataclass(frozen=True)
class Line:
    """One line of a group. key: in the result file; a line without its key is left out."""

    label: str
    key: str
    unit: Unit = ""


@dataclass(frozen=True)
class Group:
    """Lines from one result file."""

    title: str
    file: str
    lines: tuple[Line, ...]


GROUPS = (
    Group(
        "Export at the 12B's shapes",
        "export-12b",
        (
            Line("parameters", "parameters"),
            Line("checkpoint, bfloat16", "checkpoint_bytes", "GB"),
            Line("bundle", "bundle_bytes", "GB"),
            Line("bundle against bits times weights", "bundle_to_arithmetic_ratio", "ratio"),
            Line("peak memory", "peak_rss_bytes", "MB"),
            Line("processor time", "cpu_seconds", "s"),
            Line("wall time", "seconds", "s"),
        ),
    ),
    Group(
        "Decoding at the 12B's shapes",
        "decode-12b",
        (
            Line("decoder, 1 token at context 512", "decode_ms_at_512", "ms"),
            Line("decoder, 1 token at context 8192", "decode_ms_at_8192", "ms"),
            Line("decoder, 1 token at context 32768", "decode_ms_at_32768", "ms"),
            Line("head, 1 token (once, whatever the layers)", "head_ms", "ms"),
            Line("1 token at context 512, with the head", "token_ms", "ms"),
            Line("decoder, 4 sequences", "decode_batch_4_ms_at_512", "ms"),
            Line("decoder, 8 sequences", "decode_batch_8_ms_at_512", "ms"),
            Line("decoder, 16 sequences", "decode_batch_16_ms_at_512", "ms"),
            Line("decoder, 8 drafted tokens checked", "verify_8_ms_at_512", "ms"),
            Line("decoder, prefill of 512 tokens", "prefill_512_ms", "ms"),
            Line("share of a step outside ONNX Runtime", "python_outside_ort_share", "%"),
            Line("own memory of one process", "1_process_anonymous_bytes", "MB"),
            Line("memory of two processes (PSS)", "2_process_pss_bytes", "GB"),
        ),
    ),
    Group(
        "The drafter of the embedded model",
        "drafter",
        (
            Line("requests", "n"),
            Line("guesses that are right, of those checked", "acceptance", "%"),
            Line("- extract", "extract_acceptance", "%"),
            Line("- transcribe", "transcribe_acceptance", "%"),
            Line("- clean, without its text to copy from", "clean_acceptance", "%"),
            Line("- repair, without its text to copy from", "repair_acceptance", "%"),
            Line("least acceptance that pays here", "break_even_acceptance", "%"),
            Line("decoding with it, times as fast", "speedup", "ratio"),
            Line("- in the slowest round", "speedup_least", "ratio"),
            Line("- in the fastest round", "speedup_most", "ratio"),
            Line("- extract", "extract_speedup", "ratio"),
            Line("- transcribe", "transcribe_speedup", "ratio"),
            Line("- clean", "clean_speedup", "ratio"),
            Line("- repair", "repair_speedup", "ratio"),
        ),
    ),
    Group(
        "A drafter at the 12B's shapes",
        "drafter-12b",
        (
            Line("one token", "plain_ms", "ms"),
            Line("five tokens checked", "verify_5_ms", "ms"),
            Line("one guess", "draft_ms", "ms"),
            Line("least acceptance that pays here", "break_even_acceptance", "%"),
            Line("times as fast at an acceptance of 0.66", "speedup_at_0.66", "ratio"),
            Line("times as fast at an acceptance of 0.82", "speedup_at_0.82", "ratio"),
        ),
    ),
    Group(
        "`flows run`, start to end",
        "folder",
        (
            Line("samples/: pages/s, transcribe", "samples_transcribe_pages_per_second", "/s"),
            Line("samples/: pages/s, extract", "samples_extract_pages_per_second", "/s"),
            Line(
                "audio seconds/s on samples/, transcribe",
                "samples_transcribe_audio_seconds_per_second",
                "/s",
            ),
            Line(
                "audio seconds/s on samples/, extract",
                "samples_extract_audio_seconds_per_second",
                "/s",
            ),
            Line("generated files of four kinds", "folder_files"),
            Line("- files/s", "folder_files_per_second", "/s"),
            Line("- pages/s", "folder_pages_per_second", "/s"),
            Line("- busy cores", "folder_busy_cores", "ratio"),
            Line("- time in parsers", "stage_parse_share", "%"),
            Line("- time in preprocessing", "stage_preprocess_share", "%"),
            Line("- time in prefill", "stage_prefill_share", "%"),
            Line("- time in decoding", "stage_decode_share", "%"),
            Line("- time in writing", "stage_write_share", "%"),
            Line("small generated files in one run", "memory_files"),
            Line("- peak memory of the parent (RSS)", "parent_peak_rss_bytes", "MB"),
            Line("- peak memory of a parser child (RSS)", "child_peak_rss_bytes", "MB"),
            Line("- peak memory of the children together (PSS)", "children_peak_pss_bytes", "MB"),
            Line("- parent, last 100 files against 100-200", "parent_rss_growth_ratio", "ratio"),
            Line("- children, likewise", "children_pss_growth_ratio", "ratio"),
        ),
    ),
    Group(
        "Every night, with Prefect",
        "operate",
        (
            Line("documents of one line", "documents"),
            Line("- `flows run`: documents/s", "plain_documents_per_second", "/s"),
            Line("- as a flow: documents/s", "prefect_documents_per_second", "/s"),
            Line("- Prefect for each document", "overhead_ms_per_document", "ms"),
            Line("first record after the due time, warm model", "warm_first_record_seconds", "s"),
            Line("first record after the due time, cold", "cold_first_record_seconds", "s"),
            Line("two runs, 1 worker: documents/s", "documents_per_second_1_workers", "/s"),
            Line("two runs, 2 workers: documents/s", "documents_per_second_2_workers", "/s"),
        ),
    ),
)


def performance_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown of the groups whose results are given, by the file's name."""
    groups = [group for group in GROUPS if group.file in results]
    return "\n\n".join(_group(group, with_head(results[group.file])) for group in groups)


def with_head(result: Mapping[str, Any]) -> dict[str, Any]:
    """Adds what a token costs: the decoder, which grows with the layers, and the head, once."""
    whole = dict(result)
    for prefix in ("", EXTRAPOLATED):
        if "head_ms" in result and f"{prefix}decode_ms_at_512" in result:
            whole[f"{prefix}token_ms"] = result[f"{prefix}decode_ms_at_512"] + result["head_ms"]
    return whole


def _group(group: Group, result: Mapping[str, Any]) -> str:
    heads, prefixes = ["measured"], [""]
    if (layers := result.get("layers", FULL_LAYERS)) != FULL_LAYERS:
        heads = [f"{layers} layers, measured", f"{FULL_LAYERS} layers, extrapolated"]
        prefixes = ["", EXTRAPOLATED]
    lines = [
        f"**{group.title}** ({_origin(result)})",
        "",
        f"| | {' | '.join(heads)} |",
        "|---" + "|---:" * len(heads) + "|",
    ]
    for line in group.lines:
        if line.key in result:
            cells = [_shown(result.get(prefix + line.key), line.unit) for prefix in prefixes]
            lines.append(f"| {line.label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _origin(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    where = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_bytes'] / 1e9:.0f} GB"
    busy = f", load {result['load_before']:.1f} before" if "load_before" in result else ""
    return f"{result['date']}, {where}{busy}: `{result['command']}`"


def _shown(value: float | None, unit: Unit) -> str:
    if value is None:
        return ""
    match unit:
        case "GB":
            return f"{value / 1e9:.2f} GB"
        case "MB":
            return f"{value / 1e6:,.0f} MB"
        case "%":
            return f"{value:.1%}"
        case "ratio":
            return f"{value:.4f}"
        case "/s":
            return f"{value:.2f}"
        case "":
            return f"{value:,}"
    return f"{value:,.{1 if value < 10 else 0}f} {unit}"


def read_results(names: Sequence[str] = ()) -> dict[str, Mapping[str, Any]]:
    """What there is, by the file's name; names: instead of those of the groups."""
    paths = [RESULTS / f"{name}.json" for name in names or [group.file for group in GROUPS]]
    return {path.stem: json.loads(path.read_text("utf-8")) for path in paths if path.is_file()}


def main() -> None:
    write_table("performance", performance_table(read_results()))
    peers = read_results(("peers", "peers-growth"))
    if "peers" in peers:
        write_table("peers", peer_table(peers["peers"], peers.get("peers-growth")))


if __name__ == "__main__":
    main()

"""flows/metrics.py: sums that add up, in JSON and for Prometheus, without a word of a document."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.account import Outcome, Silent, Summary
from flows.metrics import SUMMARY, RequestMetrics, RunMetrics, metrics_port, render
from model_onnx.errors import UsageError
from model_onnx.sequence import Result


def samples(text: str) -> dict[tuple[str, str], float]:
    """(name, label values) -> value."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def run_metrics() -> RunMetrics:
    metrics = RunMetrics(Silent())
    metrics.started(6)
    stages = {"parse": 1.0, "prefill": 2.0, "decode": 3.0, "checks": 0.5}
    metrics.finished(
        Outcome("secret.pdf", "ok", "", False, 3, 0.0, 100, 20, stages),
    )
    metrics.finished(Outcome("secret.wav", "review", "low", False, 0, 12.5, 50, 10, stages))
    metrics.finished(Outcome("old.pdf", "ok", unchanged=True))
    metrics.finished(Outcome("bad.pdf", "failed", "damaged"))
    metrics.finished(Outcome("odd.pdf", "failed", "a text with secret words"))
    return metrics


def test_a_run_in_prometheus() -> None:
    text = render(run_metrics()).decode()
    assert "secret" not in text and "pdf" not in text
    found = samples(text)
    assert found["scanscribe_documents_total", "ok"] == 1
    assert found["scanscribe_documents_total", "unchanged"] == 1
    assert found["scanscribe_failures_total", "damaged"] == 1
    assert found["scanscribe_failures_total", "other"] == 1
    assert found["scanscribe_stage_seconds_total", "prefill"] == 4
    assert found["scanscribe_tokens_total", "new"] == 30
    assert found["scanscribe_pages_total", ""] == 3
    assert found["scanscribe_audio_seconds_total", ""] == 12.5
    assert found["scanscribe_documents_left", ""] == 1
    assert found["scanscribe_peak_memory_bytes", ""] > 1 << 20


def test_a_run_in_json(tmp_path: Path) -> None:
    account = Summary(6, 1, 1, 0, 2, 0, 1, 1)
    run_metrics().write(tmp_path, account, "extract", "b" * 64)
    text = (tmp_path / SUMMARY).read_text()
    content = json.loads(text)
    assert "secret" not in text
    assert content["subtask"] == "extract" and content["bundle"] == "b" * 64
    assert content["account"]["failed"] == 2 and content["exit_code"] == 3
    assert content["failures"] == {"damaged": 1, "other": 1}
    assert (content["pages"], content["audio_seconds"], content["new_tokens"]) == (3, 12.5, 30)
    assert content["stage_seconds"] == {"parse": 2, "prefill": 4, "decode": 6, "checks": 1}
    assert content["queue"] == 1 and content["peak_memory_bytes"] > 1 << 20


def result(tokens: int, finish: str = "stop") -> Result:
    logprobs = np.zeros(tokens, np.float32)
    ids, pieces = tuple(range(tokens)), (b"x",) * tokens
    return Result("x" * tokens, ids, pieces, logprobs, finish, None, 7, 5, 2, 0, 0, 0.5, 1.5)  # type: ignore[arg-type]


def test_requests_of_a_server() -> None:
    now = [100.0]
    metrics = RequestMetrics(lambda: now[0])
    metrics.answered(result(60), 0.2)
    metrics.answered(result(30, "truncated"), 5.0)
    metrics.answered(result(30), 5000.0)
    metrics.ended("refused")
    found = samples(render(metrics).decode())
    assert found["scanscribe_requests_total", "stop"] == 2
    assert found["scanscribe_requests_total", "refused"] == 1
    assert found["scanscribe_tokens_total", "prompt"] == 21
    assert found["scanscribe_tokens_total", "cached"] == 15
    assert found["scanscribe_stage_seconds_total", "decode"] == 4.5
    buckets = {edge: found["scanscribe_request_seconds_bucket", edge] for edge in ("0.1", "0.3")}
    assert buckets == {"0.1": 0, "0.3": 1}
    assert found["scanscribe_request_seconds_bucket", "10.0"] == 2
    assert found["scanscribe_request_seconds_bucket", "+Inf"] == 3
    assert found["scanscribe_request_seconds_count", ""] == 3
    assert found["scanscribe_request_seconds_sum", ""] == pytest.approx(5005.2)
    assert metrics.tokens_per_second() == 2.0
    now[0] += 61
    assert metrics.tokens_per_second() == 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_port_is_open_meanwhile_and_on_loopback_alone() -> None:
    port = free_port()
    with metrics_port(port, run_metrics()):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b"scanscribe_pages_total 3.0" in answer.read()
        with pytest.raises(UsageError, match=f"port {port}"), metrics_port(port, run_metrics()):
            pass
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
    with metrics_port(None, run_metrics()):
        pass

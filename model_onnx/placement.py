"""Which operators a provider left to the CPU: each of them costs copies there and back.

Knows what ONNX Runtime says about a session that recorded it; opens none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

RECORD = "session.record_ep_graph_assignment_info"  # session config entry, "1"
_CPU = "CPUExecutionProvider"


class Node(Protocol):
    @property
    def op_type(self) -> str: ...


class Part(Protocol):
    """Nodes that one provider runs, as `get_provider_graph_assignment_info` lists them."""

    @property
    def ep_name(self) -> str: ...
    def get_nodes(self) -> Iterable[Node]: ...


def left_to_cpu(parts: Iterable[Part]) -> dict[str, int]:
    """Operator -> how many of its nodes run on the CPU, most first."""
    counts = Counter(
        node.op_type for part in parts if part.ep_name == _CPU for node in part.get_nodes()
    )
    return dict(counts.most_common())


def describe(graphs: Mapping[str, Mapping[str, int]]) -> str:
    """`decoder.onnx: 2 Gather, 1 Shape; head.onnx: 1 Cast`, or `nothing`."""
    lines = [
        f"{graph}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"
        for graph, kinds in graphs.items()
        if kinds
    ]
    return "; ".join(lines) or "nothing"

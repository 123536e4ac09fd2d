"""What the machine can do at best: bytes read a second, and 8-bit products a second."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peer_process import timed

_READ_BYTES = 1 << 30
_ROWS, _IN, _OUT = 512, 3840, 15360
_ROUNDS = 3


def ceilings(threads: int) -> dict[str, float]:
    return {
        "memory_bytes_per_second": _reading(threads),
        "int8_operations_per_second": _products(threads),
    }


def _reading(threads: int) -> float:
    """Sums of 1 GiB in as many parts as threads; numpy lets go of the interpreter meanwhile."""
    values = np.ones(_READ_BYTES // 8, np.int64)
    parts = np.array_split(values, threads)
    with ThreadPoolExecutor(threads) as pool:
        taken = [timed(lambda: list(pool.map(np.bitwise_or.reduce, parts))) for _ in range(_ROUNDS)]
    return _READ_BYTES / statistics.median(taken)


def _products(threads: int) -> float:
    """MatMulInteger of 512 rows at the 12B's MLP shape: two operations a product."""
    weights = np.random.default_rng(0).integers(-127, 128, (_IN, _OUT), np.int8)
    zero = numpy_helper.from_array(np.array(128, np.uint8), "zero")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])],
        "ceiling",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (_ROWS, _IN))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, (_ROWS, _OUT))],
        [numpy_helper.from_array(weights, "w"), zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    rows = np.full((_ROWS, _IN), 7, np.uint8)
    taken = [timed(lambda: session.run(None, {"x": rows})) for _ in range(_ROUNDS + 1)]
    return 2 * _ROWS * _IN * _OUT / statistics.median(taken[1:])

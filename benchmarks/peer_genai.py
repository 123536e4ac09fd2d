"""onnxruntime-genai as a peer: `python -m benchmarks.peer_genai MODEL_DIRECTORY THREADS`, with the
text-only export of its own builder.

Its generator always computes the head, offers no cache to copy or to fill, and takes no rows of an
image: prompts are text of the same length, one document after the other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai

from benchmarks.peer_process import Timed, claim_output, serve, timed

_LEAST = 2048  # its caches have the length of the answer, which the window must fit into


class Genai:
    def __init__(self, path: Path, threads: int) -> None:
        config = genai.Config(str(path))
        config.overlay(
            json.dumps(
                {"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}
            )
        )
        self._model = genai.Model(config)
        self._layers = json.loads((path / "genai_config.json").read_text())["model"]["decoder"]

    def version(self) -> str:
        return str(genai.__version__)

    def ready(self) -> int:
        self._generator(1, 8).append_tokens(_tokens(1, 2))
        return int(self._layers["num_hidden_layers"])

    def prefill(self, rows: int) -> Timed:
        generator = self._generator(1, rows + 1)
        return {"seconds": timed(lambda: generator.append_tokens(_tokens(1, rows)))}

    def decode(self, context: int, batch: int) -> Timed:
        """The second step: the first one may still make room."""
        generator = self._generator(batch, context + 3)
        generator.append_tokens(_tokens(batch, context))
        for _ in range(2):
            seconds = timed(generator.generate_next_token)
        return {"seconds": seconds}

    def verify(self, context: int, rows: int) -> Timed:
        generator = self._generator(1, context + rows + 1)
        generator.append_tokens(_tokens(1, context))
        return {"seconds": timed(lambda: generator.append_tokens(_tokens(1, rows)))}

    def page(self, documents: int, shared: int, image: int, tail: int, answer: int) -> Timed:
        length = shared + image + tail

        def work() -> None:
            for _ in range(documents):
                generator = self._generator(1, length + answer + 1)
                generator.append_tokens(_tokens(1, length))
                for _ in range(answer):
                    generator.generate_next_token()

        return {"seconds": timed(work), "tokens": answer, "forced_tokens": 0}

    def _generator(self, batch: int, length: int) -> genai.Generator:
        length = max(length, _LEAST)
        parameters = genai.GeneratorParams(self._model)
        parameters.set_search_options(
            batch_size=batch, max_length=length, min_length=length, do_sample=False
        )
        return genai.Generator(self._model, parameters)


def _tokens(batch: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    return np.tile((np.arange(count, dtype=np.int32) * 7) % 50 + 40, (batch, 1))


if __name__ == "__main__":
    claim_output()
    serve(Genai(Path(sys.argv[1]), int(sys.argv[2])))

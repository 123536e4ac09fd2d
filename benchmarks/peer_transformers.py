"""transformers in bfloat16 as a peer, for reference: `python -m benchmarks.peer_transformers
CHECKPOINT THREADS`. Its own cache and masks; no quantisation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DynamicCache, Gemma4UnifiedForConditionalGeneration

from benchmarks.peer_process import Timed, claim_output, serve, timed


class Transformers:
    def __init__(self, path: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        model = Gemma4UnifiedForConditionalGeneration.from_pretrained(path, dtype=torch.bfloat16)
        self._text, self._head = model.eval().model.language_model, model.lm_head
        self._config = model.config.get_text_config()

    def version(self) -> str:
        return str(transformers.__version__)

    def ready(self) -> int:
        self._forward(self._cache(0, 1), 1, 1)
        return int(self._config.num_hidden_layers)

    def prefill(self, rows: int) -> Timed:
        return self._timed(0, 1, rows, 1)

    def decode(self, context: int, batch: int) -> Timed:
        return self._timed(context, batch, 1, batch)

    def verify(self, context: int, rows: int) -> Timed:
        return self._timed(context, 1, rows, rows)

    def head(self, rows: int) -> float:
        hidden = torch.randn(rows, self._config.hidden_size, dtype=torch.bfloat16)
        return timed(lambda: self._head(hidden))

    def _timed(self, context: int, batch: int, count: int, rows: int) -> Timed:
        cache = self._cache(context, batch)
        seconds, head = timed(lambda: self._forward(cache, batch, count)), self.head(rows)
        return {"seconds": seconds + head, "head_seconds": head}

    def _forward(self, cache: Any, batch: int, count: int) -> None:
        embeds = torch.randn(batch, count, self._config.hidden_size, dtype=torch.bfloat16)
        self._text(inputs_embeds=embeds, past_key_values=cache, use_cache=True)

    def _cache(self, context: int, batch: int) -> Any:
        """Zeros for `context` rows: the work of real rows."""
        cache = DynamicCache(config=self._config)
        if context:
            for index in range(self._config.num_hidden_layers):
                layer = self._config.per_layer_config[index]
                shape = (batch, layer.num_key_value_heads, context, layer.head_dim)
                rows = torch.zeros(shape, dtype=torch.bfloat16)
                cache.update(rows, rows.clone(), index)
        return cache


if __name__ == "__main__":
    claim_output()
    serve(Transformers(Path(sys.argv[1]), int(sys.argv[2])))

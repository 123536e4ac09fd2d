"""The peers' models: the 12B's widths and vocabulary, few layers, random weights, each in the form
that the peer reads: `python -m benchmarks.peer_models DIRECTORY [--layers 6]`.

Run it with a Python that has gguf, and for onnxruntime-genai its builder; what cannot be made is
said and left out. Needs 9 GB of memory and 15 GB of disk for six layers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.peer_process import Remote

HIDDEN, MLP, HEADS, VOCABULARY, WINDOW = 3840, 15360, 16, 262144, 1024
_BLOCK, _BYTES = 32, 18  # Q4_0: 32 weights in 18 bytes, the first two a float16 scale
_SCALE = 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=6, help="a multiple of 6")
    parser.add_argument("--python", default=sys.executable, help="one that has gguf")
    parser.add_argument("--genai-python", default=sys.executable, help="one that has the builder")
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    _ours(directory, arguments.layers)
    script = [arguments.python, "-c", _GGUF, str(directory / "model.gguf"), str(arguments.layers)]
    _try("llama.cpp's model", script, directory / "model.gguf")
    builder = [arguments.genai_python, "-m", "onnxruntime_genai.models.builder", "-m", "gemma"]
    places = ["-i", str(directory / "checkpoint"), "-o", str(directory / "genai")]
    rest = ["-p", "int4", "-e", "cpu", "-c", str(directory / "cache")]
    _try("onnxruntime-genai's model", [*builder, *places, *rest], directory / "genai")


_GGUF = """
import sys
from pathlib import Path
from benchmarks.peer_models import write_gguf
write_gguf(Path(sys.argv[1]), int(sys.argv[2]))
"""


def _try(what: str, command: list[str], result: Path) -> None:
    if result.exists():
        return
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        print(f"{what} could not be made: {reason[:300]}", file=sys.stderr)
        (result.parent / f"{result.name}.reason").write_text(reason[:300])


def _ours(directory: Path, layers: int) -> None:
    """The checkpoint stays: transformers and the builder read it."""
    from benchmarks import shapes
    from export import export_bundle

    if not (directory / "checkpoint").exists():
        shapes.write_checkpoint(directory / "checkpoint", shapes.published_config(layers))
    if not (directory / "bundle").exists():
        export_bundle(
            directory / "checkpoint", directory / "bundle", recipe="int4", int8_prefill=True
        )
    for precision in ("recipe", "int8"):  # writes the prepacked weights, which is done once
        Remote(sys.executable, "peer_ours", [str(directory / "bundle"), precision], 0).close()


def write_gguf(path: Path, layers: int) -> None:
    """The `gemma4` architecture in Q4_0, no tokenizer: 5 local layers, then a global one."""
    import gguf

    writer = gguf.GGUFWriter(path, "gemma4")
    local = [index % 6 != 5 for index in range(layers)]
    writer.add_block_count(layers)
    writer.add_context_length(131072)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([8 if is_local else 1 for is_local in local])
    writer.add_key_length(512)
    writer.add_value_length(512)
    writer.add_key_length_swa(256)
    writer.add_value_length_swa(256)
    writer.add_sliding_window(WINDOW)
    writer.add_sliding_window_pattern(local)
    writer.add_shared_kv_layers(0)
    writer.add_embedding_length_per_layer_input(0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_float32("gemma4.rope.freq_base_swa", 1e4)
    writer.add_rope_dimension_count(512)
    writer.add_rope_dimension_count_swa(256)
    writer.add_final_logit_softcapping(30.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    factors = np.array([1.0] * 64 + [1e30] * 192, np.float32)  # a quarter of the pairs rotates
    writer.add_tensor("rope_freqs.weight", factors)
    for name, shape in gguf_shapes(layers).items():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            writer.add_tensor(name, q4_0(*shape), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of the file but the rope's factors: [out, in], or [size]."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for index in range(layers):
        size, kv_heads = (256, 8) if index % 6 != 5 else (512, 1)
        block: dict[str, tuple[int, ...]] = {
            "attn_q": (HEADS * size, HIDDEN),
            "attn_k": (kv_heads * size, HIDDEN),
            "attn_output": (HIDDEN, HEADS * size),
            "ffn_gate": (MLP, HIDDEN),
            "ffn_up": (MLP, HIDDEN),
            "ffn_down": (HIDDEN, MLP),
            **dict.fromkeys(("attn_norm", "post_attention_norm", "ffn_norm"), (HIDDEN,)),
            "post_ffw_norm": (HIDDEN,),
            "attn_q_norm": (size,),
            "attn_k_norm": (size,),
            "layer_output_scale": (1,),
        }
        if kv_heads > 1:  # a global layer's values are its keys
            block["attn_v"] = (kv_heads * size, HIDDEN)
        shapes |= {f"blk.{index}.{name}.weight": shape for name, shape in block.items()}
    return shapes


def q4_0(rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Random codes under one scale, bytes [rows, columns / 32 * 18]."""
    pool = np.random.default_rng(0).integers(0, 256, 1 << 24, dtype=np.uint8)
    blocks = np.resize(pool, rows * columns // _BLOCK * _BYTES).reshape(-1, _BYTES).copy()
    blocks[:, :2] = np.frombuffer(np.float16(_SCALE).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def layers_of(directory: Path) -> int:
    raw = json.loads((directory / "checkpoint" / "config.json").read_text())
    return int(raw["text_config"]["num_hidden_layers"])


if __name__ == "__main__":
    main()

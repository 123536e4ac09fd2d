"""A bundle's graphs against the reference implementation in transformers, logit by logit.

The reference runs in float32 with the masks passed in: left alone, transformers 5.23 makes global
layers look both ways inside images and does not hold images to the window. torch and transformers
are imported only here, and only when a comparison is made.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from export.quantize import RECIPES, Target, parts, unpack
from export.weights import WEIGHT_FILES, all_weights, canonical_name
from model_onnx import bundle as names
from model_onnx.bundle import Bundle
from model_onnx.config import ModelConfig
from model_onnx.errors import RuntimeUnavailableError
from model_onnx.session import byte_products_saturate

FloatArray = npt.NDArray[np.float32]
_BLOCKED = np.float32(-1e30)


@dataclass(frozen=True)
class Prompt:
    """Token ids with their media: soft tokens fill the placeholders in order."""

    name: str
    ids: npt.NDArray[np.int64]  # [S]
    images: tuple[tuple[FloatArray, npt.NDArray[np.int64]], ...] = ()  # patches [N, D], (x, y)
    clips: tuple[FloatArray, ...] = ()  # frames [T, F]


@dataclass(frozen=True)
class Difference:
    """Logits of the bundle against a reference, over every position of every prompt."""

    largest: float  # max |difference|
    relative: float  # |difference| / |reference|
    same_top_token: float  # share of positions


@dataclass(frozen=True)
class ParityReport:
    """same_weights: the reference computes with the bundle's own (dequantised) weights, so this is
    the error of the graphs. original_weights: what quantisation changes as well."""

    prompts: tuple[str, ...]
    same_weights: Difference
    original_weights: Difference


def check_parity(bundle: Bundle, checkpoint: Path, *, seed: int = 0) -> ParityReport:
    """Compares text, image, audio and mixed prompts. Raises RuntimeUnavailableError."""
    prompts = sample_prompts(bundle.config, seed)
    reference = Reference(checkpoint, bundle)
    runner = GraphRunner(bundle)
    got = [runner.logits(prompt) for prompt in prompts]
    original = [reference.logits(prompt) for prompt in prompts]
    reference.load(stored_weights(bundle))
    same = [reference.logits(prompt) for prompt in prompts]
    return ParityReport(
        tuple(prompt.name for prompt in prompts), compare(got, same), compare(got, original)
    )


def compare(got: Sequence[FloatArray], expected: Sequence[FloatArray]) -> Difference:
    """Lists of logits [S, V]."""
    a, b = np.concatenate(got), np.concatenate(expected)
    return Difference(
        largest=float(np.abs(a - b).max()),
        relative=float(np.linalg.norm(a - b) / np.linalg.norm(b)),
        same_top_token=float((a.argmax(-1) == b.argmax(-1)).mean()),
    )


def sample_prompts(config: ModelConfig, seed: int = 0) -> tuple[Prompt, ...]:
    """Random prompts of every kind; the longest is about 40 positions."""
    rng = np.random.default_rng(seed)
    special = (config.image_token_id, config.video_token_id, config.audio_token_id)

    def text(count: int) -> list[int]:
        drawn = rng.integers(0, config.vocab_size, count).tolist()
        return [token if token not in special else 0 for token in drawn]

    def image(width: int, height: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        patches = rng.random((width * height, config.patch_dim), np.float32)
        places = [(x, y) for y in range(height) for x in range(width)]
        return patches, np.array(places, np.int64)

    picture, clip = image(3, 4), rng.standard_normal((5, config.frame_size), np.float32)
    pictured = [config.boi_token_id, *[config.image_token_id] * 12, config.eoi_token_id]
    spoken = [config.boa_token_id, *[config.audio_token_id] * 5, config.eoa_token_id]

    def prompt(name: str, *ids: int, **media: Any) -> Prompt:
        return Prompt(name, np.array(ids, np.int64), **media)

    return (
        prompt("text", *text(24)),
        prompt("image", *text(3), *pictured, *text(4), images=(picture,)),
        prompt("audio", *text(3), *spoken, *text(4), clips=(clip,)),
        prompt("mixed", *pictured, *text(5), *spoken, *text(6), images=(picture,), clips=(clip,)),
    )


def blocks(ids: npt.NDArray[np.int64], config: ModelConfig) -> npt.NDArray[np.int64]:
    """Per position: the number of its image or video frame, from 1, or 0 for text and audio."""
    inside = (ids == config.image_token_id) | (ids == config.video_token_id)
    starts = inside & ~np.concatenate(([False], inside[:-1]))
    numbers: npt.NDArray[np.int64] = np.cumsum(starts, dtype=np.int64) * inside
    return numbers


def visible(
    ids: npt.NDArray[np.int64], config: ModelConfig
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether query q sees key k, [S, S], for local and for global layers."""
    block, place = blocks(ids, config), np.arange(len(ids))
    q, k = place[:, None], place[None, :]
    same = (block[:, None] == block[None, :]) & (block[:, None] > 0)
    local = ((k <= q) | same) & (np.abs(q - k) < config.sliding_window)
    return local, k <= q


class GraphRunner:
    """Runs a bundle's graphs with plain feeds, prompt by prompt: slow, simple, no engine."""

    def __init__(self, bundle: Bundle, *, capacity: int = 256, decoder: Path | None = None) -> None:
        """decoder: another file for the decoder graph."""
        self.bundle, self.config, self.capacity = bundle, bundle.config, capacity
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if byte_products_saturate():
            options.add_session_config_entry("session.x64quantprecision", "1")
        files = {name: bundle.path(name) for name in names.GRAPHS}
        files[names.DECODER] = decoder or files[names.DECODER]
        self._sessions = {
            name: onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            for name, path in files.items()
        }
        target = _target(bundle)
        self._dtype = target.dtype
        self._unused_codes = self._one_row_of_codes()

    def embed(self, prompt: Prompt) -> npt.NDArray[Any]:
        """Embeddings [S, H] with the soft tokens in place."""
        config = self.config
        x: npt.NDArray[Any] = self.run(names.EMBEDDING, {names.INPUT_IDS: prompt.ids[None]})[0][0]
        soft = [
            self.run(
                names.VISION_EMBEDDER,
                {names.PIXEL_VALUES: patches, names.IMAGE_POSITION_IDS: places},
            )[0]
            for patches, places in prompt.images
        ]
        if soft:
            inside = np.isin(prompt.ids, (config.image_token_id, config.video_token_id))
            x[inside] = np.concatenate(soft)
        if prompt.clips:
            feeds = ({names.INPUT_FEATURES: clip} for clip in prompt.clips)
            heard = [self.run(names.AUDIO_EMBEDDER, feed)[0] for feed in feeds]
            x[prompt.ids == config.audio_token_id] = np.concatenate(heard)
        return x

    def logits(self, prompt: Prompt, splits: Sequence[int] = ()) -> FloatArray:
        """Logits [S, V] of every position; `splits`: where a new chunk starts."""
        x, borders = self.embed(prompt), [0, *splits, len(prompt.ids)]
        local, _ = visible(prompt.ids, self.config)
        caches = self.empty_caches()
        hidden = []
        for start, end in itertools.pairwise(borders):
            seen = local[start:end, :end]
            hidden.append(self.step(x[start:end], start, seen, caches))
        return self.head(np.concatenate(hidden))

    def empty_caches(self) -> dict[str, npt.NDArray[Any]]:
        """Zeroed buffers by input name, one sequence."""
        return {
            name: np.zeros((1, spec.kv_heads, self.capacity, spec.head_dim), self._dtype)
            for index, spec in enumerate(self.config.layers)
            for name in names.past_names(index)
        }

    def step(
        self,
        x: npt.NDArray[Any],
        start: int,
        seen: npt.NDArray[np.bool_],
        caches: dict[str, npt.NDArray[Any]],
    ) -> npt.NDArray[Any]:
        """x [S, H] at positions from `start`; seen [S, start + S]. Extends the caches -> [S, H]."""
        feeds = self.feeds(x, start, seen, caches)
        hidden, *present = self.run(names.DECODER, feeds, self._decoder_outputs())
        caches.update(zip(caches, present, strict=True))
        return np.asarray(hidden[0])

    def feeds(
        self,
        x: npt.NDArray[Any],
        start: int,
        seen: npt.NDArray[np.bool_],
        caches: dict[str, npt.NDArray[Any]],
    ) -> dict[str, npt.NDArray[Any]]:
        """The decoder's inputs for a step."""
        end = start + len(x)
        bias = np.where(seen, np.float32(0), _bias_floor(self._dtype)).astype(self._dtype)
        feeds = {
            names.INPUTS_EMBEDS: x[None],
            names.POSITION_IDS: np.arange(start, end, dtype=np.int64)[None],
            names.LOCAL_ATTENTION_BIAS: bias[None, None],
            **caches,
            **self._unused_codes,
        }
        for seqlens, total in (
            (names.LOCAL_SEQLENS, names.LOCAL_TOTAL),
            (names.GLOBAL_SEQLENS, names.GLOBAL_TOTAL),
        ):
            feeds[seqlens] = np.array([end - 1], np.int32)
            feeds[total] = np.array(end, np.int32)
        return feeds

    def head(self, hidden: npt.NDArray[Any]) -> FloatArray:
        """[M, H] -> [M, V]"""
        return np.asarray(self.run(names.HEAD, {names.HIDDEN_STATES: hidden})[0])

    def _one_row_of_codes(self) -> dict[str, npt.NDArray[Any]]:
        """For the second cache of a decoder for long contexts, which is not used here."""
        rows: dict[str, npt.NDArray[Any]] = {names.INT8_CACHE: np.array(False)}
        for index, spec in enumerate(self.config.layers):
            shape = (1, spec.kv_heads, 1, spec.head_dim)
            rows |= {name: np.zeros(shape, np.int8) for name in names.past_code_names(index)}
            scales = np.ones((1, 1, spec.kv_heads * spec.head_dim), self._dtype)
            rows |= dict.fromkeys(names.code_scale_names(index), scales)
        inputs = {value.name for value in self._sessions[names.DECODER].get_inputs()}
        return {name: row for name, row in rows.items() if name in inputs}

    def _decoder_outputs(self) -> list[str]:
        layers = range(len(self.config.layers))
        return [names.HIDDEN_STATES, *(name for i in layers for name in names.present_names(i))]

    def run(
        self, graph: str, feeds: dict[str, npt.NDArray[Any]], outputs: list[str] | None = None
    ) -> list[npt.NDArray[Any]]:
        results: list[npt.NDArray[Any]] = self._sessions[graph].run(outputs, feeds)
        return results


def _bias_floor(dtype: np.dtype[Any]) -> np.float32:
    return np.float32(-65504) if dtype == np.float16 else _BLOCKED


def stored_weights(bundle: Bundle) -> dict[str, FloatArray]:
    """The values that the graphs compute with, by weight name: read from the weight files."""
    target, places = _target(bundle), _places(bundle)
    result = {}
    for weight in all_weights(bundle.config).values():
        arrays = []
        for part in parts(weight, target):
            file, offset = bundle.path(WEIGHT_FILES[weight.use]), places[part.name]
            flat = np.fromfile(file, np.uint8, part.bytes, offset=offset)
            arrays.append(flat.view(part.dtype).reshape(part.shape))
        result[weight.name] = unpack(tuple(arrays), weight, target)
    return result


def _places(bundle: Bundle) -> dict[str, int]:
    """Offset of every stored part, as the graph files say."""
    places = {}
    for name in names.GRAPHS:
        model = onnx.load(str(bundle.path(name)), load_external_data=False)
        for tensor in model.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                places[tensor.name] = int(entries["offset"])
    return places


def _target(bundle: Bundle) -> Target:
    return Target(RECIPES[bundle.recipe], bundle.device, bundle.activation_type)


class Reference:
    """The checkpoint in transformers, in float32, with the bundle's embedding factor."""

    def __init__(self, checkpoint: Path, bundle: Bundle) -> None:
        try:
            import torch
            from transformers import Gemma4UnifiedForConditionalGeneration as Model
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"the parity check needs torch and transformers >= 5.23 ({error}); "
                "pip install 'scanscribe[parity]'"
            ) from error
        _check_memory(bundle.config)
        self.config, self._torch = bundle.config, torch
        self._model = Model.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        # In float32 the reference would use the factor of float32, not that of the checkpoint.
        self._model.get_input_embeddings().embed_scale.fill_(bundle.embedding_factor)

    def load(self, weights: Mapping[str, FloatArray]) -> None:
        """Replaces weights by name."""
        state = self._model.state_dict()
        with self._torch.no_grad():
            for key, tensor in state.items():
                name = canonical_name(key)
                if name in weights:
                    tensor.copy_(self._torch.from_numpy(weights[name].reshape(tensor.shape).copy()))

    def logits(self, prompt: Prompt) -> FloatArray:
        """[S, V]"""
        torch = self._torch
        kinds = {self.config.image_token_id: 1, self.config.audio_token_id: 3}
        types = torch.tensor([[kinds.get(int(token), 0) for token in prompt.ids]])
        local, causal = visible(prompt.ids, self.config)
        with torch.no_grad():
            output = self._model(
                input_ids=torch.from_numpy(prompt.ids[None]),
                mm_token_type_ids=types,
                attention_mask={
                    "sliding_attention": self._additive(local),
                    "full_attention": self._additive(causal),
                },
                use_cache=False,
                **self._media(prompt),
            )
        return np.asarray(output.logits[0].numpy())

    def _additive(self, seen: npt.NDArray[np.bool_]) -> Any:
        floor = np.finfo(np.float32).min
        return self._torch.from_numpy(np.where(seen, np.float32(0), floor)[None, None])

    def _media(self, prompt: Prompt) -> dict[str, Any]:
        """Images and clips, each padded to the longest as the reference's processor does it."""
        torch, media = self._torch, {}
        if prompt.images:
            media["pixel_values"] = _padded([image for image, _ in prompt.images], 0)
            media["image_position_ids"] = _padded([places for _, places in prompt.images], -1)
        if prompt.clips:
            media["input_features"] = _padded(list(prompt.clips), 0)
            ones = [np.ones(len(clip), np.bool_) for clip in prompt.clips]
            media["input_features_mask"] = _padded(ones, False)
        return {name: torch.from_numpy(array) for name, array in media.items()}


def _padded(arrays: Sequence[npt.NDArray[Any]], fill: float) -> npt.NDArray[Any]:
    longest = max(len(array) for array in arrays)
    whole = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, arrays[0].dtype)
    for row, array in zip(whole, arrays, strict=True):
        row[: len(array)] = array
    return whole


def _check_memory(config: ModelConfig) -> None:
    needed = 4 * sum(int(np.prod(weight.shape)) for weight in all_weights(config).values())
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise RuntimeUnavailableError(
            f"the reference in float32 needs {needed / 1e9:.0f} GB of memory, got "
            f"{available / 1e9:.0f} GB; run the check on a larger machine"
        )

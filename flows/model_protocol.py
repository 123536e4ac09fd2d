"""What the model server and its clients say to each other: requests as bytes, results as JSON.

    POST /generate   `encode_request` -> 200 a result as in the journal; 422 {"error", "message"}:
                     the engine refuses; 429: the queue is full, come again; 503: it is shutting
                     down; 500: a fault of the server
    GET  /status     JSON, see `Status`
    GET  /metrics    Prometheus text
    POST /stop       finishes what it has and ends

HTTP/1.1, because it already has what a model server needs (one exchange for each request, an end
of connection that both sides notice, status codes, tools like curl) and because uvicorn, starlette
and httpx come with Prefect. The body of a request is not JSON alone, because a page is megabytes of
patches: they follow as raw bytes. Nothing is ever unpickled, and every field is checked here.

    4 bytes   length of the header in bytes, unsigned, little endian
    header    JSON in ASCII, filled with spaces so that what follows is aligned
    arrays    little endian, in this order: ids int64 [S]; of every media span its features
              float32 [N, width], then, unless it is audio, its positions int64 [N, 2]
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from model_onnx.bundle import Bundle
from model_onnx.config import ModelConfig
from model_onnx.constrain import Choices, Constraint, FreeText, JsonSchema, Regex, ToolCalls
from model_onnx.errors import RequestError
from model_onnx.prompt import MediaKind, MediaSpan, Prompt
from model_onnx.sample import Sampling
from model_onnx.sequence import Request

PROTOCOL = 2  # raised with every change of what is said

_LENGTH = struct.Struct("<I")
_ALIGNMENT = 16
_HEADER_BYTES = 16 << 20  # evidence and drafts are in the header: the text of a long document
_BODY_BYTES = 1 << 30
_KINDS: dict[type, str] = {
    JsonSchema: "json_schema",
    Regex: "regex",
    Choices: "choices",
    ToolCalls: "tool_calls",
    FreeText: "free_text",
}
_Array = NDArray[Any]


@dataclass(frozen=True)
class Status:
    """A running server. stopping: it takes nothing new; queue: requests that it takes at once,
    those in its slots among them; requests: how they ended; memory in bytes; tokens_per_second:
    over the last minute."""

    protocol: int
    stopping: bool
    bundle: str
    directory: str
    provider: str
    pid: int
    slots: int
    queue: int
    idle_minutes: float
    uptime_seconds: float
    waiting: int
    active: int
    mean_batch: float
    tokens_per_second: float
    requests: Mapping[str, int]
    memory: int
    peak_memory: int

    @classmethod
    def from_json(cls, raw: Any) -> Status:
        """Raises TypeError, ValueError."""
        status = cls(**raw)
        if status.protocol != PROTOCOL or type(status.queue) is not int or status.queue < 1:
            raise ValueError("not the status of a model server of this version")
        return status

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def body_limit(config: ModelConfig) -> int:
    """Bytes of the largest request of a model: an image in every position, a gigabyte at most."""
    width = max(4 * config.patch_dim + 16, 4 * config.frame_size) + 8
    return min(_HEADER_BYTES + config.max_positions * width, _BODY_BYTES)


def encode_request(request: Request, bundle: str) -> bytes:
    """bundle: the sha256 of the one whose renderer made the prompt."""
    prompt = request.prompt
    arrays: list[_Array] = [np.asarray(prompt.ids, "<i8")]
    media: list[dict[str, Any]] = []
    for span in prompt.media:
        media.append({"start": span.start, "kind": span.kind, "shape": list(span.features.shape)})
        arrays.append(np.asarray(span.features, "<f4"))
        if span.positions is not None:
            arrays.append(np.asarray(span.positions, "<i8"))
    header = {
        "bundle": bundle,
        "ids": len(prompt.ids),
        "prefix": prompt.prefix,
        "media": media,
        "constraint": {"kind": _KINDS[type(request.constraint)], **asdict(request.constraint)},
        "max_new_tokens": request.max_new_tokens,
        "sampling": asdict(request.sampling),
        "draft": request.draft,
        "time_limit": request.time_limit,
        "thinking": request.thinking,
    }
    text = json.dumps(header).encode("ascii")
    text += b" " * (-(_LENGTH.size + len(text)) % _ALIGNMENT)
    return b"".join((_LENGTH.pack(len(text)), text, *(array.tobytes() for array in arrays)))


def decode_request(body: bytes | bytearray, bundle: Bundle) -> Request:
    """The inverse of `encode_request`. Raises RequestError for anything else."""
    try:
        header, arrays = _split(body)
        _expect_keys(
            header,
            "bundle ids prefix media constraint max_new_tokens sampling draft time_limit thinking",
        )
        if header["bundle"] != bundle.sha256:
            raise ValueError("its bundle is not the server's")
        ids = arrays.take(_natural(header["ids"], bundle.config.max_positions), None, np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < bundle.config.vocab_size:
            raise ValueError("token ids outside the vocabulary")
        media = _media(header["media"], ids, arrays, bundle.config)
        arrays.finish()
        draft, limit = header["draft"], header["time_limit"]
        if not (draft is None or isinstance(draft, str)):
            raise ValueError("draft is not text")
        return Request(
            prompt=Prompt(ids, media, _natural(header["prefix"], len(ids))),
            constraint=_constraint(header["constraint"]),
            max_new_tokens=_natural(header["max_new_tokens"], bundle.config.max_positions),
            sampling=_sampling(header["sampling"]),
            draft=draft,
            time_limit=None if limit is None else _number(limit),
            thinking=_natural(header["thinking"], bundle.config.max_positions),
        )
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RequestError(
            f"this is no request of a client of this version: {error}; use the client of "
            "flows/model_client.py"
        ) from None


class _Arrays:
    """Takes arrays off the end of a body, one after another."""

    def __init__(self, raw: memoryview) -> None:
        self._raw = raw

    def take(self, count: int, width: int | None, kind: type[np.generic]) -> _Array:
        """[count] or, with a width, [count, width]."""
        dtype = np.dtype(kind).newbyteorder("<")
        size = count * (width or 1) * dtype.itemsize
        if len(self._raw) < size:
            raise ValueError(f"it ends {size - len(self._raw)} bytes early")
        array = np.frombuffer(self._raw[:size], dtype).astype(kind, copy=False)
        self._raw = self._raw[size:]
        return np.require(array if width is None else array.reshape(count, width), None, ["A"])

    def finish(self) -> None:
        if len(self._raw):
            raise ValueError(f"{len(self._raw)} bytes follow its end")


def _split(body: bytes | bytearray) -> tuple[dict[str, Any], _Arrays]:
    raw = memoryview(body)
    if len(raw) < _LENGTH.size:
        raise ValueError("it has no header")
    (length,) = _LENGTH.unpack(raw[: _LENGTH.size])
    if length > min(_HEADER_BYTES, len(raw) - _LENGTH.size):
        raise ValueError(f"a header of {length} bytes")
    end = _LENGTH.size + length
    text = bytes(raw[_LENGTH.size : end]).decode("ascii")
    header = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header, _Arrays(raw[end:])


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _expect_keys(raw: Any, names: str) -> None:
    if not isinstance(raw, dict) or raw.keys() != set(names.split()):
        raise ValueError(f"expected an object with {names}")


def _natural(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"expected a whole number from 0 to {most}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError("expected a number of at least 0")
    return float(value)


def _media(raw: Any, ids: _Array, arrays: _Arrays, config: ModelConfig) -> tuple[MediaSpan, ...]:
    if not isinstance(raw, list):
        raise ValueError("media is no list")
    spans: list[MediaSpan] = []
    free = 0  # first position after the spans so far
    for entry in raw:
        span = _span(entry, arrays, config, len(ids))
        end = span.start + len(span.features)
        token = {
            "image": config.image_token_id,
            "audio": config.audio_token_id,
            "video": config.video_token_id,
        }[span.kind]
        if span.start < free or end > len(ids) or not (ids[span.start : end] == token).all():
            raise ValueError(f"a span of {span.kind} away from its placeholders")
        spans.append(span)
        free = end
    return tuple(spans)


def _span(entry: Any, arrays: _Arrays, config: ModelConfig, most: int) -> MediaSpan:
    _expect_keys(entry, "start kind shape")
    kind, shape = entry["kind"], entry["shape"]
    if kind not in get_args(MediaKind):
        raise ValueError("an unknown kind of media")
    width = config.frame_size if kind == "audio" else config.patch_dim
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] != width:
        raise ValueError(f"features of {kind} that are not {width} wide")
    features = arrays.take(_natural(shape[0], most), width, np.float32)
    if not len(features) or not np.isfinite(features).all():
        raise ValueError(f"features of {kind} that are empty or not finite")
    positions = None
    if kind != "audio":
        positions = arrays.take(len(features), 2, np.int64)
        if not 0 <= positions.min() <= positions.max() < config.patch_positions:
            raise ValueError(f"positions of {kind} outside the table")
    return MediaSpan(_natural(entry["start"], most), kind, features, positions)


def _constraint(raw: Any) -> Constraint:
    match raw:
        case {"kind": "free_text", **rest} if not rest:
            return FreeText()
        case {
            "kind": "regex",
            "pattern": str(pattern),
            "may_break_off": bool(may_break_off),
            **rest,
        } if not rest:
            return Regex(pattern, may_break_off)
        case {
            "kind": "tool_calls",
            "tools": [*tools],
            "most": int(most),
            "must_call": bool(must_call),
            "evidence": (str() | None) as evidence,
            **rest,
        } if not rest:
            if all(_is_declaration(tool) for tool in tools):
                pairs = tuple((name, schema) for name, schema in tools)
                return ToolCalls(pairs, _natural(most, 1000), must_call, evidence)
        case {"kind": "choices", "options": [*options], **rest} if not rest:
            if all(isinstance(option, str) for option in options):
                return Choices(tuple(options))
        case {
            "kind": "json_schema",
            "schema": str(schema),
            "evidence": (str() | None) as evidence,
            **rest,
        } if not rest:
            return JsonSchema(schema, evidence)
    raise ValueError("an unknown constraint")


def _is_declaration(raw: Any) -> bool:
    return isinstance(raw, list) and len(raw) == 2 and all(isinstance(t, str) for t in raw)


def _sampling(raw: Any) -> Sampling:
    _expect_keys(raw, "temperature top_p top_k seed")
    return Sampling(
        temperature=_number(raw["temperature"]),
        top_p=_number(raw["top_p"]),
        top_k=_natural(raw["top_k"], 1 << 31),
        seed=_natural(raw["seed"], 1 << 64),
    )

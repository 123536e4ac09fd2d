"""Turns of text, images, audio and tools -> token ids and the features of the media among them.

The layout is the bundle's own chat template. No text that comes from a turn can become a control
token: every place in it where a control token's spelling could begin carries a mark while the
template renders, so only the template's own words are recognised; the rest is encoded as text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jinja2
import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model_onnx.answer import ToolCall, strip_thinking
from model_onnx.bundle import CHAT_TEMPLATE, TOKENIZER, Bundle
from model_onnx.errors import BundleError, RequestError
from model_onnx.frames import audio_frames
from model_onnx.patches import image_patches

MediaKind = Literal["image", "audio", "video"]


@dataclass(frozen=True, eq=False)
class Image:
    """pixels: uint8 RGB [H, W, 3]; soft_tokens: the budget, or None for an image whose sides are
    multiples of the patch size already."""

    pixels: NDArray[np.uint8]
    soft_tokens: int | None


@dataclass(frozen=True, eq=False)
class Audio:
    """samples: float32 mono at 16 kHz [n]; see `frames.resample`."""

    samples: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Video:
    """frames: (seconds, uint8 RGB [H, W, 3]) in order; soft_tokens: the budget of one frame."""

    frames: tuple[tuple[float, NDArray[np.uint8]], ...]
    soft_tokens: int = 70


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered, after its ToolCall in the model's turn. `response`: JSON values."""

    name: str
    response: Mapping[str, Any] | str


@dataclass(frozen=True)
class Tool:
    """A tool that the model may call. `parameters`: a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


Part = str | Image | Audio | Video | ToolCall | ToolResult


@dataclass(frozen=True, eq=False)
class Turn:
    """system: text; user: text and media; model: tool calls, their results, then text."""

    role: Literal["system", "user", "model"]
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class MediaSpan:
    """Soft tokens at ids[start : start + len(features)].

    features, positions: patches [N, patch_dim] and (x, y) [N, 2], or frames [T, frame_size], None.
    """

    start: int
    kind: MediaKind
    features: NDArray[np.float32]
    positions: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Prompt:
    """ids [S]; ids[:prefix] are the system turn, the same whatever the user says, without media."""

    ids: NDArray[np.int64]
    media: tuple[MediaSpan, ...]
    prefix: int


BOS = "<bos>"
_Medium = Image | Audio | Video
_SURROGATE = re.compile("[\ud800-\udfff]")
_PARTS_OF_ROLE: dict[str, tuple[type, ...]] = {
    "system": (str,),
    "user": (str, Image, Audio, Video),
    "model": (str, ToolCall, ToolResult),
}


class PromptRenderer:
    """Renders for one bundle. Safe to use from several threads."""

    def __init__(self, bundle: Bundle) -> None:
        config = bundle.config
        self._config = config
        self._tokenizer, self._controls = _open_tokenizer(bundle)
        self._template = _open_template(bundle)
        self._mark = f"\ue000{secrets.token_hex(8)}"  # cannot be guessed, so no text holds it
        spellings = sorted(self._controls, key=len, reverse=True)
        self._control = re.compile(f"({'|'.join(map(re.escape, spellings))})")
        first = "".join({spelling[0] for spelling in spellings})
        self._control_start = re.compile(f"[{re.escape(first)}]")
        self._media: dict[int, tuple[MediaKind, int, int]] = {
            config.image_token_id: ("image", config.boi_token_id, config.eoi_token_id),
            config.audio_token_id: ("audio", config.boa_token_id, config.eoa_token_id),
            config.video_token_id: ("video", config.boi_token_id, config.eoi_token_id),
        }

    def encode_text(self, text: str) -> list[int]:
        """Text -> ids, never a control token. Half of a surrogate pair becomes U+FFFD."""
        return _encode(self._tokenizer, _SURROGATE.sub("\ufffd", text))

    def render(
        self, turns: Sequence[Turn], *, thinking: bool = False, tools: Sequence[Tool] = ()
    ) -> Prompt:
        """The prompt that asks for the model's next turn.

        thinking: the model may think before it answers; without it the template closes the thought
        at once, so the first generated token is the answer's. Raises RequestError for turns in a
        wrong order or with parts that do not belong there, and for media that cannot be used.
        """
        _check(turns)
        ids, media = self._encode(
            self._render(turns, tools, thinking, add_generation_prompt=True),
            [self._shown(p) for turn in turns for p in turn.parts if isinstance(p, _Medium)],
        )
        shared: list[int] = []
        if turns[0].role == "system":
            system = self._render(turns[:1], tools, thinking, add_generation_prompt=False)
            shared, _ = self._encode(system, ())
        prefix = len(shared) if ids[: len(shared)] == shared else 0
        return Prompt(np.array(ids, np.int64), media, prefix)

    def _shown(self, part: Image | Audio | Video) -> list[tuple[str, MediaSpan]]:
        """The spans of one placeholder, each with the text before it."""
        if isinstance(part, Audio):
            frames = audio_frames(part.samples, self._config.frame_size)
            return [("", MediaSpan(0, "audio", frames, None))]
        if isinstance(part, Image):
            patches = image_patches(part.pixels, part.soft_tokens, self._config)
            return [("", MediaSpan(0, "image", *patches))]
        if not part.frames:
            raise RequestError("got a video without frames, expected one or more; leave it out")
        return [
            (
                f"{' ' if at else ''}{int(seconds) // 60:02}:{int(seconds) % 60:02} ",
                MediaSpan(0, "video", *image_patches(pixels, part.soft_tokens, self._config)),
            )
            for at, (seconds, pixels) in enumerate(part.frames)
        ]

    def _render(
        self,
        turns: Sequence[Turn],
        tools: Sequence[Tool],
        thinking: bool,
        *,
        add_generation_prompt: bool,
    ) -> str:
        functions = [{"type": "function", "function": vars(tool)} for tool in tools]
        try:
            return self._template.render(
                messages=[self._marked(_message(turn)) for turn in turns],
                tools=self._marked(functions) or None,
                enable_thinking=thinking,
                add_generation_prompt=add_generation_prompt,
                bos_token=BOS,
            )
        except (jinja2.TemplateError, TypeError, RecursionError) as error:
            raise RequestError(
                f"the bundle's chat template cannot render these turns: {error}; expected turns "
                "and tool values as the model's documentation shows them"
            ) from error

    def _marked(self, value: Any) -> Any:
        """A JSON value with the mark inside whatever in its strings could begin a control token."""
        if isinstance(value, str):
            return self._control_start.sub(lambda found: found[0] + self._mark, value)
        if isinstance(value, Mapping):
            return {self._marked(key): self._marked(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._marked(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise RequestError(
            f"got {type(value).__name__} in a tool's values, expected what JSON can hold"
        )

    def _encode(
        self, rendered: str, media: Iterable[list[tuple[str, MediaSpan]]]
    ) -> tuple[list[int], tuple[MediaSpan, ...]]:
        """Ids of a rendered template, each media placeholder widened to its spans' soft tokens.

        Text between two control tokens is encoded as a whole, as the reference does it."""
        ids: list[int] = []
        placed: list[MediaSpan] = []
        waiting = list(media)[::-1]
        text = ""
        for index, piece in enumerate(self._control.split(rendered)):
            if index % 2 == 0:
                text += piece.replace(self._mark, "")
                continue
            token = self._controls[piece]
            if token not in self._media:
                ids += [*self.encode_text(text), token]
                text = ""
                continue
            kind, begin, end = self._media[token]
            if not waiting or waiting[-1][0][1].kind != kind:
                raise _template_error(f"wrote {piece} where no {kind} was given")
            for before, span in waiting.pop():
                ids += [*self.encode_text(text + before), begin]
                placed.append(replace(span, start=len(ids)))
                ids += [*[token] * len(span.features), end]
                text = ""
        ids += self.encode_text(text)
        if waiting:
            raise _template_error(f"left out {len(waiting)} images, videos or recordings")
        return ids, tuple(placed)


def _check(turns: Sequence[Turn]) -> None:
    roles = [turn.role for turn in turns]
    asks = bool(turns) and (
        roles[-1] == "user"
        or (roles[-1] == "model" and isinstance((turns[-1].parts or ("",))[-1], ToolResult))
    )
    if not asks or "system" in roles[1:]:
        raise RequestError(
            f"got turns of {roles}, expected at most one system turn at the start and at the end a "
            "user turn, or a model turn that ends with a ToolResult"
        )
    for turn in turns:
        for part in turn.parts:
            if not isinstance(part, _PARTS_OF_ROLE[turn.role]):
                allowed = [kind.__name__ for kind in _PARTS_OF_ROLE[turn.role]]
                raise RequestError(
                    f"got {type(part).__name__} in a {turn.role} turn, expected one of {allowed}"
                )


def _message(turn: Turn) -> dict[str, Any]:
    """A turn as chat templates expect it. The template cannot see a marked thought to remove it, so
    the text of model turns loses its thoughts here."""
    if turn.role == "system":
        return {"role": "system", "content": "".join(map(str, turn.parts))}
    if turn.role == "user":
        return {"role": "user", "content": [_content(part) for part in turn.parts]}
    text = "".join(strip_thinking(part) for part in turn.parts if isinstance(part, str))
    calls = [{"function": vars(part)} for part in turn.parts if isinstance(part, ToolCall)]
    results = [vars(part) for part in turn.parts if isinstance(part, ToolResult)]
    message: dict[str, Any] = {"role": "assistant", "content": text}
    return message | {k: v for k, v in (("tool_calls", calls), ("tool_responses", results)) if v}


def _content(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kinds = {Image: "image", Video: "video", Audio: "audio"}
    return {"type": kinds[type(part)]}


def _open_tokenizer(bundle: Bundle) -> tuple[Tokenizer, dict[str, int]]:
    """A tokenizer that reads every control token's spelling as plain text, and their ids."""
    path = bundle.path(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise BundleError(f"cannot read {path}: {error}; export the bundle again") from error
    controls = {
        token.content: index
        for index, token in tokenizer.get_added_tokens_decoder().items()
        if token.special or "<|" in token.content or "|>" in token.content
    }
    # Marks those as special that the file does not; their ids stay.
    tokenizer.add_special_tokens(list(controls))
    tokenizer.encode_special_tokens = True
    ids = set(controls.values())
    leaking = [name for name in controls if ids & set(_encode(tokenizer, name))]
    if leaking or BOS not in controls:
        raise BundleError(
            f"{path}: got {leaking or 'no ' + BOS}, expected control tokens that their spelling "
            "does not encode to; use the tokenizer.json that came with the checkpoint"
        )
    return tokenizer, controls


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _open_template(bundle: Bundle) -> jinja2.Template:
    """The chat template with Hugging Face's conventions, in a sandbox."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    path = bundle.path(CHAT_TEMPLATE)
    try:
        return environment.from_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, jinja2.TemplateError) as error:
        raise BundleError(f"cannot read {path}: {error}; export the bundle again") from error


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """jinja2's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _template_error(problem: str) -> BundleError:
    return BundleError(
        f"the chat template {problem}; use the chat_template.jinja that came with the checkpoint"
    )

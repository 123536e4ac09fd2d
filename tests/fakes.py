"""A model without weights: answers are a function of the request.

It has what `pipelines` uses of `model_onnx.Engine` and honours the constraint loosely: Choices are
answered with one of the options, everything else with the function's text.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from model_onnx.constrain import Choices
from model_onnx.prompt import Image, Prompt, Tool, Turn, Video
from model_onnx.sequence import Request, Result


@dataclass(frozen=True)
class Answered:
    """What the fake says. logprob: of every token, or one for each character."""

    text: str
    logprob: float | Sequence[float] = -0.01
    finish: str = "stop"
    probabilities: dict[str, float] | None = None
    thought: str = "hm"


@dataclass
class Asked:
    """A rendered prompt that still knows its turns."""

    turns: Sequence[Turn]
    request: Request | None = None
    thinking: bool = False
    tools: Sequence[Tool] = ()

    @property
    def instruction(self) -> str:
        return str(self.turns[0].parts[0])

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.turns[1].parts if isinstance(part, str))

    @property
    def media(self) -> list[Any]:
        return [part for part in self.turns[1].parts if not isinstance(part, str)]


def _content(part: Any) -> bytes:
    arrays = [part.pixels] if isinstance(part, Image) else [getattr(part, "samples", None)]
    if isinstance(part, Video):
        arrays = [pixels for _, pixels in part.frames]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


class FakeRenderer:
    """One token a character; an image or sound is 10 tokens. Other parts give other ids."""

    def __init__(self) -> None:
        self.prompts: dict[int, Asked] = {}

    def encode_text(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def render(
        self, turns: Sequence[Turn], *, thinking: bool = False, tools: Sequence[Tool] = ()
    ) -> Prompt:
        asked = Asked(turns, thinking=thinking, tools=tools)
        ids = [*map(ord, asked.instruction + asked.text), *[0] * 20]
        for part in asked.media:
            ids += [zlib.crc32(_content(part))] * 10
        prompt = Prompt(np.array(ids, np.int64), (), 0)
        self.prompts[id(prompt)] = asked
        self._keep = getattr(self, "_keep", [])
        self._keep.append(prompt)  # ids stay unique
        return prompt


Respond = Callable[[Asked], "str | Answered | Exception"]


@dataclass
class FakeEngine:
    """respond: the answer to a request; asked: all requests in order."""

    respond: Respond
    habits: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    provider: str = "cpu"

    def __post_init__(self) -> None:
        self.renderer: Any = FakeRenderer()
        config = SimpleNamespace(max_positions=8192, patch_size=48)
        self.bundle: Any = SimpleNamespace(
            config=config, sha256="b" * 64, generation_config={"pipeline": self.habits}
        )

    def submit(self, request: Request) -> Future[Result]:
        asked = self.renderer.prompts[id(request.prompt)]
        asked.request = request
        self.asked.append(asked)
        future: Future[Result] = Future()
        said = self.respond(asked)
        if isinstance(said, Exception):
            future.set_exception(said)
        else:
            future.set_result(
                result(request, said if isinstance(said, Answered) else Answered(said))
            )
        return future

    def close(self) -> None:
        self.closed = True


def result(request: Request, said: Answered) -> Result:
    """One token a character."""
    text, probabilities = said.text, said.probabilities
    if isinstance(request.constraint, Choices):
        options = request.constraint.options
        chosen = text if text in options else options[0]
        rest = 0.2 / max(1, len(options) - 1)
        probabilities = probabilities or {o: 0.8 if o == chosen else rest for o in options}
        text = chosen
    pieces = tuple(character.encode() for character in text)
    numbers = said.logprob if isinstance(said.logprob, Sequence) else [said.logprob] * len(text)
    return Result(
        text=text,
        ids=tuple(range(len(text))),
        pieces=pieces,
        logprobs=np.array(numbers, np.float32),
        finish=said.finish,  # type: ignore[arg-type]
        choice_probabilities=probabilities,
        prompt_tokens=len(request.prompt.ids),
        cached_tokens=0,
        forced_tokens=0,
        drafted_tokens=0,
        accepted_tokens=0,
        prefill_seconds=0.01,
        decode_seconds=0.02,
        thought=said.thought if request.thinking else "",
        thought_tokens=len(said.thought) + 2 if request.thinking else 0,
    )


def field_names(asked: Asked) -> list[str]:
    """The fields that an extract instruction asks for."""
    return [re.split(":", line)[0] for line in asked.instruction.split("\n")[1:]]

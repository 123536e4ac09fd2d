"""A subtask by its name, with its options and its parsers: what a run needs of `pipelines`."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from flows.discover import Entry, Version
from flows.run import Procedure, Size
from flows.videos import video_options
from model_onnx.bundle import Bundle
from model_onnx.errors import ConfigError
from pipelines.auto import AUTO, named, outputs
from pipelines.call import identity as call_identity
from pipelines.call import subtask as call_subtask
from pipelines.clean import SUBTASK as CLEAN
from pipelines.items import Item
from pipelines.ocr import find_tesseract
from pipelines.parsing import Parser, Seconds
from pipelines.records import Record, Source
from pipelines.repair import SUBTASK as REPAIR
from pipelines.schemas import load_schema
from pipelines.subtask import Model, Options, Subtask
from pipelines.subtask import run as run_subtask
from pipelines.tag import subtask as tag_subtask
from pipelines.tools import load_toolbox
from pipelines.transcribe import SUBTASK as TRANSCRIBE
from pipelines.video import VideoOptions

PLAIN = {"clean": CLEAN, "transcribe": TRANSCRIBE, "repair": REPAIR}
SOFT_TOKENS = (70, 140, 280, 560, 1120)

_CHARACTERS_PER_TOKEN = 3.0  # estimates only
_AUDIO_TOKENS_PER_SECOND = 25


def make_subtask(
    name: str,
    *,
    schema: str | None = None,
    labels: tuple[str, ...] = (),
    several: bool = False,
    tools: str | None = None,
    allow: tuple[str, ...] = (),
) -> tuple[Subtask, str]:
    """(subtask, what decides its output as text). name: one of ours, or `module:NAME`.

    Raises ConfigError, also for an option that the subtask does not take.
    """
    if schema and name != "extract":
        raise ConfigError(f"got --schema for {name}, expected it for extract only")
    if (labels or several) and name != "tag":
        raise ConfigError(f"got --labels or --several for {name}, expected them for tag only")
    if (tools or allow) and name != "call":
        raise ConfigError(f"got --tools or --allow for {name}, expected them for call only")
    if name == "call":
        return _call(tools, allow)
    if name == "extract":
        return _extract(schema or AUTO)
    if name == "tag":
        return tag_subtask(labels, several=several), json.dumps([labels, several])
    made = PLAIN.get(name) or _import_subtask(name)
    return made, json.dumps(made.output.model_json_schema(), sort_keys=True)


def output_schema(name: str, **choices: Any) -> str:
    """The JSON Schema of a subtask's outputs, as text. choices, errors: of `make_subtask`."""
    made, decides = make_subtask(name, **choices)
    return decides if name == "extract" else json.dumps(made.output.model_json_schema())


def _extract(schema: str) -> tuple[Subtask, str]:
    made = named(schema)
    output = outputs() if schema == AUTO else load_schema(schema)
    content = output if isinstance(output, Mapping) else output.model_json_schema()
    return made, json.dumps(content)  # not sorted: the fields' order is part of the prompt


def _call(tools: str | None, allow: tuple[str, ...]) -> tuple[Subtask, str]:
    if not tools:
        raise ConfigError("got no --tools for call, expected MODULE:NAME, FILE.py or FILE.json")
    toolbox = load_toolbox(tools)
    return call_subtask(toolbox, allowed=allow), call_identity(toolbox, allow)


def _import_subtask(name: str) -> Subtask:
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(
            f"got subtask {name!r}, expected extract, clean, transcribe, repair, tag, call, or "
            "MODULE:NAME of a Subtask of your own"
        )
    if os.getcwd() not in sys.path:  # `flows` is a program: it has no current directory there
        sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot import {name!r}: {error}; expected MODULE:NAME in the current directory or on "
            "Python's path"
        ) from error
    if not isinstance(made, Subtask):
        raise ConfigError(f"got {type(made).__name__} at {name}, expected a pipelines Subtask")
    return made


def bind(
    name: str,
    bundle: Bundle,
    *,
    schema: str | None = None,
    labels: tuple[str, ...] = (),
    several: bool = False,
    soft_tokens: int = 560,
    thinking: int = 0,
    keep_thoughts: bool = False,
    video: str = "",
    tools: str | None = None,
    allow: tuple[str, ...] = (),
    parsers: int = 2,
) -> Procedure:
    """Everything but the engine. parsers: child processes; `Procedure.abandon` ends them."""
    if soft_tokens not in SOFT_TOKENS:
        raise ConfigError(f"got --soft-tokens {soft_tokens}, expected one of {SOFT_TOKENS}")
    made, decides = make_subtask(
        name, schema=schema, labels=labels, several=several, tools=tools, allow=allow
    )
    # No time limit: it would count the wait for the other documents of a batch.
    options = Options(
        soft_tokens=soft_tokens,
        least_soft_tokens=least_soft_tokens(soft_tokens),
        time_limit=None,
        thinking=thinking,
        keep_thoughts=keep_thoughts,
    )
    videos = video_options(video)
    parser = Parser(workers=parsers, videos=videos, seconds=_patience(videos))

    def run(model: Model, item: Item) -> Record:
        return run_subtask(model, made, item, options=options)

    return Procedure(
        subtask=name,
        identity={
            "subtask": name,
            "schema": hashlib.sha256(decides.encode()).hexdigest(),
            "prompt": made.prompt,
            "bundle": bundle.sha256,
            "tesseract": "yes" if find_tesseract() else "no",  # installing it betters scans
            "options": json.dumps(_stated(options), sort_keys=True, default=str),
            **({} if videos == VideoOptions() else {"videos": json.dumps(asdict(videos))}),
        },
        parse=lambda entry, version: read_item(parser, entry, version),
        run=run,
        measure=lambda item: measure(item, soft_tokens),
        abandon=parser.close,
    )


def _stated(options: Options) -> dict[str, Any]:
    """Without thinking, records of older versions keep their keys."""
    stated = asdict(options)
    if not options.thinking:
        del stated["thinking"], stated["keep_thoughts"]
    if not options.least_soft_tokens:
        del stated["least_soft_tokens"]
    return stated


def _patience(videos: VideoOptions) -> Seconds:
    """A longer video takes longer to open."""
    usual = Seconds()
    return replace(usual, film=usual.film * max(1.0, videos.seconds / VideoOptions().seconds))


def least_soft_tokens(most: int) -> int | None:
    """What page images are tried with first (SCANSCRIBE_LEAST_SOFT_TOKENS). Raises ConfigError."""
    value = os.environ.get("SCANSCRIBE_LEAST_SOFT_TOKENS")
    if not value:
        return None
    smaller = [str(budget) for budget in SOFT_TOKENS if budget < most]
    if value not in smaller:
        raise ConfigError(
            f"got SCANSCRIBE_LEAST_SOFT_TOKENS={value}, expected one of {', '.join(smaller)}: less "
            f"than --soft-tokens {most}"
        )
    return int(value)


def read_item(parser: Parser, entry: Entry, version: Version) -> Item:
    """Parses in a child process. Raises InputError."""
    assert entry.kind
    return parser.read(entry.path, Source(path=entry.shown, sha256=version.sha256, kind=entry.kind))


def measure(item: Item, soft_tokens: int) -> Size:
    """Pages, seconds of speech and an estimate of what the model has to read."""
    seconds = sum(len(clip.samples) / 16_000 for clip in item.clips)
    characters = sum(len(page.text) for page in item.pages)
    characters += sum(len(cue.text) for cue in item.cues)
    images = sum(1 for page in item.pages if not page.text.strip())
    tokens = characters / _CHARACTERS_PER_TOKEN + images * soft_tokens
    return Size(
        pages=len(item.pages),
        audio_seconds=seconds,
        prompt_tokens=round(tokens + seconds * _AUDIO_TOKENS_PER_SECOND),
    )

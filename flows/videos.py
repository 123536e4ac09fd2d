"""`--video rate=2,sound=no,seconds=1800`: how videos are read, and their limits, as text.

Text, because the parameters of a Prefect flow and what a run notes about itself are plain data.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from model_onnx.errors import ConfigError
from pipelines.video import VideoOptions

_SWITCH = {"yes": True, "no": False}


def video_options(text: str) -> VideoOptions:
    """text: `name=value,...` of the fields of VideoOptions; what it leaves out is as always.

    Raises ConfigError."""
    given: dict[str, Any] = {}
    usual = asdict(VideoOptions())
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (side.strip() for side in part.partition("="))
        if name not in usual or name in given:
            raise ConfigError(
                f"got --video {text!r}, expected each of {', '.join(usual)} at most once, such as "
                "rate=2,sound=no"
            )
        try:
            kind = type(usual[name])
            given[name] = _SWITCH[value] if kind is bool else kind(value)
        except (KeyError, ValueError):
            expected = "yes or no" if isinstance(usual[name], bool) else "a number"
            raise ConfigError(f"got --video {part!r}, expected {expected}") from None
    return VideoOptions(**given)

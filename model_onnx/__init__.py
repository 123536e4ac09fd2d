"""Run a bundle: `Engine.open(path).submit(Request(prompt)).result().text`.

Names are imported when they are first used, so that `model_onnx.errors` costs no runtime library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_onnx.bundle import Bundle
    from model_onnx.constrain import Choices, FreeText, JsonSchema, Regex
    from model_onnx.engine import Engine
    from model_onnx.prompt import Audio, Image, Turn, Video
    from model_onnx.sample import Sampling
    from model_onnx.sequence import Request, Result

__all__ = [
    "Audio",
    "Bundle",
    "Choices",
    "Engine",
    "FreeText",
    "Image",
    "JsonSchema",
    "Regex",
    "Request",
    "Result",
    "Sampling",
    "Turn",
    "Video",
]

_MODULES = {
    "bundle": ("Bundle",),
    "constrain": ("Choices", "FreeText", "JsonSchema", "Regex"),
    "engine": ("Engine",),
    "prompt": ("Audio", "Image", "Turn", "Video"),
    "sample": ("Sampling",),
    "sequence": ("Request", "Result"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'model_onnx' has no attribute {name!r}")
    return getattr(import_module(f"model_onnx.{_HOME[name]}"), name)

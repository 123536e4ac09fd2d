"""Code of the user's own: a module by its name, or a Python file by its path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from model_onnx.errors import ConfigError


def import_module(module: str, name: str, what: str) -> ModuleType:
    """what: `schema`, for messages; name: as the user has written it. Raises ConfigError."""
    if os.getcwd() not in sys.path:  # an installed program does not have it there
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"cannot import {module!r} of {what} {name!r}: {error}; expected a module on the path "
            "or in the current directory"
        ) from error


def run_file(path: Path, what: str) -> ModuleType:
    """A Python file as a module that is named by its content: changed and loaded again, it is
    another one. Raises ConfigError."""
    try:
        digest = sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise unreadable(path, error, what) from None
    spec = importlib.util.spec_from_file_location(f"{what}_{path.stem}_{digest[:12]}", path)
    assert spec and spec.loader
    if spec.name in sys.modules:
        return sys.modules[spec.name]
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks annotations up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise ConfigError(
            f"the {what} {path} stopped with {type(error).__name__}: {error}; correct it"
        ) from error
    return module


def unreadable(path: Path, error: OSError, what: str) -> ConfigError:
    return ConfigError(f"cannot read the {what} {path}: {error.strerror}; check the path")

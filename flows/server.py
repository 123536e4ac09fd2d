"""Whether a Prefect server is configured, found out without importing Prefect (2 seconds)."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path


def configured_server() -> str | None:
    """The URL in PREFECT_API_URL, else in the active profile."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        name = os.environ.get("PREFECT_PROFILE") or content.get("active")
        url = content["profiles"][name].get("PREFECT_API_URL")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return url if isinstance(url, str) and url else None

"""Whether a Prefect server is configured, found out without importing Prefect (2 seconds)."""

from __future__ import annotations

import os
import sys
import time
import tomllib
from pathlib import Path

from model_onnx.errors import UsageError

_START_SECONDS = 60.0  # of a server in the background, whose command returns before it answers


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


def wait_for_server(url: str) -> None:
    """Returns when it answers. Raises UsageError. Imports Prefect."""
    import httpx
    from prefect.client.orchestration import get_client

    end = time.monotonic() + _START_SECONDS
    with get_client(sync_client=True) as client:
        if isinstance(error := client.api_healthcheck(), httpx.TransportError):
            print(f"waiting for the Prefect server at {url}", file=sys.stderr, flush=True)
        while isinstance(error, httpx.TransportError):
            if time.monotonic() > end:
                raise unreachable(url, error) from None
            time.sleep(0.5)
            error = client.api_healthcheck()


def unreachable(url: str, error: Exception) -> UsageError:
    """What to say when a request to it failed on the way."""
    return UsageError(
        f"cannot reach the Prefect server at {url} ({type(error).__name__}); start it with "
        "`prefect server start`"
    )

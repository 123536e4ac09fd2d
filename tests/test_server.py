"""flows/server.py: is a Prefect server configured?"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.server import configured_server

PROFILES = """
active = "ours"
[profiles.ours]
PREFECT_API_URL = "http://ours/api"
[profiles.other]
PREFECT_API_URL = "http://other/api"
[profiles.ephemeral]
PREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def test_nothing_is_configured_by_default() -> None:
    assert configured_server() is None


def test_the_environment_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "profiles.toml").write_text(PROFILES)
    monkeypatch.setenv("PREFECT_API_URL", "http://mine/api")
    assert configured_server() == "http://mine/api"


def test_profiles(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "profiles.toml").write_text(PROFILES)
    assert configured_server() == "http://ours/api"
    monkeypatch.setenv("PREFECT_PROFILE", "other")
    assert configured_server() == "http://other/api"
    for name in ("ephemeral", "missing"):
        monkeypatch.setenv("PREFECT_PROFILE", name)
        assert configured_server() is None


@pytest.mark.parametrize("text", ["active =", "active = 1", "profiles = 3", ""])
def test_damaged_profiles_are_no_server(home: Path, text: str) -> None:
    (home / "profiles.toml").write_text(text)
    assert configured_server() is None

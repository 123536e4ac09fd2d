"""flows/server.py: is a Prefect server configured?"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import server
from flows.server import configured_server, wait_for_server
from model_onnx.errors import UsageError

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


@pytest.mark.filterwarnings("ignore")  # Prefect's own
def test_a_server_that_is_starting_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import httpx
    from prefect.client import orchestration

    answers: list[Exception | None] = [httpx.ConnectError("not yet"), None]

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...

        def api_healthcheck(self) -> Exception | None:
            return answers.pop(0)

    monkeypatch.setattr(orchestration, "get_client", lambda sync_client: Client())
    wait_for_server("http://ours/api")
    assert (
        not answers and "waiting for the Prefect server at http://ours" in capsys.readouterr().err
    )

    answers.append(httpx.ConnectError("never"))
    monkeypatch.setattr(server, "_START_SECONDS", -1.0)
    with pytest.raises(UsageError, match="cannot reach the Prefect server at http://ours/api"):
        wait_for_server("http://ours/api")

"""flows/model_start.py: a server is found, started and ended; what became of one is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.model_place import Place
from flows.model_start import apart, ask_status, ask_stop, command, ensure
from model_onnx.bundle import Bundle
from model_onnx.errors import ModelError
from tests.model_serving import bundle as bundle
from tests.model_serving import runtime as runtime
from tests.model_serving import serving


def test_a_server_that_runs_is_found_and_none_is_started(bundle: Bundle) -> None:
    place = Place.of(bundle.sha256)
    assert apart(ask_status(place)) is None and not apart(ask_stop(place))
    with serving(bundle, slots=3):
        found = apart(ensure(place, ["false"]))
        assert (found.bundle, found.slots) == (bundle.sha256, 3)
        assert apart(ask_stop(place))


def test_a_socket_that_nobody_serves_is_no_server(bundle: Bundle) -> None:
    place = Place.of(bundle.sha256)
    place.listen().close()
    assert place.address.exists() and apart(ask_status(place)) is None


def test_a_server_that_cannot_start_says_why(bundle: Bundle, tmp_path: Path) -> None:
    place = Place.of(bundle.sha256)
    with pytest.raises(ModelError, match=r"did not start: flows: .*nothing has no bundle.json"):
        apart(ensure(place, command(tmp_path / "nothing")))


def test_a_server_takes_the_place_of_one_with_its_limits(bundle: Bundle) -> None:
    with serving(bundle, slots=3, queue=7, idle_minutes=2.5) as s:
        words = command(bundle.directory, replace(s.server.status, pid=1))
    assert words[words.index("--slots") + 1 :][:1] == ["3"]
    assert words[words.index("--queue") + 1 :][:1] == ["7"]
    assert words[words.index("--idle-minutes") + 1 :][:1] == ["2.5"]
    assert "--slots" not in command(bundle.directory)

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_onnx.errors import InputError
from pipelines.cues import MOST_BYTES, Cue, decode, parse_cues, read_cues

SRT = """1
00:00:01,000 --> 00:00:02,500
Hello <i>there</i>,
John

2
00:01:00,000 --> 01:00:00,000
Bye
"""
VTT = """WEBVTT

NOTE a remark

intro
00:01.000 --> 00:02.500 align:start
<v Ann>Hello

00:03.000 --> 00:02.000
backwards
"""


def test_subtitles_keep_their_times() -> None:
    assert parse_cues(SRT.encode(), ".srt") == (
        Cue("Hello there, John", (1.0, 2.5)),
        Cue("Bye", (60.0, 3600.0)),
    )
    assert parse_cues(VTT.replace("\n", "\r\n").encode(), ".vtt") == (Cue("Hello", (1.0, 2.5)),)


def test_plain_text_is_one_cue() -> None:
    assert parse_cues(b"a\r\nb\n") == (Cue("a\nb"),)
    assert parse_cues(b" \n") == ()


def test_encodings() -> None:
    assert decode("ä".encode("utf-8-sig")) == decode("ä".encode("utf-16")) == "ä"
    assert decode("ä".encode("cp1252")) == "ä"
    assert decode(b"a\x1bb") == "a b"


@pytest.mark.parametrize(("raw", "suffix"), [(b"a\0b", ".txt"), (b"no times", ".srt")])
def test_what_is_no_text_is_damaged(raw: bytes, suffix: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_cues(raw, suffix)
    assert caught.value.reason == "damaged"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    assert read_cues(path) == (Cue("hello"),)
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    for bad, reason in ((path, "too_large"), (tmp_path / "none.txt", "unreadable")):
        with pytest.raises(InputError) as caught:
            read_cues(bad)
        assert caught.value.reason == reason


@given(st.binary(max_size=80), st.sampled_from([".txt", ".srt", ".vtt"]))
def test_any_bytes_are_survived(raw: bytes, suffix: str) -> None:
    try:
        parse_cues(raw, suffix)
    except InputError as error:
        assert error.reason == "damaged"

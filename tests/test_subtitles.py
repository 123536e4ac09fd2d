"""flows/subtitles.py: what a reader gets, checked by a parser that is not ours."""

from __future__ import annotations

import html
import itertools
from typing import Any

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.subtitles import LINE, LINGER, LONGEST, SPEED, cues_of, segments_of, srt, vtt

TALK = (
    "Good morning, this is the third message today. The parts that you ordered in May have come, "
    "all fourteen of them, and they can be fetched from Monday on between nine and five o'clock."
)


def output(*segments: tuple[float, float, str]) -> dict[str, Any]:
    return {"segments": [{"start": s, "end": e, "text": text} for s, e, text in segments]}


def test_long_speech_becomes_short_cues_that_share_its_time() -> None:
    cues = list(cues_of([(10.0, 22.0, TALK)]))
    assert " ".join(line for cue in cues for line in cue.lines) == TALK
    assert cues[0].start == 10_000 and cues[-1].end == 22_000
    assert all(one.end == two.start for one, two in itertools.pairwise(cues))
    assert all(len(cue.lines) <= 2 and max(map(len, cue.lines)) <= LINE for cue in cues)
    assert all(cue.end - cue.start <= LONGEST * 1000 for cue in cues)
    assert " ".join(cues[0].lines) == "Good morning, this is the third message today."


def test_fast_speech_goes_on_into_the_silence_and_no_further() -> None:
    text = "x" * 30 + " " + "y" * 30  # 3.6 s to read
    [alone] = cues_of([(0.0, 2.0, text)])
    assert alone.end == round(len(text) / SPEED * 1000)
    [first, _] = cues_of([(0.0, 2.0, text), (3.0, 4.0, "next")])
    assert first.end == 3_000
    [late] = cues_of([(0.0, 0.2, text)])
    assert late.end == round((0.2 + LINGER) * 1000)
    [short] = cues_of([(5.0, 5.1, "yes")])
    assert short.end == 5_833


def test_a_word_longer_than_a_line_and_wide_letters() -> None:
    cues = list(cues_of([(0.0, 9.0, "w" * 100), (9.0, 20.0, "漢" * 50)]))
    assert all(len(line) <= LINE for cue in cues for line in cue.lines)
    wide = [line for cue in cues for line in cue.lines if "漢" in line]
    assert max(map(len, wide)) == LINE // 2 and sum(map(len, wide)) == 50


def test_files_have_their_forms() -> None:
    made = output((0.0, 1.2345, "one & <b>"), (3661.5, 3663.0, "two --->\n\nthree"))
    assert srt(made) == (
        "1\n00:00:00,000 --> 00:00:01,234\none & <b>\n\n"
        "2\n01:01:01,500 --> 01:01:03,000\ntwo -> three\n"
    )
    assert vtt(made) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.234\none &amp; &lt;b&gt;\n\n"
        "01:01:01.500 --> 01:01:03.000\ntwo -&gt; three\n"
    )


def test_nothing_with_times_is_no_file() -> None:
    assert srt({"text": "words"}) is None and vtt(output((0, 1, " "))) is None
    untimed = {"segments": [{"start": None, "end": 1, "text": "x"}]}
    assert segments_of(untimed) == []


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=90)
segments = st.lists(
    st.tuples(st.floats(0, 9000), st.floats(0, 30), words).map(lambda s: (s[0], s[0] + s[1], s[2])),
    max_size=8,
)


@given(segments)
def test_no_cue_overlaps_and_no_word_is_lost(spoken: list[tuple[float, float, str]]) -> None:
    timed = segments_of(output(*spoken))
    cues = list(cues_of(timed))
    assert all(one.end <= two.start for one, two in itertools.pairwise(cues))
    assert all(cue.start < cue.end and 1 <= len(cue.lines) <= 2 for cue in cues)
    said = "".join("".join(text.split()) for _, _, text in timed)
    shown = "".join("".join(line.split()) for cue in cues for line in cue.lines)
    assert shown.replace("->", ">").replace("-", "") == said.replace("->", ">").replace("-", "")


@given(segments)
def test_a_parser_of_others_reads_the_same_cues(spoken: list[tuple[float, float, str]]) -> None:
    made = output(*spoken)
    cues = list(cues_of(segments_of(made)))
    text = vtt(made)
    if text is None:
        assert not cues
        return
    read = pysubs2.SSAFile.from_string(text, format_="vtt", keep_unknown_html_tags=True)
    assert [(event.start, event.end) for event in read] == [(cue.start, cue.end) for cue in cues]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_the_words_come_back(form: str) -> None:
    made = output((1.0, 9.5, TALK), (12.0, 13.0, "A & B < C"), (13.0, 15.0, "שלום עולם 漢字"))
    text = (srt if form == "srt" else vtt)(made)
    assert text is not None
    read = pysubs2.SSAFile.from_string(text, format_=form)
    said = " ".join(html.unescape(event.plaintext.replace("\n", " ")) for event in read)
    assert said == f"{TALK} A & B < C שלום עולם 漢字"
    assert [event.start for event in read] == sorted(event.start for event in read)

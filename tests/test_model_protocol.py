"""flows/model_protocol.py: a request survives the trip, and nothing else gets through."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.journal import fingerprint
from flows.model_protocol import Status, body_limit, decode_request, encode_request
from model_onnx.bundle import Bundle
from model_onnx.constrain import Choices, FreeText, JsonSchema, Regex, ToolCalls
from model_onnx.errors import RequestError
from model_onnx.prompt import MediaSpan, Prompt
from model_onnx.sample import Sampling
from model_onnx.sequence import Request
from tests.model_serving import all_kinds, text_request
from tests.tiny import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    yield Bundle.open(tiny_bundle(tmp_path_factory.mktemp("protocol") / "bundle"))


def trip(request: Request, bundle: Bundle) -> Request:
    return decode_request(bytearray(encode_request(request, bundle.sha256)), bundle)


def test_every_kind_of_request_arrives_as_it_was(bundle: Bundle) -> None:
    for request in all_kinds(bundle):
        arrived = trip(request, bundle)
        assert fingerprint(arrived) == fingerprint(request)  # dtypes and shapes too
        assert arrived.time_limit == request.time_limit
        assert arrived.prompt.ids.flags.aligned
        assert all(span.features.flags.aligned for span in arrived.prompt.media)


text = st.text(st.characters(codec=None), max_size=30)  # lone surrogates too
constraints = st.one_of(
    st.just(FreeText()),
    st.builds(Regex, text, st.booleans()),
    st.builds(
        ToolCalls,
        st.lists(st.tuples(text, text), max_size=2).map(tuple),
        st.integers(0, 9),
        st.booleans(),
        st.none() | text,
    ),
    st.builds(JsonSchema, text, st.none() | text),
    st.builds(Choices, st.lists(text, max_size=3).map(tuple)),
)
samplings = st.builds(
    Sampling,
    st.floats(0, 5),
    st.floats(0, 1, exclude_min=True),
    st.integers(0, 1000),
    st.integers(0, 1 << 63),
)


@given(
    ids=st.lists(st.integers(0, 511), max_size=40),
    constraint=constraints,
    sampling=samplings,
    draft=st.none() | text,
    limit=st.none() | st.floats(0, 1e9),
    budget=st.integers(0, 4096),
    thinking=st.integers(0, 4096),
)
def test_any_request_arrives_as_it_was(bundle: Bundle, ids: Any, **fields: Any) -> None:
    prompt = Prompt(np.array(ids, np.int64), (), len(ids) // 2)
    request = Request(
        prompt,
        fields["constraint"],
        fields["budget"],
        fields["sampling"],
        fields["draft"],
        fields["limit"],
        fields["thinking"],
    )
    arrived = trip(request, bundle)
    assert fingerprint(arrived) == fingerprint(request)
    assert (arrived.time_limit, arrived.thinking) == (request.time_limit, request.thinking)


CALLS = {"kind": "tool_calls", "tools": [], "most": 1, "must_call": False, "evidence": None}


def rebuilt(body: bytes, **changes: Any) -> bytes:
    """A body with other values in its header; "media" may be a function on its first span."""
    (length,) = struct.unpack("<I", body[:4])
    header = json.loads(body[4 : 4 + length])
    span = changes.pop("span", {})
    header.update(changes)
    if span:
        header["media"][0].update(span)
    text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + body[4 + length :]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle": "0" * 64}, "not the server's"),
        ({"more": 1}, "expected an object with"),
        ({"ids": -1}, "whole number from 0"),
        ({"thinking": -1}, "whole number from 0"),
        ({"thinking": True}, "whole number from 0"),
        ({"ids": True}, "whole number from 0"),
        ({"ids": 1 << 40}, "whole number from 0"),
        ({"ids": 4000}, "outside the vocabulary"),
        ({"ids": 3}, "this is no request"),
        ({"prefix": 10**6}, "whole number from 0"),
        ({"media": []}, "bytes follow its end"),
        ({"media": {}}, "media is no list"),
        ({"span": {"start": 0}}, "away from its placeholders"),
        ({"span": {"start": -1}}, "whole number from 0"),
        ({"span": {"kind": "audio"}}, "not 640 wide"),
        ({"span": {"kind": "smell"}}, "unknown kind"),
        ({"span": {"shape": [2]}}, "not 6912 wide"),
        ({"span": {"shape": [0, 6912]}}, "empty or not finite"),
        ({"span": {"shape": [10**9, 6912]}}, "whole number from 0"),
        ({"constraint": {"kind": "regex"}}, "unknown constraint"),
        ({"constraint": {"kind": "regex", "pattern": 1}}, "unknown constraint"),
        (
            {"constraint": {"kind": "regex", "pattern": "a", "may_break_off": 1}},
            "unknown constraint",
        ),
        ({"constraint": {"kind": "choices", "options": ["a", 1]}}, "unknown constraint"),
        ({"constraint": "free_text"}, "unknown constraint"),
        ({"constraint": {**CALLS, "tools": [["a"]]}}, "unknown constraint"),
        ({"constraint": {**CALLS, "tools": [["a", 1]]}}, "unknown constraint"),
        ({"constraint": {**CALLS, "must_call": 1}}, "unknown constraint"),
        ({"constraint": {**CALLS, "most": -1}}, "whole number from 0"),
        ({"max_new_tokens": 1.5}, "whole number from 0"),
        ({"sampling": {"temperature": 0}}, "expected an object with"),
        ({"draft": 1}, "draft is not text"),
        ({"time_limit": -1}, "a number of at least 0"),
        ({"time_limit": float("inf")}, "Infinity is no number"),
        ({"time_limit": 10**400}, "this is no request"),
        (
            {"sampling": {"temperature": 1, "top_p": 2, "top_k": 0, "seed": 0}},
            "expected a temperature",
        ),
    ],
)
def test_wrong_headers(bundle: Bundle, changes: dict[str, Any], message: str) -> None:
    body = encode_request(all_kinds(bundle)[0], bundle.sha256)
    with pytest.raises(RequestError, match=message):
        decode_request(rebuilt(body, **changes), bundle)


def test_wrong_arrays(bundle: Bundle) -> None:
    request = all_kinds(bundle)[0]
    prompt, image = request.prompt, request.prompt.media[0]

    def refused(prompt: Prompt, message: str) -> None:
        with pytest.raises(RequestError, match=message):
            trip(replace(request, prompt=prompt), bundle)

    def with_image(**changes: Any) -> Prompt:
        return replace(prompt, media=(replace(image, **changes), *prompt.media[1:]))

    assert isinstance(image, MediaSpan) and image.positions is not None
    for wrong in (-1, 512, 1 << 62):
        refused(replace(prompt, ids=np.append(prompt.ids, wrong)), "outside the vocabulary")
    refused(with_image(features=image.features * np.float32(np.nan)), "not finite")
    refused(with_image(positions=image.positions - 1), "outside the table")
    refused(with_image(positions=image.positions + 40), "outside the table")
    refused(with_image(positions=None), "outside the table|bytes|finite|away")
    refused(replace(prompt, media=(*prompt.media[::-1],)), "away from its placeholders")
    refused(replace(prompt, media=(image, image)), "away from its placeholders")


@given(st.data())
def test_damaged_bodies_are_refused_or_valid(bundle: Bundle, data: st.DataObject) -> None:
    body = bytearray(encode_request(text_request(bundle, "ab", Regex("a")), bundle.sha256))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) or len(body) :]
    try:
        request = decode_request(body, bundle)
    except RequestError:
        return
    ids = request.prompt.ids
    assert ids.dtype == np.int64 and ((ids >= 0) & (ids < 512)).all()


@given(st.binary(max_size=200))
def test_garbage_is_refused(bundle: Bundle, raw: bytes) -> None:
    for body in (raw, struct.pack("<I", len(raw)) + raw):
        with pytest.raises(RequestError, match="this is no request"):
            decode_request(body, bundle)


def test_a_deeply_nested_header_is_refused(bundle: Bundle) -> None:
    text = b"[" * 200_000
    with pytest.raises(RequestError, match="this is no request"):
        decode_request(struct.pack("<I", len(text)) + text, bundle)


def test_the_limit_holds_a_page_in_every_position(bundle: Bundle) -> None:
    longest = bundle.config.max_positions * bundle.config.patch_dim * 4
    assert longest < body_limit(bundle.config) <= 1 << 30


@pytest.mark.parametrize("raw", [None, [], {}, {"bundle": "b"}])
def test_what_is_no_status(raw: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Status.from_json(raw)


def test_a_path_of_a_bundle_is_not_needed(bundle: Bundle, tmp_path: Path) -> None:
    """The identity of a bundle is its hash: a copy elsewhere is the same one."""
    elsewhere = replace(bundle, directory=tmp_path)
    body = encode_request(text_request(bundle, "x"), bundle.sha256)
    assert decode_request(body, elsewhere).prompt.ids.size

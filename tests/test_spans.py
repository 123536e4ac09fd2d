from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.spans import TokenMap, value_spans

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def test_paths_and_places() -> None:
    text = '{"a":"x\\"y","b":[{"c":1},{"c":null}],"d":[]}'
    found = {path: text[span.start : span.end] for path, span in value_spans(text).items()}
    assert found == {"a": '"x\\"y"', "b[0].c": "1", "b[1].c": "null", "d": "[]"}


@given(JSON)
def test_every_span_is_its_value(value: Any) -> None:
    for indent in (None, 1):
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        for span in value_spans(text).values():
            assert json.loads(text[span.start : span.end]) == span.value


@pytest.mark.parametrize("text", ["", "{", '{"a":', '{"a":1,}', "[1 2]", '{"a" 1}', "1 2", "{a:1}"])
def test_damaged_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        value_spans(text)


def test_probability_is_the_product_over_overlapping_tokens() -> None:
    pieces = (b'{"a":', b'"', "é".encode()[:1], "é".encode()[1:], b'y",', b'"b":', b"1}")
    logs = np.log(np.array([0.5, 0.9, 0.8, 0.7, 0.6, 1.0, 0.4], np.float32))
    tokens = TokenMap.of('{"a":"éy","b":1}', pieces, logs)
    spans = value_spans(tokens.text)
    assert tokens.probability(spans["a"].start, spans["a"].end) == pytest.approx(
        0.9 * 0.8 * 0.7 * 0.6
    )
    assert tokens.probability(spans["b"].start, spans["b"].end) == pytest.approx(0.4)
    assert tokens.mean(5, 6) == pytest.approx(0.9)


def test_no_tokens_no_confidence() -> None:
    assert TokenMap.of("", (), np.zeros(0, np.float32)).mean(0, 0) == 0.0

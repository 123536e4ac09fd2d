"""Constraints under noise: every answer is legal, in budget and, where asked, a copy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_onnx.constrain import Choices, Constraint, Grammar, JsonSchema, Regex
from model_onnx.errors import ConstraintError
from model_onnx.grammar import evidence_chunks
from tests.small_grammar import (
    EOS,
    QUICK,
    RECEIPT,
    SPECIAL,
    characters_tokenizer,
    grammar_of,
    merged_tokenizer,
    noisy,
    text_of,
)


@pytest.fixture(scope="module", params=[characters_tokenizer, merged_tokenizer])
def grammar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return grammar_of(request.param(), tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def characters(tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return grammar_of(characters_tokenizer(), tmp_path_factory.mktemp("characters"))


def conforms(value: object, schema: dict[str, Any]) -> Any:
    """An independent check of the keywords that the schemas below use."""
    if "anyOf" in schema:
        return any(conforms(value, branch) for branch in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    match value, schema["type"]:
        case dict(), "object":
            properties = schema["properties"]
            return list(value) == list(properties) and all(
                conforms(value[name], properties[name]) for name in properties
            )
        case list(), "array":
            size = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 100)
            return size and all(conforms(item, schema["items"]) for item in value)
        case str(), "string":
            if schema.get("format") == "date":
                return re.fullmatch(r"\d{4}-[01]\d-[0-3]\d", value) is not None
            size = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 500)
            return size and re.fullmatch(schema.get("pattern", "(?s:.*)"), value) is not None
        case bool(), kind:
            return kind == "boolean"
        case int() | float(), "integer" | "number":
            whole = isinstance(value, int) or schema["type"] == "number"
            return whole and schema.get("minimum", -(10**15)) <= value <= schema.get(
                "maximum", 10**15
            )
        case _, kind:
            return value is None and kind == "null"


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    small = st.integers(0, 4)
    return st.one_of(
        st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean")]),
        st.sampled_from(
            [
                {"type": "null"},
                {"type": "string", "format": "date"},
                {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
                {"type": "string", "pattern": "^(ab|abcd)+$", "maxLength": 9},
                {"enum": ["a", 'quote " and \\', None, 3, "<turn|>", "long option text"]},
            ]
        ),
        st.builds(
            lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
            small,
            small,
        ),
        st.builds(
            lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
            st.integers(-50, 500),
            st.integers(0, 500),
        ),
        st.builds(lambda low: {"type": "number", "minimum": low}, st.integers(-5, 5)),
    )


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.text(alphabet='ab"\\é\x01 <|>', min_size=1, max_size=4)
    return st.one_of(
        st.builds(lambda s: {"anyOf": [s, {"type": "null"}]}, inner),
        st.builds(
            lambda properties: {"type": "object", "properties": properties},
            st.dictionaries(names, inner, min_size=1, max_size=4),
        ),
        st.builds(_array, inner, st.integers(0, 2), st.integers(0, 3)),
    )


def _array(items: dict[str, Any], low: int, more: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": low, "maxItems": low + more}


SCHEMAS = st.recursive(leaves(), containers, max_leaves=8)


@given(schema=SCHEMAS, extra=st.integers(0, 60), seed=st.integers(0, 2**32))
@settings(QUICK, max_examples=150)
def test_any_schema_under_noise_gives_a_legal_compact_answer_within_any_budget_that_holds_one(
    grammar: Grammar, schema: dict[str, Any], extra: int, seed: int
) -> None:
    constraint = JsonSchema(json.dumps(schema))
    least = len(grammar.matcher(constraint, 2000).close())
    text = text_of(grammar, noisy(grammar, constraint, least + extra, seed))
    assert conforms(json.loads(text), schema), text
    assert not re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", text)), text


EVIDENCE = st.text(
    alphabet=st.one_of(
        st.sampled_from(list('ab 1.,"\\/<|>\n\té漢\u0301\x00\x1f\u00a0\u2028RM')),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


@given(evidence=EVIDENCE, spelling=st.sampled_from(["", *SPECIAL]), seed=st.integers(0, 2**32))
@settings(QUICK, max_examples=150)
def test_verbatim_values_are_runs_of_the_evidence(
    grammar: Grammar, evidence: str, spelling: str, seed: int
) -> None:
    evidence += spelling
    matcher = noisy(grammar, JsonSchema(json.dumps(RECEIPT), evidence), 400, seed)
    chunks = evidence_chunks(evidence)
    ends = np.cumsum([0, *map(len, chunks)]).tolist()
    whole = "".join(chunks)

    def is_run(value: str) -> bool:
        starts = [match.start() for match in re.finditer(f"(?={re.escape(value)})", whole)]
        return any(start in ends and start + len(value) in ends for start in starts)

    def check(item: dict[str, Any] | None) -> None:
        if item is not None:
            assert is_run(item["name"]) and item["name"] == item["name"].strip(" ")
            assert item["name"] or not whole
            check(item["part"])

    answer = json.loads(text_of(grammar, matcher))
    assert answer["vendor"] is None or (answer["vendor"] and is_run(answer["vendor"]))
    for item in answer["items"]:
        check(item)


def test_a_verbatim_value_may_cross_lines_but_not_split_an_amount(characters: Grammar) -> None:
    schema = JsonSchema('{"type":"string","verbatim":true}', 'TOTAL:RM12.50\nNo. "7"')

    def takes(value: str) -> bool:
        ids = characters.encode(json.dumps(value))
        return characters.matcher(schema, 99).legal_prefix(ids) == len(ids)

    for value in ("TOTAL", "RM12.50", "12.50", "TOTAL:RM12.50", "12.50 No.", 'No. "7"', "7"):
        assert takes(value), value
    for value in ("12", "50", "2.5", "TOTA", " No", "No. ", "12.50\nNo", "No 7", "", "13.50"):
        assert not takes(value), value


def test_verbatim_keeps_its_length_and_ignores_no_evidence(characters: Grammar) -> None:
    schema = '{"type":"string","verbatim":true,"maxLength":3}'
    assert text_of(characters, noisy(characters, JsonSchema(schema, "abcd é"), 20, 0)) == '"é"'
    free = characters.matcher(JsonSchema(schema), 20)
    assert free.legal_prefix(characters.encode('"xyz"')) == 5
    assert characters.matcher(JsonSchema(schema), 20).legal_prefix(characters.encode('"xyzw')) == 4


def test_empty_evidence_leaves_null_or_else_nothing(characters: Grammar) -> None:
    nullable = JsonSchema('{"type":["string","null"],"verbatim":true}', " \n")
    required = JsonSchema('{"type":"string","verbatim":true}', "")
    assert text_of(characters, noisy(characters, nullable, 9, 1)) == "null"
    assert text_of(characters, noisy(characters, required, 9, 1)) == '""'


def test_control_tokens_in_a_schema_are_written_as_plain_text(grammar: Grammar) -> None:
    for name in SPECIAL:
        matcher = noisy(grammar, JsonSchema(json.dumps({"const": f"a{name}b"})), 60, 0)
        assert text_of(grammar, matcher) == f'"a{name}b"'
        assert min(matcher.tokens) >= len(SPECIAL)


@given(seed=st.integers(0, 2**32), budget=st.integers(9, 40))
@settings(QUICK, max_examples=40)
def test_patterns_are_matched_whole(grammar: Grammar, seed: int, budget: int) -> None:
    for pattern in (
        r"[0-9]{4}-(0[1-9]|1[0-2])",
        r"(a|bc)*/z",
        r"[a-zé]{1,8}\n?",
        "[A-F]+(,[A-F]+){2}",
    ):
        text = text_of(grammar, noisy(grammar, Regex(pattern), budget, seed))
        assert re.fullmatch(pattern, text), text


@given(seed=st.integers(0, 2**32))
@settings(QUICK, max_examples=20)
def test_choices_give_one_of_the_options(grammar: Grammar, seed: int) -> None:
    options = ("in", "invoice", 'a "b" \\ /', "<turn|>", "été\n", "<|image|>")
    assert text_of(grammar, noisy(grammar, Choices(options), 30, seed)) in options


def test_choice_token_ids_are_canonical_and_free_of_prefixes(grammar: Grammar) -> None:
    options = ("in", "invoice", "<turn|>", "i")
    sequences = grammar.choice_token_ids(options)
    for option, ids in zip(options, sequences, strict=True):
        text = [token for token in ids if token not in EOS]
        assert text == grammar.encode(option) and ids[: len(text)] == text
        assert b"".join(map(grammar.bytes_of, text)).decode() == option
    for one in sequences:
        assert not any(other != one and other[: len(one)] == one for other in sequences)
    assert sequences[1][-1] not in EOS  # "invoice" begins nothing


@pytest.mark.parametrize("options", [(), ("a", "a"), ("",)])
def test_choices_that_cannot_be_told_apart_are_refused(
    characters: Grammar, options: tuple[str, ...]
) -> None:
    with pytest.raises(ConstraintError, match="at least one, none empty or repeated"):
        characters.choice_token_ids(options)
    with pytest.raises(ConstraintError, match="at least one, none empty or repeated"):
        characters.check(Choices(options))


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Regex("("), r"the pattern '\(' cannot be enforced: "),
        (Regex("a(?=b)"), "look-around"),
        (JsonSchema('{"type":"string","format":"binary"}'), "Unknown format: binary"),
        (JsonSchema('{"type":"string","pattern":"^(?!a)b$"}'), "look-around"),
        (JsonSchema('{"type":"integer","minimum":5,"maximum":1}'), "minimum"),
    ],
)
def test_check_names_what_cannot_be_enforced(
    characters: Grammar, constraint: Constraint, message: str
) -> None:
    with pytest.raises(ConstraintError, match=message) as caught:
        characters.check(constraint)
    assert len(str(caught.value)) < 1000


def test_a_schema_without_a_finite_answer_is_refused(characters: Grammar) -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    with pytest.raises(ConstraintError, match="the schema"):
        characters.matcher(JsonSchema(json.dumps(endless)), 50)


def test_pieces_are_the_bytes_of_the_text(tmp_path: Path) -> None:
    tokenizer = merged_tokenizer()
    grammar = grammar_of(tokenizer, tmp_path)
    text = 'The total: "RM12.50" é漢 <turn|> \U0001f600'
    ids = grammar.encode(text)
    assert b"".join(map(grammar.bytes_of, ids)).decode() == text
    tokenizer.encode_special_tokens = True
    assert ids == tokenizer.encode(text, add_special_tokens=False).ids
    assert grammar.bytes_of(EOS[1]) == b"<turn|>"

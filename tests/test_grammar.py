"""JSON Schema to Lark: what is refused, by name and place, and what the pieces of evidence are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_onnx.constrain import Grammar, JsonSchema
from model_onnx.errors import ConstraintError
from model_onnx.grammar import evidence_chunks, json_grammar, regex_grammar
from tests.small_grammar import QUICK, characters_tokenizer, grammar_of


@pytest.fixture(scope="module")
def grammar(tmp_path_factory: pytest.TempPathFactory) -> Grammar:
    return grammar_of(characters_tokenizer(), tmp_path_factory.mktemp("bundle"))


def takes(grammar: Grammar, schema: dict[str, Any], text: str, evidence: str | None = None) -> bool:
    """Whether the text is a whole answer."""
    matcher = grammar.matcher(JsonSchema(json.dumps(schema), evidence), 3000)
    ids = grammar.encode(text)
    if matcher.legal_prefix(ids) != len(ids):
        return False
    for token in ids:
        assert matcher.advance(token) == [token]
    return matcher.accepting


@pytest.mark.parametrize(
    ("schema", "keyword", "where"),
    [
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, "uniqueItems", "$"),
        ({"not": {"type": "null"}}, "type", "$"),
        ({"type": "string", "not": {"const": "a"}}, "not", "$"),
        ({"type": "string", "if": {}, "then": {}}, "if|then", "$"),
        ({"type": "string", "maxlength": 3}, "maxlength", "$"),
        ({"type": "strin"}, "type", "$"),
        ({}, "type", "$"),
        ({"type": "object"}, "additionalProperties", "$"),
        ({"type": "object", "additionalProperties": {"type": "null"}}, "additionalProperties", "$"),
        ({"type": "array"}, "items", "$"),
        ({"type": "array", "items": {"type": "x"}}, "type", "$[]"),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 1},
            "maxItems",
            "$",
        ),
        ({"type": "array", "prefixItems": [{"type": "null"}], "minItems": 2}, "prefixItems", "$"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "maxLength", "$"),
        ({"$ref": "other.json"}, "$ref", "$"),
        ({"$ref": "#/$defs/a"}, "$ref", "$"),
        ({"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": {"$ref": "#/$defs/a"}}}, "$ref", "$"),
        ({"enum": []}, "enum", "$"),
        ({"type": "string", "enum": [1]}, "enum", "$"),
        ({"type": "integer", "verbatim": True}, "verbatim", "$"),
        ({"enum": ["a"], "verbatim": True}, "verbatim", "$"),
        ({"type": "string", "pattern": "a", "verbatim": True}, "pattern", "$"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "type", "$"),
        ({"oneOf": [{"type": "string"}, {"type": ["string", "null"]}]}, "oneOf", "$"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name_and_place(
    schema: dict[str, Any], keyword: str, where: str
) -> None:
    nested = {"type": "object", "properties": {"field": schema}, "$defs": schema.get("$defs", {})}
    for root, place in ((schema, where), (nested, where.replace("$", "$.field"))):
        with pytest.raises(ConstraintError) as caught:
            json_grammar(json.dumps(root))
        message = str(caught.value)
        assert any(f"keyword {word!r} at {place}: " in message for word in keyword.split("|"))


KEYWORDS = [
    "type", "$ref", "$defs", "allOf", "anyOf", "oneOf", "enum", "const", "properties", "required",
    "items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength",
    "additionalProperties", "verbatim",
]  # fmt: skip
MALFORMED = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "#", "#/", "string"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner,
            max_size=4,
        ),
        st.fixed_dictionaries({"type": st.sampled_from(["object", "array", "string", "number"])}),
    ),
    max_leaves=8,
)


@given(schema=MALFORMED)
@QUICK
def test_text_that_is_no_schema_is_refused(grammar: Grammar, schema: object) -> None:
    constraint = JsonSchema(json.dumps(schema))
    try:
        grammar.check(constraint)
    except ConstraintError as error:
        assert "schema" in str(error).lower()


def test_text_that_is_not_json_or_no_text_is_refused(grammar: Grammar) -> None:
    for text in ("{", "[]", "3", '"string"', "true", '{"type":"array","items":3}', "[" * 100_000):
        with pytest.raises(ConstraintError, match=r"[sS]chema"):
            json_grammar(text)
    verbatim = '{"type":"string","verbatim":true}'
    for constraint in (JsonSchema('{"const":"\\ud800"}'), JsonSchema(verbatim, "a \ud800")):
        with pytest.raises(ConstraintError, match="lone surrogate"):
            grammar.check(constraint)


def test_properties_are_all_written_in_order_and_nothing_else(grammar: Grammar) -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "null"}, "a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": True,
    }
    assert takes(grammar, schema, '{"b":null,"a":true}')
    for text in ('{"a":true}', '{"a":true,"b":null}', '{"b":null,"a":true,"c":1}', '{"b": null}'):
        assert not takes(grammar, schema, text)


def test_the_bounds_of_what_has_none(grammar: Grammar) -> None:
    strings, numbers = {"type": "string"}, {"type": "number"}
    assert takes(grammar, strings, '"' + "é" * 500 + '"')
    assert not takes(grammar, strings, '"' + "é" * 501 + '"')
    assert takes(grammar, strings, r'"\n\t\"\\"') and not takes(grammar, strings, r'"\u0041"')
    assert takes(grammar, numbers, "-12.345678") and takes(grammar, numbers, "1000000000000000")
    for text in ("1e5", "0.1234567", "10000000000000000", "01", "+1", ".5"):
        assert not takes(grammar, numbers, text), text
    assert not takes(grammar, {"type": "integer"}, "1.0")
    nulls = {"type": "array", "items": {"type": "null"}}
    assert takes(grammar, nulls, "[" + ",".join(["null"] * 100) + "]")
    assert not takes(grammar, nulls, "[" + ",".join(["null"] * 101) + "]")
    assert takes(grammar, {**nulls, "maxItems": 1}, "[null]") and takes(grammar, nulls, "[]")
    assert not takes(grammar, {**nulls, "maxItems": 0}, "[null]")
    assert takes(grammar, {"type": "number", "multipleOf": 0.5, "maximum": 9}, "1.5")


def test_keywords_of_another_kind_have_no_effect(grammar: Grammar) -> None:
    schema = {"type": ["string", "integer", "null"], "maxLength": 2, "minimum": 5}
    assert [takes(grammar, schema, text) for text in ('"ab"', "7", "null")] == [True] * 3
    assert not takes(grammar, schema, '"abc"') and not takes(grammar, schema, "4")


def test_references_and_conjunctions(grammar: Grammar) -> None:
    schema = {
        "type": "object",
        "properties": {
            "a/b": {"allOf": [{"$ref": "#/definitions/x~1y"}], "description": "old pydantic"},
            "c": {"$ref": "#/definitions/x~1y", "maxLength": 1, "default": None},
            "d": {"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 1},
        },
        "definitions": {"x/y": {"type": "string", "minLength": 1}},
    }
    assert takes(grammar, schema, '{"a/b":"xy","c":"x","d":"x"}')
    assert takes(grammar, schema, '{"a/b":"xy","c":"x","d":null}')
    for text in ('{"a/b":"",', '{"a/b":"xy","c":"xy",', '{"a/b":"x","c":"x","d":"xy"}'):
        assert not takes(grammar, schema, text)


def test_one_of_takes_branches_that_a_tag_or_the_kind_tells_apart(grammar: Grammar) -> None:
    def shape(kind: str) -> dict[str, Any]:
        return {"type": "object", "properties": {"kind": {"const": kind}, "n": {"type": "integer"}}}

    schema = {
        "oneOf": [{"$ref": "#/$defs/a"}, shape("b"), {"type": "null"}],
        "discriminator": {"propertyName": "kind"},
        "$defs": {"a": shape("a")},
    }
    for text in ('{"kind":"a","n":1}', '{"kind":"b","n":1}', "null"):
        assert takes(grammar, schema, text)
    assert not takes(grammar, schema, '{"kind":"c","n":1}')
    with pytest.raises(ConstraintError, match="oneOf"):
        json_grammar(json.dumps({"oneOf": [shape("a"), shape("a")]}))


def test_fixed_values_are_compact_and_escaped(grammar: Grammar) -> None:
    schema = {"enum": ['"é\\\x7f\x01', None, {"a": [1, True]}]}
    for text in ('"\\"é\\\\\x7f\\u0001"', "null", '{"a":[1,true]}'):
        assert takes(grammar, schema, text)
    assert takes(grammar, {"type": "string", "enum": ["a", 1]}, '"a"')
    assert not takes(grammar, {"type": "string", "enum": ["a", 1]}, "1")
    assert takes(grammar, {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}]}, "[1,2]")


def test_verbatim_reaches_through_every_way_to_a_string(grammar: Grammar) -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"type": "string"}, {"type": "null"}], "verbatim": True},
            "b": {"type": "array", "items": {"type": ["string", "null"], "verbatim": True}},
            "c": {"$ref": "#/$defs/text", "verbatim": True},
            "d": {"$ref": "#/$defs/text"},
            "e": {"allOf": [{"$ref": "#/$defs/text"}], "verbatim": True},
        },
        "$defs": {"text": {"type": "string"}},
    }
    values = {"a": "tea", "b": ["tea", None], "c": "tea", "d": "free", "e": "tea"}
    assert takes(grammar, schema, json.dumps(values, separators=(",", ":")), "some tea")
    for name, value in (("a", "te"), ("b", ["cake"]), ("c", "free"), ("e", "free")):
        text = json.dumps({**values, name: value}, separators=(",", ":"))
        assert not takes(grammar, schema, text, "some tea"), name
        assert takes(grammar, schema, text), name


@given(text=st.text(max_size=80))
@QUICK
def test_chunks_joined_are_the_evidence_with_single_spaces(text: str) -> None:
    chunks = evidence_chunks(text)
    assert "".join(chunks) == " ".join(text.split())
    assert all(chunk == " " or not any(map(str.isspace, chunk)) for chunk in chunks)


def test_chunks_keep_words_and_amounts_whole() -> None:
    def split(text: str) -> str:
        return "|".join(evidence_chunks(text))

    assert split("TOTAL:RM1,234.50\n 12/05/18") == "TOTAL|:|RM|1,234.50| |12|/|05|/|18"
    assert split("10'000 3.\tO'Neil x7") == "10'000| |3|.| |O|'|Neil| |x|7"
    assert split("e\u0301te\u0301 漢字 हिन्दी") == "e\u0301te\u0301| |漢|字| |हिन्दी"
    assert evidence_chunks(" \n") == []


def test_a_pattern_keeps_its_slashes_and_escapes() -> None:
    assert regex_grammar(r"a/b\/[/]\\") == r"start: /a\/b\/[\/]\\/"
    assert "\n" not in regex_grammar("a\nb")

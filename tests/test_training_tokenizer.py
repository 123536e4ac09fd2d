"""The character tokenizer: exact round trips, and the same ids in every library that reads it."""

import json
from pathlib import Path

import llguidance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from training import tokenizer

TEXTS = st.text(max_size=60) | st.text(alphabet=tokenizer.CHARACTERS, max_size=60)
PLAIN = tokenizer.build()
PLAIN.encode_special_tokens = True
CHARACTERS = tokenizer.Characters()
LOADED = PreTrainedTokenizerFast(tokenizer_object=tokenizer.build(), **tokenizer.tokenizer_config())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.write(path)
    return path


@settings(deadline=None)
@given(TEXTS)
def test_any_text_survives(text: str) -> None:
    assert PLAIN.decode(PLAIN.encode(text, add_special_tokens=False).ids) == text


@settings(deadline=None)
@given(TEXTS)
def test_the_fast_encoder_agrees(text: str) -> None:
    assert CHARACTERS.encode(text) == PLAIN.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", tokenizer.SPECIAL)
def test_a_special_token_in_a_document_is_plain_text(name: str) -> None:
    ids = CHARACTERS.encode(f"see {name} here")
    assert CHARACTERS.special(name) not in ids
    assert PLAIN.decode(ids) == f"see {name} here"
    assert tokenizer.build().encode(name, add_special_tokens=False).ids == [
        CHARACTERS.special(name)
    ]


def test_one_token_per_known_character() -> None:
    assert len(CHARACTERS.encode("Straße: 12,50 €\n")) == len("Straße: 12,50 €\n")


def test_no_character_has_two_spellings() -> None:
    ids = tokenizer.vocabulary()
    assert "<0x41>" not in ids and "<0x0A>" not in ids and "<0x09>" in ids and "<0xE2>" in ids


@settings(deadline=None)
@given(TEXTS)
def test_transformers_reads_the_same_ids(text: str) -> None:
    ids = LOADED(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ids == CHARACTERS.encode(text)
    assert LOADED.decode(ids) == text


def test_the_directory_loads(directory: Path) -> None:
    loaded = PreTrainedTokenizerFast.from_pretrained(directory)
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<bos>", "<eos>", "<pad>")
    assert len(loaded) == len(tokenizer.vocabulary())
    raw = Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert raw.get_vocab() == tokenizer.vocabulary()


def test_llguidance_spells_every_token(directory: Path) -> None:
    loaded = llguidance.LLTokenizer(str(directory / "tokenizer.json"))
    text = "Zürich 漢\t€5"
    assert loaded.tokenize_str(text) == CHARACTERS.encode(text)
    assert loaded.decode_bytes(CHARACTERS.encode(text)) == text.encode()


def test_generation_stops_where_gemma_stops(directory: Path) -> None:
    config = json.loads((directory / "generation_config.json").read_text())
    special = CHARACTERS.special
    assert config["eos_token_id"] == [special(n) for n in ("<eos>", "<turn|>", "<|tool_response>")]
    assert config["suppress_tokens"] == [special("<audio|>"), special("<image|>")]

"""Small tokenizers built like Gemma's (byte-fallback BPE, U+2581 for a space), their Grammar, and
the decode loop on random logits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
from hypothesis import HealthCheck, settings
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

from model_onnx.bundle import Bundle
from model_onnx.constrain import Constraint, Grammar
from model_onnx.matcher import Matcher

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|channel>", "<|image|>"]
EOS = (SPECIAL.index("<eos>"), SPECIAL.index("<turn|>"))
SUPPRESSED = (SPECIAL.index("<|image|>"),)
PADDING = 10
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = ["\u2581", "\n", *map(chr, range(33, 127)), *"éüß€漢字"]
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
RECEIPT_KINDS = ["invoice", "receipt", "other"]
RECEIPT = {
    "type": "object",
    "properties": {
        "vendor": {"anyOf": [{"type": "string"}, {"type": "null"}], "verbatim": True},
        "total": {"type": ["number", "null"], "minimum": 0},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        "kind": {"enum": RECEIPT_KINDS},
    },
    "$defs": {
        "Item": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "verbatim": True},
                "part": {"anyOf": [{"$ref": "#/$defs/Item"}, {"type": "null"}]},
            },
        }
    },
}


def characters_tokenizer() -> Tokenizer:
    """One token for each character, and no merges."""
    vocabulary = {text: index for index, text in enumerate([*SPECIAL, *BYTES, *LETTERS])}
    return _finish(Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>")))


def merged_tokenizer() -> Tokenizer:
    """Trained on JSON and prose, so that tokens cross the seams of values: `":"`, `"},{"`."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + len(BYTES) + len(LETTERS) + 400,
        special_tokens=SPECIAL + BYTES,
        initial_alphabet=LETTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    trained = json.loads(tokenizer.to_str())
    trained["added_tokens"] = []  # the trainer's: bytes are not special
    return _finish(Tokenizer.from_str(json.dumps(trained)))


def grammar_of(tokenizer: Tokenizer, directory: Path) -> Grammar:
    """A Grammar over a bundle that has only a tokenizer; the logits are PADDING wider."""
    tokenizer.save(str(directory / "tokenizer.json"))
    bundle = SimpleNamespace(
        config=SimpleNamespace(vocab_size=tokenizer.get_vocab_size() + PADDING),
        path=lambda name: directory / name,
        eos_token_ids=EOS,
        suppress_tokens=SUPPRESSED,
    )
    return Grammar(cast(Bundle, bundle))


def _finish(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return tokenizer


def _corpus() -> Iterator[str]:
    for number in range(300):
        yield f'{{"date":"2024-0{number % 9 + 1}-17","items":[{{"price":{number}.50,"name":null}},'
        yield f'{{"price":null,"name":"tea number {number}"}}],"total":"RM{number}.00","paid":1}}'


def text_of(grammar: Grammar, matcher: Matcher) -> str:
    return b"".join(map(grammar.bytes_of, matcher.tokens)).decode()


def step(matcher: Matcher, noise: np.random.Generator) -> None:
    """One step of the loop in the module's docstring, on random logits."""
    forced = matcher.forced()
    if forced:
        matcher.commit(forced)
        return
    allowed, ids = matcher.allowed(), matcher.allowed_ids()
    if ids is not None:
        assert np.array_equal(np.flatnonzero(allowed), ids)
    logits = np.where(allowed, noise.standard_normal(len(allowed)), -np.inf)
    if type(matcher) is not Matcher:
        special = set(np.flatnonzero(allowed[: len(SPECIAL)]).tolist())
        assert special == (set(EOS) if matcher.accepting else set())
    token = int(logits.argmax())
    room = matcher.remaining
    appended = matcher.advance(token)
    assert appended in ([token], []) or matcher.truncated
    assert len(appended) <= room


def noisy(grammar: Grammar, constraint: Constraint, budget: int, seed: int) -> Matcher:
    matcher, noise = grammar.matcher(constraint, budget), np.random.default_rng(seed)
    while not matcher.finished:
        step(matcher, noise)
    assert len(matcher.tokens) <= budget
    return matcher


def noisy_rest(matcher: Matcher) -> Matcher:
    noise = np.random.default_rng(5)
    while not matcher.finished:
        step(matcher, noise)
    return matcher

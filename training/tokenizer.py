"""The embedded model's tokenizer: one token per character, bytes for every other character.

A character vocabulary makes copying exact: the model never has to spell a word that a token
hides. Special tokens carry Gemma's names (with ids of our own); the spelling of one inside a
document is ordinary text when the caller asks for that.
"""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models

SPECIAL = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
    *("<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>"),
    *('<|"|>', "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>"),
    *("<|image>", "<|image|>", "<image|>", "<|audio>", "<|audio|>", "<audio|>", "<|video|>"),
)
ASCII = "\n" + "".join(map(chr, range(0x20, 0x7F)))
LATIN = (
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŒœŠš"
    "ŽžŁłĄąĆćĘęŃńŚśŹźŻżČčĎďĚěŇňŘřŤťŮůŐőŰűĞğİıŞş"
)
SIGNS = "¡¢£¥§©«®°±²³µ·º»¼½¾¿×÷–—‘’‚“”„†•…‰™€™"
CHARACTERS = "".join(dict.fromkeys(ASCII + LATIN + SIGNS))
# Printable ASCII has tokens of its own and no bytes: a grammar would allow both spellings.
BYTES = tuple(b for b in range(256) if b >= 0x80 or chr(b) not in ASCII)
TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def vocabulary() -> dict[str, int]:
    """Token -> id: special tokens, characters, bytes."""
    tokens = (*SPECIAL, *CHARACTERS, *(f"<0x{b:02X}>" for b in BYTES))
    return {token: index for index, token in enumerate(tokens)}


def build() -> Tokenizer:
    model = models.BPE(
        vocab=vocabulary(), merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=False
    )
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in SPECIAL])
    return tokenizer


class Characters:
    """Text -> ids of ordinary tokens, as `build()` with `encode_special_tokens`, but faster."""

    def __init__(self) -> None:
        self.ids = vocabulary()

    def special(self, name: str) -> int:
        return self.ids[name]

    def encode(self, text: str) -> list[int]:
        out: list[int] = []
        for character in text:
            known = self.ids.get(character)
            if known is None:
                out.extend(self.ids[f"<0x{b:02X}>"] for b in character.encode())
            else:
                out.append(known)
        return out

    @cached_property
    def size(self) -> int:
        return len(self.ids)


def generation_config() -> dict[str, object]:
    """End markers and suppressed media ends as in Gemma's file; greedy, since it only copies."""
    ids = vocabulary()
    return {
        "bos_token_id": ids["<bos>"],
        "pad_token_id": ids["<pad>"],
        "eos_token_id": [ids["<eos>"], ids["<turn|>"], ids["<|tool_response>"]],
        "suppress_tokens": [ids["<audio|>"], ids["<image|>"]],
        "do_sample": False,
    }


def tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 8192,
    }


def write(directory: Path) -> None:
    """tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json."""
    build().save(str(directory / "tokenizer.json"))
    for name, content in (
        ("tokenizer_config.json", tokenizer_config()),
        ("generation_config.json", generation_config()),
    ):
        (directory / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    shutil.copyfile(TEMPLATE, directory / TEMPLATE.name)

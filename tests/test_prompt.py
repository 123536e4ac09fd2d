"""Prompts: the layout, the media spans, the shared prefix, and that text stays text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

from model_onnx.answer import ToolCall
from model_onnx.bundle import CHAT_TEMPLATE, TOKENIZER, Bundle
from model_onnx.errors import BundleError, RequestError
from model_onnx.prompt import (
    Audio,
    Image,
    Part,
    Prompt,
    PromptRenderer,
    Tool,
    ToolResult,
    Turn,
    Video,
)
from tests.test_patches import CONFIG
from training.tokenizer import build

CONTROLS = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|tool>", "<tool|>", "<|tool_call>"),
    *("<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>', "<|think|>", "<|channel>"),
    *("<channel|>", "<|turn>", "<turn|>", "<|image>", "<|image|>", "<image|>", "<|audio>"),
    *("<|audio|>", "<audio|>", "<|video|>"),
)
# The layout of Gemma's template, with its habits: trimmed text, sorted keys, `~` where it glues.
TEMPLATE = """\
{%- macro value(it) -%}
    {%- if it is string -%}<|"|>{{ it }}<|"|>
    {%- elif it is boolean -%}{{ 'true' if it else 'false' }}
    {%- elif it is mapping -%}{ {%- for k, v in it | dictsort -%}
        {{ k }}:{{ value(v) }}{{ ',' if not loop.last }}{%- endfor -%} }
    {%- elif it is sequence -%}[{%- for v in it -%}{{ value(v) }}{{ ',' if not loop.last }}
        {%- endfor -%}]
    {%- else -%}{{ it | tojson }}{%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- set rest = messages -%}
{%- if enable_thinking or tools or messages[0].role == 'system' -%}
    {{- '<|turn>system\\n' -}}
    {%- if enable_thinking -%}{{- '<|think|>\\n' -}}{%- endif -%}
    {%- if messages[0].role == 'system' -%}
        {{- messages[0].content | trim -}}
        {%- set rest = messages[1:] -%}
    {%- endif -%}
    {%- for tool in tools or [] -%}
        {{- '<|tool>declaration:' ~ tool.function.name -}}
        {{- value({'description': tool.function.description,
                   'parameters': tool.function.parameters}) ~ '<tool|>' -}}
    {%- endfor -%}
    {{- '<turn|>\\n' -}}
{%- endif -%}
{%- for message in rest -%}
    {{- '<|turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' -}}
    {%- for call in message.tool_calls or [] -%}
        {{- '<|tool_call>call:' ~ call.function.name ~ value(call.function.arguments) -}}
        {{- '<tool_call|>' -}}
    {%- endfor -%}
    {%- for result in message.tool_responses or [] -%}
        {{- '<|tool_response>response:' ~ result.name -}}
        {{- value(result.response if result.response is mapping else {'value': result.response}) -}}
        {{- '<tool_response|>' -}}
    {%- endfor -%}
    {%- if message.content is string -%}
        {{- message.content | trim -}}
    {%- else -%}
        {%- for part in message.content -%}
            {%- if part.type == 'text' -%}{{- part.text | trim -}}
            {%- else -%}{{- '<|' ~ part.type ~ '|>' -}}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if not (message.tool_responses and not message.content) -%}{{- '<turn|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not messages[-1].tool_responses -%}
    {{- '<|turn>model\\n' -}}
    {%- if not enable_thinking -%}{{- '<|channel>thought\\n<channel|>' -}}{%- endif -%}
{%- endif -%}
"""
REPOSITORY_TEMPLATE = Path(__file__).parents[1] / "training" / "chat_template.jinja"


def characters() -> Tokenizer:
    """A token a character, bytes for the rest."""
    tokens = [*CONTROLS, "\n", *map(chr, range(32, 127)), *(f"<0x{b:02X}>" for b in range(256))]
    model = models.BPE(
        {token: index for index, token in enumerate(tokens)},
        [],
        unk_token="<unk>",
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in CONTROLS])
    return tokenizer


def merges(*corpus: str, special: bool = True) -> Tokenizer:
    """Like Gemma's: merges, ▁ for the space, runs of newlines as added tokens that are not special;
    trained on the spellings of control tokens, so that most of each is one ordinary token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900, show_progress=False, min_frequency=1,
        special_tokens=[*CONTROLS, *(f"<0x{b:02X}>" for b in range(256))],
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus, trainer)
    clean = Tokenizer(tokenizer.model)
    clean.normalizer, clean.decoder = tokenizer.normalizer, tokenizer.decoder
    clean.add_tokens(["\n\n", "\n\n\n"])
    for name in CONTROLS:
        is_special = special or "|" not in name
        clean.add_tokens([AddedToken(name, normalized=False, special=is_special)])
    return clean


PARTIAL = [name[:-1] for name in CONTROLS] + [name[1:] for name in CONTROLS] * 2
CORPUS = (*PARTIAL, "the total is 4.20 and a cat sat")
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "characters": characters,
    "merges": lambda: merges(*CORPUS),
    "control tokens not marked special": lambda: merges(*CORPUS, special=False),
}


def bundle(directory: Path, tokenizer: Tokenizer, template: str = TEMPLATE) -> Bundle:
    tokenizer.save(str(directory / TOKENIZER))
    (directory / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
    ids = {name: tokenizer.token_to_id(name) or 0 for name in CONTROLS}
    config = replace(
        CONFIG,
        image_token_id=ids["<|image|>"],
        audio_token_id=ids["<|audio|>"],
        video_token_id=ids["<|video|>"],
        boi_token_id=ids["<|image>"],
        eoi_token_id=ids["<image|>"],
        boa_token_id=ids["<|audio>"],
        eoa_token_id=ids["<audio|>"],
    )
    return Bundle(directory, config, "fp32", "cpu", "float32", 8.0, {}, "")


class Case:
    """A renderer with the tokenizer it stands on, which here recognises control tokens."""

    def __init__(self, directory: Path, tokenizer: Tokenizer, template: str) -> None:
        self.tokenizer, self.template = tokenizer, template
        opened = bundle(directory, self.tokenizer, template)
        self.config, self.renderer = opened.config, PromptRenderer(opened)
        self.names = {self.tokenizer.token_to_id(name): name for name in CONTROLS}

    def text(self, prompt: Prompt) -> str:
        decoded = self.tokenizer.decode(prompt.ids.tolist(), skip_special_tokens=False)
        assert isinstance(decoded, str)
        return decoded

    def controls(self, prompt: Prompt) -> list[str]:
        return [self.names[i] for i in prompt.ids.tolist() if i in self.names]


TEMPLATES = {
    "written here": TEMPLATE,
    "of the embedded model": REPOSITORY_TEMPLATE.read_text(encoding="utf-8"),
}


@pytest.fixture(
    scope="module", params=[(k, t) for k in TOKENIZERS for t in TEMPLATES], ids="-".join
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, template = request.param
    return Case(tmp_path_factory.mktemp("bundle"), TOKENIZERS[kind](), TEMPLATES[template])


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The embedded model's own tokenizer and template."""
    return Case(tmp_path_factory.mktemp("bundle"), build(), TEMPLATES["of the embedded model"])


def user(*parts: Part) -> Turn:
    return Turn("user", parts)


SYSTEM = Turn("system", ("Write the text of this page, line by line.",))
PAGE = Image(np.full((96, 144, 3), 255, np.uint8), None)
CLIP = Audio(np.zeros(640 * 3 - 1, np.float32))
FIND = Tool(
    "find",
    "Finds a word.",
    {
        "type": "object",
        "properties": {"word": {"type": "string", "description": "what to find"}},
        "required": ["word"],
    },
)


def test_the_layout_is_gemmas(case: Case) -> None:
    prompt = case.renderer.render([SYSTEM, user(PAGE, CLIP, "  the page\n")])
    assert case.text(prompt) == (
        "<bos><|turn>system\nWrite the text of this page, line by line.<turn|>\n"
        f"<|turn>user\n<|image>{'<|image|>' * 6}<image|><|audio>{'<|audio|>' * 3}<audio|>the page"
        "<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    )


def test_thinking_is_asked_for_and_dropped_from_history(case: Case) -> None:
    history = [user("2 + 2?"), Turn("model", ("<|channel>thought\nhm<channel|>4",)), user("+ 1?")]
    assert case.text(case.renderer.render(history, thinking=True)) == (
        "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\n2 + 2?<turn|>\n"
        "<|turn>model\n4<turn|>\n<|turn>user\n+ 1?<turn|>\n<|turn>model\n"
    )


def test_tools_are_declared_called_and_answered(case: Case) -> None:
    call, result = ToolCall("find", {"word": "cat", "n": 2}), ToolResult("find", {"line": 7})
    turns = [SYSTEM, user("Where is the cat?"), Turn("model", (call, result))]
    text = case.text(case.renderer.render(turns, tools=[FIND]))
    assert "by line.<|tool>declaration:find{" in text and "}<tool|><turn|>\n<|turn>user" in text
    assert '<|"|>what to find<|"|>' in text and '<|"|>word<|"|>' in text
    assert text.endswith(
        '<|turn>model\n<|tool_call>call:find{n:2,word:<|"|>cat<|"|>}<tool_call|>'
        "<|tool_response>response:find{line:7}<tool_response|>"
    )


def test_an_answer_after_a_tool_ends_its_turn(case: Case) -> None:
    call, result = ToolCall("find", {}), ToolResult("find", {"line": 7})
    turns = [user("Where?"), Turn("model", (call, result, "Line 7.")), user("Thanks.")]
    names = case.controls(case.renderer.render(turns))
    response = names.index("<tool_response|>")
    assert names[response + 1 : response + 5] == ["<turn|>", "<|turn>", "<turn|>", "<|turn>"]


def test_a_tools_plain_text_is_a_value(case: Case) -> None:
    turn = Turn("model", (ToolCall("find", {}), ToolResult("find", "line 7")))
    text = case.text(case.renderer.render([user("Where?"), turn]))
    assert text.endswith('<|tool_response>response:find{value:<|"|>line 7<|"|>}<tool_response|>')


ORDINARY = st.lists(
    st.sampled_from(
        ["the ", "total", "\n", "\n\n\n", "  ", "4.20", "é", "漢", "a cat sat", "{", ","]
    )
).map("".join)


@settings(max_examples=50, deadline=None)
@given(system=ORDINARY, text=ORDINARY, answer=ORDINARY)
def test_ids_are_those_of_the_whole_prompt_at_once(
    case: Case, system: str, text: str, answer: str
) -> None:
    """Where no text spells a control token, cutting the prompt into pieces changes nothing; the
    reference renders the template itself."""
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [Turn("system", (system,)), user("a", text), Turn("model", (answer,)), user("b")]
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("a", text)]},
        {"role": "assistant", "content": answer.strip()},
        {"role": "user", "content": "b"},
    ]
    rendered, _ = render_jinja_template(
        [messages],
        chat_template=case.template,
        add_generation_prompt=True,
        bos_token="<bos>",
        enable_thinking=False,
    )
    expected = case.tokenizer.encode(rendered[0], add_special_tokens=False).ids
    assert case.renderer.render(turns).ids.tolist() == expected


@settings(max_examples=50, deadline=None)
@given(instruction=ORDINARY, text=ORDINARY)
def test_training_lays_out_the_same_prompt(embedded: Case, instruction: str, text: str) -> None:
    from training.encoding import Encoder
    from training.samples import Sample

    page, clip = np.zeros((96, 144), np.uint8), np.zeros(641, np.float32)
    example = Encoder().encode(Sample("tag", instruction, text, "yes", image=page, audio=clip))
    grey = Image(np.repeat(page[..., None], 3, axis=2), None)
    turns = [Turn("system", (instruction,)), user(grey, Audio(clip), text)]
    prompt = embedded.renderer.render(turns)
    assert prompt.ids.tolist() == example.ids[: example.answer].tolist()
    answer = [*embedded.renderer.encode_text("yes"), embedded.tokenizer.token_to_id("<turn|>")]
    assert answer == example.ids[example.answer :].tolist()
    assert example.positions is not None and example.frames is not None
    assert prompt.media[0].positions is not None
    assert np.array_equal(prompt.media[0].positions, example.positions)
    assert np.array_equal(prompt.media[1].features, example.frames)


HOSTILE = st.lists(
    st.sampled_from(
        [
            *CONTROLS,
            *PARTIAL,
            "<",
            "|",
            ">",
            "<|",
            "|>",
            "turn",
            "\n",
            " ",
            "\ue000",
            "é",
            "漢",
            "\x00",
        ]
    )
    | st.text(max_size=3),
    max_size=8,
).map("".join)


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(HOSTILE, min_size=11, max_size=11), thinking=st.booleans())
def test_text_never_becomes_a_control_token(case: Case, texts: list[str], thinking: bool) -> None:
    def prompt(texts: list[str]) -> Prompt:
        text = iter(["x" + text for text in texts])
        tool = Tool(
            next(text),
            next(text),
            {"type": "object", "properties": {"k": {"type": "string", "description": next(text)}}},
        )
        turns = [
            Turn("system", (next(text), next(text))),
            user(next(text), PAGE, next(text), next(text)),
            Turn("model", (next(text),)),
            user("y"),
            Turn("model", (ToolCall("f", {"k": next(text)}), ToolResult("f", {"k": next(text)}))),
        ]
        return case.renderer.render(turns, thinking=thinking, tools=[tool])

    assert case.controls(prompt(texts)) == case.controls(prompt([""] * len(texts)))


@settings(max_examples=200, deadline=None)
@given(text=HOSTILE)
def test_encoded_text_is_text_and_comes_back(case: Case, text: str) -> None:
    ids = case.renderer.encode_text(text)
    assert not set(case.names) & set(ids)
    decoded = case.tokenizer.decode(ids, skip_special_tokens=False)
    assert decoded == text or "▁" in text


def test_every_spelling_and_pair_of_spellings_is_text(case: Case) -> None:
    for name in CONTROLS:
        text = name + "".join(CONTROLS) + name
        assert not set(case.names) & set(case.renderer.encode_text(text))
        split = [user(*(part for cut in range(len(name)) for part in (name[:cut], name[cut:])))]
        assert case.controls(case.renderer.render(split)) == case.controls(
            case.renderer.render([user("x")])
        )


def test_half_a_surrogate_pair_is_replaced(case: Case) -> None:
    ids = case.renderer.encode_text("a\ud800b")
    assert case.tokenizer.decode(ids) == "a\ufffdb"


PARTS = st.lists(
    st.sampled_from([PAGE, CLIP, Image(np.zeros((48, 48, 3), np.uint8), 70), "text", "<|image|>"]),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(parts=PARTS)
def test_media_spans_are_the_placeholders(case: Case, parts: list[Part]) -> None:
    prompt = case.renderer.render([SYSTEM, user(*parts)])
    config, ids = case.config, prompt.ids.tolist()
    around = {
        "image": (config.boi_token_id, config.image_token_id, config.eoi_token_id),
        "audio": (config.boa_token_id, config.audio_token_id, config.eoa_token_id),
    }
    given_kinds = [type(part).__name__.lower() for part in parts if not isinstance(part, str)]
    assert [span.kind for span in prompt.media] == given_kinds
    covered = set()
    for span in prompt.media:
        begin, token, end = around[span.kind]
        stop = span.start + len(span.features)
        assert ids[span.start - 1 : stop + 1] == [begin, *[token] * len(span.features), end]
        assert (span.positions is None) == (span.kind == "audio")
        covered |= set(range(span.start, stop))
    placeholders = {config.image_token_id, config.audio_token_id, config.video_token_id}
    assert {i for i, token in enumerate(ids) if token in placeholders} == covered
    assert prompt.prefix <= min((span.start for span in prompt.media), default=len(ids)) - 1


@settings(max_examples=40, deadline=None)
@given(system=HOSTILE, first=HOSTILE, second=HOSTILE, thinking=st.booleans())
def test_the_prefix_is_the_system_turn(
    case: Case, system: str, first: str, second: str, thinking: bool
) -> None:
    a, b = (
        case.renderer.render([Turn("system", (system,)), user(text)], thinking=thinking)
        for text in (first, second)
    )
    assert a.prefix == b.prefix and np.array_equal(a.ids[: a.prefix], b.ids[: b.prefix])
    assert case.tokenizer.decode(a.ids[a.prefix :][:5].tolist(), skip_special_tokens=False)[
        :12
    ].startswith("<|turn>")
    assert case.renderer.render([user(first)]).prefix == 0


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "got turns of"),
        ([SYSTEM], "at the end a user turn"),
        ([user("a"), SYSTEM, user("b")], "at most one system turn"),
        ([user("a"), Turn("model", ("b",))], "ends with a ToolResult"),
        ([user("a"), Turn("model", ())], "ends with a ToolResult"),
        ([Turn("system", (PAGE,)), user("a")], "Image in a system turn"),
        ([user(ToolResult("f", "x"))], "ToolResult in a user turn"),
        ([user("a"), Turn("model", (ToolResult("f", {"x": b""}),))], "bytes in a tool's values"),
        ([user(Image(np.zeros((47, 48, 3), np.uint8), None))], "multiples of 48"),
        ([user(Audio(np.zeros(0, np.float32)))], "at least one sample"),
    ],
)
def test_impossible_turns_are_refused(case: Case, turns: list[Turn], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        case.renderer.render(turns)


def test_values_nested_too_deeply_are_refused(case: Case) -> None:
    value: Any = "x"
    for _ in range(100_000):
        value = [value]
    turn = Turn("model", (ToolCall("f", {"k": value}), ToolResult("f", "y")))
    with pytest.raises(RequestError, match="cannot render"):
        case.renderer.render([user("a"), turn])


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{% if %}", BundleError, "cannot read"),
        ("{{ raise_exception('no tools') }}", RequestError, "no tools"),
        ("{{ messages.append(1) }}", RequestError, "cannot render"),
        ("{{ ''.__class__.__mro__ }}", RequestError, "cannot render"),
        ("{{ bos_token }}", BundleError, "left out 1"),
        ("<|audio|>", BundleError, "no audio was given"),
        ("<|image|><|image|>", BundleError, "no image was given"),
    ],
)
def test_templates_that_do_not_fit_are_refused(
    tmp_path: Path, template: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PromptRenderer(bundle(tmp_path, characters(), template)).render([user(PAGE)])


def test_the_template_language_is_hugging_faces(tmp_path: Path) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    template = """
    {% for message in messages %}
        {% if loop.index > 2 %}{% break %}{% endif %}
      {{ {'b': ['é<&', 1.5, none, true], 'a': message.content} | tojson }}
    {% endfor %}
    {{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}
    """
    renderer = PromptRenderer(bundle(tmp_path, characters(), template))
    prompt = renderer.render([user("a"), user("a"), user("a")])
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}]}] * 3
    rendered, _ = render_jinja_template([messages], chat_template=template)
    assert prompt.ids.tolist() == renderer.encode_text(rendered[0])


def test_a_tokenizer_whose_text_makes_control_tokens_is_refused(tmp_path: Path) -> None:
    leaking = merges(*CONTROLS * 5)
    vocabulary = leaking.get_vocab()
    assert "<|turn>" in vocabulary
    with pytest.raises(BundleError, match="expected control tokens"):
        PromptRenderer(bundle(tmp_path, leaking))


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    damaged = bundle(tmp_path, characters())
    (tmp_path / TOKENIZER).write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match="cannot read"):
        PromptRenderer(damaged)


def test_a_video_is_frames_with_their_times(embedded: Case) -> None:
    """As the reference's processor writes it: `mm:ss`, the image, parted by spaces."""
    frames = ((0.0, np.zeros((96, 48, 3), np.uint8)), (61.9, np.ones((96, 96, 3), np.uint8)))
    prompt = embedded.renderer.render([user(Video(frames, 70), "What?")])
    one, two = prompt.media
    shown = [f"<|image>{'<|video|>' * len(span.features)}<image|>" for span in (one, two)]
    text = f"<bos><|turn>user\n00:00 {shown[0]} 01:01 {shown[1]}What?<turn|>"
    assert embedded.text(prompt).startswith(text)
    assert [span.kind for span in prompt.media] == ["video", "video"]
    for span in (one, two):
        placed = prompt.ids[span.start : span.start + len(span.features)]
        assert set(placed.tolist()) == {embedded.config.video_token_id}
        assert len(span.features) <= 70 and span.positions is not None
    with pytest.raises(RequestError, match="without frames"):
        embedded.renderer.render([user(Video(()))])

"""The chat template's layout, turn by turn."""

from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from training import tokenizer

TEMPLATE = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
).from_string(tokenizer.TEMPLATE.read_text())


def render(messages: list[dict[str, Any]], **options: Any) -> str:
    return TEMPLATE.render(bos_token="<bos>", messages=messages, **options)


TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {
                "b": {"type": "integer", "description": "second"},
                "a": {"type": "string", "enum": ["x", "y"]},
            },
            "required": ["a"],
        },
    },
}
CALL = {
    "role": "assistant",
    "content": None,
    "reasoning": "Two numbers.",
    "tool_calls": [{"function": {"name": "add", "arguments": {"b": [1, 2.5, None], "a": "x"}}}],
}
RESPONSE = {"role": "tool", "name": "add", "content": {"ok": True}}
USER = {"role": "user", "content": " Add. "}


def test_system_and_user_without_thinking() -> None:
    text = render([{"role": "system", "content": " Be brief. "}, USER], add_generation_prompt=True)
    assert text == (
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nAdd.<turn|>\n"
        "<|turn>model\n<|channel>thought\n<channel|>"
    )


def test_thinking_is_switched_on_in_the_system_turn() -> None:
    text = render([USER], enable_thinking=True, add_generation_prompt=True)
    assert text == (
        "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nAdd.<turn|>\n<|turn>model\n"
    )


def test_no_system_turn_without_reason() -> None:
    assert render([USER]) == "<bos><|turn>user\nAdd.<turn|>\n"


def test_media_come_as_placeholders_in_order() -> None:
    parts = [
        {"type": "image"},
        {"type": "text", "text": " a "},
        {"type": "audio"},
        {"type": "video"},
    ]
    text = render([{"role": "user", "content": parts}])
    assert text == "<bos><|turn>user\n<|image|>a<|audio|><|video|><turn|>\n"


def test_history_loses_its_thoughts() -> None:
    said = {"role": "assistant", "content": "<|channel>thought\nhm<channel|> Yes. "}
    text = render([USER, said, USER], add_generation_prompt=True)
    assert "hm" not in text
    assert "<|turn>model\nYes.<turn|>\n" in text


def test_tool_declaration_is_sorted_and_typed() -> None:
    text = render([USER], tools=[TOOL])
    assert (
        '<|tool>declaration:add{description:<|"|>Adds.<|"|>,parameters:{properties:{'
        'a:{enum:[<|"|>x<|"|>,<|"|>y<|"|>],type:<|"|>STRING<|"|>},'
        'b:{description:<|"|>second<|"|>,type:<|"|>INTEGER<|"|>}},'
        'required:[<|"|>a<|"|>],type:<|"|>OBJECT<|"|>}}<tool|><turn|>\n'
    ) in text


def test_call_and_response_stay_in_one_turn() -> None:
    text = render([USER, CALL, RESPONSE], enable_thinking=True, add_generation_prompt=True)
    assert text.endswith(
        "<|turn>model\n<|channel>thought\nTwo numbers.\n<channel|>"
        '<|tool_call>call:add{a:<|"|>x<|"|>,b:[1,2.5,null]}<tool_call|>'
        "<|tool_response>response:add{ok:true}<tool_response|><|channel>thought\n"
    )


def test_answer_after_a_response_closes_the_turn() -> None:
    answer = {"role": "assistant", "content": "Done."}
    text = render([USER, CALL, RESPONSE, answer, USER], add_generation_prompt=True)
    assert "Two numbers." not in text, "reasoning before the last user turn is dropped"
    assert "<tool_response|>Done.<turn|>\n<|turn>user\nAdd.<turn|>\n<|turn>model\n" in text

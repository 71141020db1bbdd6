"""A conversation is written as the model was taught, loses no message, and no content becomes a control token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from vocabularies import templates

from edgellm.errors import TemplateError, UsageError
from edgellm.formats import FORMATS, KNOWN
from edgellm.prompt import Message
from edgellm.template import Segment, Template, builtin, encode, for_model

# Templates as published in tokenizer_config.json of each model.
ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token + ' ' }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
OFFICIAL = {
    "mistral-7b-instruct-v0.1": MISTRAL,
    "mixtral-8x7b-instruct-v0.1": MISTRAL.replace("eos_token + ' '", "eos_token"),
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "gemma-2": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "qwen-2.5": "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + "
    "'<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a "
    "helpful assistant.<|im_end|>\\n' }}{%- endif %}{%- for message in messages %}\n"
    '    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or '
    '(message.role == "assistant" and not message.tool_calls) %}\n'
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "solar": "{% for message in messages %}{% if message['role'] == 'system' %}{% if message['content']%}"
    "{{'### System:\n' + message['content']+'\n\n'}}{% endif %}{% elif message['role'] == 'user' %}"
    "{{'### User:\n' + message['content']+'\n\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'### Assistant:\n'  + message['content']}}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}{% endfor %}",
    "phi-3": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}"
    "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}"
    "{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}",
    # Mistral-Nemo puts the system prompt before the last user turn.
    "mistral-nemo": '{%- if messages[0]["role"] == "system" %}{%- set system_message = messages[0]["content"] %}'
    "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
    '{{- bos_token }}{%- for message in loop_messages %}{%- if message["role"] == "user" %}'
    "{%- if loop.last and system_message is defined %}"
    '{{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}'
    '{%- else %}{{- "[INST]" + message["content"] + "[/INST]" }}{%- endif %}'
    '{%- elif message["role"] == "assistant" %}{{- message["content"] + eos_token}}{%- endif %}{%- endfor %}',
    # Qwen3 and QwQ cut thoughts out of earlier answers, and strip newlines.
    "thinking": "{% for message in messages %}{% set content = message.content %}{% if message.role == 'assistant' %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{% set content = content.lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}",
}
MISTRALS = ("built-in mistral", "built-in mistral-v3", "built-in mistral-v3-tekken")
NO_SYSTEM = {"mistral-7b-instruct-v0.1", "mixtral-8x7b-instruct-v0.1", "gemma-2", "phi-3"}


def official(source: str, messages: Sequence[Message]) -> str:
    """What transformers renders (src/transformers/utils/chat_template_utils.py): the oracle."""

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source).render(
        messages=[{"role": message.role, "content": message.content} for message in messages],
        tools=None,
        documents=None,
        enable_thinking=False,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
        raise_exception=refuse,
    )


def compiled(source: str) -> Template:
    return Template(source, bos="<s>", eos="</s>", name="a model")


def text_of(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def contents_of(segments: Sequence[Segment]) -> list[str]:
    return [segment.text for segment in segments if segment.content]


def user(content: str) -> Message:
    return Message("user", content)


def assistant(content: str) -> Message:
    return Message("assistant", content)


def system(content: str) -> Message:
    return Message("system", content)


CONVERSATIONS = {
    "one turn": [user("Hello")],
    "three turns": [user("Hello"), assistant("Hi!"), user("More")],
    "system": [system("Be brief."), user("Hello")],
    "system, three turns": [system("Be brief."), user("Hello"), assistant("Hi!"), user("More")],
    "blanks": [user("  Hello \n"), assistant("\n\n Hi!\n"), user("\tMore\n\n")],
    "only blanks": [user(" "), assistant("\n"), user("")],
    "hostile": [user("<s>[INST] {{ x }} %s {0} \\n <|im_end|>"), assistant("</s>'\"&<b>"), user("[/INST]\r\n\u2003")],
}


@pytest.mark.parametrize("conversation", CONVERSATIONS.values(), ids=list(CONVERSATIONS))
@pytest.mark.parametrize("family", OFFICIAL)
def test_text_equals_what_transformers_renders(family: str, conversation: list[Message]) -> None:
    if family in NO_SYSTEM and conversation[0].role == "system":
        head, first, *rest = conversation
        expected = official(OFFICIAL[family], [user(f"{head.content}\n\n{first.content}"), *rest])
    else:
        expected = official(OFFICIAL[family], conversation)
    assert text_of(compiled(OFFICIAL[family]).render(conversation)) == expected


SAME = {"llama-3": "llama-3", "chatml": "chatml", "gemma": "gemma-2", "phi-3": "phi-3", "solar": "solar"}


@pytest.mark.parametrize("name", SAME)
def test_built_in_formats_equal_the_published_templates(name: str) -> None:
    """SOLAR's published template forgets the end of an answer, and writes no beginning: one turn is what it can do."""
    for conversation in list(CONVERSATIONS.values())[: 3 if name != "solar" else 1]:
        if conversation[0].role == "system" and name in ("gemma", "phi-3"):
            continue
        ours = text_of(builtin(name).render(conversation)).removeprefix("<bos>").removeprefix("<|begin_of_text|>")
        theirs = official(OFFICIAL[SAME[name]], conversation)
        assert ours.removeprefix("<s>") == theirs.removeprefix("<s>")


contents = st.text(st.sampled_from(" \n\t\u2003ab<>{}%'\"\\é"), max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(contents, min_size=1, max_size=4), st.sampled_from(sorted(OFFICIAL)))
@example(["\n \u2003a\u2003 \n"], "llama-3")
@example(["a", "\n\n a", "b"], "thinking")
def test_any_content_comes_out_as_transformers_renders_it(texts: list[str], family: str) -> None:
    conversation = [(user, assistant)[index % 2](text) for index, text in enumerate(texts)]
    assert text_of(compiled(OFFICIAL[family]).render(conversation)) == official(OFFICIAL[family], conversation)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.integers()), min_size=1, max_size=6),
    st.sampled_from([*sorted(OFFICIAL), *(f"built-in {name}" for name in sorted(FORMATS))]),
)
def test_no_message_is_ever_lost(turns: list[tuple[Any, int]], family: str) -> None:
    conversation = [Message(role, f"message {index}: {number}.") for index, (role, number) in enumerate(turns)]
    chosen = builtin(family.split()[1]) if " " in family else compiled(OFFICIAL[family])
    try:
        segments = chosen.render(conversation)
    except TemplateError:
        assert family in {*NO_SYSTEM, "mistral-nemo", "qwen-2.5", *MISTRALS, "built-in gemma"}
        return
    said = "\n".join(contents_of(segments))
    assert all(said.count(message.content) == 1 for message in conversation)
    assert not any(
        message.content in segment.text for segment in segments if not segment.content for message in conversation
    )


def test_a_system_prompt_moves_into_the_user_turn_where_the_format_has_no_such_role() -> None:
    segments = compiled(MISTRAL).render([system("Be brief."), user("Hello")])
    assert segments == (
        Segment("<s>[INST] ", content=False),
        Segment("Be brief.\n\nHello", content=True),
        Segment(" [/INST]", content=False),
    )


def test_a_template_that_ignores_the_system_role_does_not_lose_it() -> None:
    silent = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}"
    assert text_of(compiled(silent).render([system("Be brief."), user("Hello")])) == "[Be brief.\n\nHello]"


def test_system_prompts_without_a_user_turn_become_one() -> None:
    assert text_of(compiled(MISTRAL).render([system("a"), system("b")])) == "<s>[INST] a\n\nb [/INST]"


def test_neighbours_of_one_role_are_joined_where_the_format_demands_alternation() -> None:
    conversation = [system("s"), user("a"), user("b"), assistant("c"), assistant("d"), user("e")]
    assert text_of(compiled(MISTRAL).render(conversation)) == "<s>[INST] s\n\na\n\nb [/INST]c\n\nd</s> [INST] e [/INST]"
    chatml = text_of(compiled(OFFICIAL["chatml"]).render([user("a"), user("b")]))
    assert chatml.count("<|im_start|>user") == 2  # and only there


def test_without_a_generation_prompt_the_conversation_ends_with_its_last_message() -> None:
    segments = builtin("chatml").render([user("a")], add_generation_prompt=False)
    assert text_of(segments) == "<|im_start|>user\na<|im_end|>\n"


def test_contents_may_be_wanted_as_typed_parts() -> None:
    typed = "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}[{{ part.text }}]{% endif %}"
    assert text_of(compiled(typed + "{% endfor %}{% endfor %}").render([user("a"), user("b")])) == "[a][b]"


def each(expression: str) -> str:
    return "{% for m in messages %}<{{ EXPRESSION }}>{% endfor %}".replace("EXPRESSION", expression)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (each("m.content | upper"), "would change message 1 of 2 (user)"),
        (each("m.content | lower"), "would change message 1"),
        (each("m.content | capitalize"), "would change message 1"),
        (each("m.content | tojson"), "would change message 1"),
        (each("m.content | e"), "would change message 1"),
        (each("m.content | replace('\\n\\n', '\\n')"), "would change message 1"),
        (each("m.content.split('\\n\\n')[0]"), "would lose message 1"),
        (each("m.content[:55]"), "would change message 1"),
        (each("m.content[30:]"), "would change a message"),
        (each("m.content[::-1]"), "would lose message 1"),
        (each("m.content ~ m.content"), "would repeat message 1 of 2"),
        (each("m.role"), "would lose message 1 of 2 (user)"),
        ("<{{ messages[0].content }}>", "would lose message 2 of 2 (assistant)"),
        ("{% for m in messages[::-1] %}<{{ m.content }}>{% endfor %}", "would misplace message 2 of 2 (assistant)"),
        ("{{ raise_exception('No\\n thanks') }}", "refuses this conversation: No thanks"),
        ("{{ messages[7].content }}", "failed: list object has no element 7"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "was stopped: it takes too many",
        ),
    ],
)
def test_a_template_that_would_lose_or_change_a_message_is_refused(source: str, words: str) -> None:
    with pytest.raises(TemplateError, match=r"^the chat template of a model ") as caught:
        compiled(source).render([user("Hello"), assistant("Hi")])
    assert words in str(caught.value)


def test_what_a_template_trims_is_trimmed_from_the_content() -> None:
    cases = {
        "m.content | trim": ("<a b>", "<c>"),
        "m.content.lstrip()": ("<a b \n>", "<c\n>"),
        "m.content.rstrip()": ("<\n \ta b>", "<\nc>"),
        "m.content.strip('\\n')": ("< \ta b >", "<c>"),
        "m.content.lstrip('\\n')": ("< \ta b \n>", "<c\n>"),
        "m.content.strip('\\n ')": ("<\ta b>", "<c>"),
    }
    for expression, shown in cases.items():
        conversation = [user("\n \ta b \n"), assistant("\nc\n")]
        assert (
            text_of(compiled(each(expression)).render(conversation))
            == "".join(shown)
            == official(each(expression), conversation)
        )


def test_nothing_to_render_is_an_error() -> None:
    with pytest.raises(TemplateError, match="no message"):
        builtin("chatml").render([])


@pytest.mark.parametrize("source", ["{{ x", "{% include 'x' %}", "x" * 10**6])
def test_a_template_that_cannot_be_compiled_says_so_at_once(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^the chat template of a model cannot be used: "):
        compiled(source)


def test_a_template_knows_its_digest() -> None:
    assert compiled("a").sha256 == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_many_messages_are_no_bomb() -> None:
    conversation = [(user, assistant)[index % 2](f"{index}.") for index in range(2001)]
    segments = compiled(OFFICIAL["qwen-2.5"]).render(conversation)
    assert contents_of(segments) == [message.content for message in conversation]


# The built-in formats, word for word.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mistral", "<s>[INST] u [/INST] a</s> [INST] u2 [/INST]"),
        ("solar", "<s>### User:\nu\n\n### Assistant:\na\n\n### User:\nu2\n\n### Assistant:\n"),
        (
            "chatml",
            "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
            "<|im_start|>user\nu2<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama-3",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nu<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\na<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nu2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "gemma",
            "<bos><start_of_turn>user\nu<end_of_turn>\n<start_of_turn>model\na<end_of_turn>\n"
            "<start_of_turn>user\nu2<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("mistral-v3", "<s>[INST] u[/INST] a</s>[INST] u2[/INST]"),
        ("mistral-v3-tekken", "<s>[INST]u[/INST]a</s>[INST]u2[/INST]"),
        ("zephyr", "<|user|>\nu</s>\n<|assistant|>\na</s>\n<|user|>\nu2</s>\n<|assistant|>\n"),
        ("phi-3", "<s><|user|>\nu<|end|>\n<|assistant|>\na<|end|>\n<|user|>\nu2<|end|>\n<|assistant|>\n"),
    ],
)
def test_built_in_formats_are_those_of_the_model_cards(name: str, expected: str) -> None:
    assert text_of(builtin(name).render([user("u"), assistant("a"), user("u2")])) == expected
    assert "Be brief." in text_of(builtin(name).render([system("Be brief."), user("u")]))


def test_an_unknown_format_lists_the_known() -> None:
    with pytest.raises(TemplateError, match=r"no chat template 'llama': choose one of chatml, gemma, llama-3, mistral"):
        builtin("llama")


# Tokens.


class Bytes:
    """One token per byte and a few control tokens; a blank comes before every text, as SentencePiece has it."""

    specials: Mapping[str, int] = {
        "<s>": 256,
        "</s>": 257,
        "<|im_start|>": 258,
        "<|im_end|>": 259,
        "<|im": 260,
        "": 261,
    }
    pieces: Sequence[bytes] = (*(bytes([value]) for value in range(256)), *[b""] * 6)
    strips: frozenset[int] = frozenset()

    def __init__(self, bos: int | None = 256, prefix: str = "") -> None:
        self.bos, self.prefix = bos, prefix
        self.asked: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.asked.append(text)
        return list((self.prefix + text).encode())


def scaffold(text: str) -> Segment:
    return Segment(text, content=False)


def content(text: str) -> Segment:
    return Segment(text, content=True)


def test_control_tokens_come_from_the_scaffold_alone() -> None:
    segments = [scaffold("<|im_start|>"), content("</s><|im_end|>"), scaffold("<|im_end|>")]
    assert encode(segments, Bytes(bos=None)) == [258, *b"</s><|im_end|>", 259]


def test_the_longest_control_token_wins() -> None:
    assert encode([scaffold("<|im_start|><|im<|im_end|>")], Bytes(bos=None)) == [258, 260, 259]


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_control_token_cannot_be_put_together_across_a_border(cut: int) -> None:
    text = "</s>"
    for left, right in ((content, scaffold), (scaffold, content), (content, content)):
        assert encode([left(text[:cut]), right(text[cut:])], Bytes(bos=None)) == list(text.encode())


def test_text_between_control_tokens_is_encoded_as_one() -> None:
    vocab = Bytes(prefix=" ")
    segments = [scaffold("<s>[INST] "), content("Hello"), scaffold(" [/INST]</s>"), scaffold(""), content("x")]
    assert encode(segments, vocab) == [256, *b" [INST] Hello [/INST]", 257, *b" x"]
    assert vocab.asked[1:] == ["[INST] Hello [/INST]", "x"]  # the first one asks whether it puts a blank first


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], [256]),
        ([content("a")], [256, 97]),
        ([scaffold("<s>"), content("a")], [256, 97]),
        ([scaffold("<s><s><s>"), content("a")], [256, 97]),
        ([content("<s>")], [256, *b"<s>"]),
        ([scaffold("a<s>")], [256, 97, 256]),
    ],
)
def test_exactly_one_bos_comes_first(segments: list[Segment], expected: list[int]) -> None:
    assert encode(segments, Bytes()) == expected


def test_a_model_that_wants_no_bos_gets_what_the_template_wrote() -> None:
    assert encode([content("a")], Bytes(bos=None)) == [97]
    assert encode([scaffold("<s>"), content("a")], Bytes(bos=None)) == [256, 97]


def test_a_vocabulary_without_control_tokens_encodes_everything_as_text() -> None:
    class Plain(Bytes):
        specials: Mapping[str, int] = {}

    assert encode([scaffold("<s>"), content("a")], Plain(bos=None)) == list(b"<s>a")


def test_half_a_character_is_refused_before_it_reaches_an_engine() -> None:
    for text, words in (("say \ud83d", r"'\\ud83d' after 'say '"), ("\ud83d", "after its beginning")):
        with pytest.raises(UsageError, match=words):
            encode([content(text)], Bytes())


ingredients = st.lists(
    st.sampled_from([*Bytes.specials, "<", "s>", "</s", ">", "|im_end|>", "a", " "]), max_size=5
).map("".join)


@given(st.lists(st.builds(Segment, ingredients, st.booleans()), max_size=6))
def test_no_content_ever_becomes_a_control_token(segments: list[Segment]) -> None:
    merged: list[Segment] = []
    for segment in segments:  # neighbours of one kind are one piece of scaffold, as a template writes it
        if merged and merged[-1].content == segment.content:
            merged[-1] = Segment(merged[-1].text + segment.text, segment.content)
        else:
            merged.append(segment)
    ids = encode(merged, Bytes(bos=None))
    alone = [token for segment in merged if not segment.content for token in encode([segment], Bytes(bos=None))]
    assert [token for token in ids if token > 255] == [token for token in alone if token > 255]
    texts = {token: text for text, token in Bytes.specials.items()}
    written = b"".join(texts[token].encode() if token > 255 else bytes([token]) for token in ids)
    assert written.decode() == text_of(merged)


# Where a template comes from.


def test_an_embedded_template_comes_first_and_gets_the_texts_of_its_tokens() -> None:
    metadata = {
        "general.name": "Mistral",
        "tokenizer.chat_template": MISTRAL + "{# mine #}",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"],
    }
    found = for_model(metadata, "chatml")
    assert found.name == "Mistral"
    assert text_of(found.render([user("u"), assistant("a"), user("v")])) == "<s>[INST] u [/INST]a</s> [INST] v [/INST]"


def test_the_texts_of_the_tokens_may_come_from_the_vocabulary() -> None:
    metadata = {"tokenizer.chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}
    ids = {"tokenizer.ggml.bos_token_id": 256, "tokenizer.ggml.eos_token_id": 257}
    assert text_of(for_model({**metadata, **ids}, None, Bytes()).render([user("u")])) == "<s>u</s>"
    odd = {"tokenizer.ggml.bos_token_id": 70_000, "tokenizer.ggml.eos_token_id": 33}  # an end that is a plain piece
    assert text_of(for_model({**metadata, **odd}, None, Bytes()).render([user("u")])) == "u!"


@pytest.mark.parametrize("embedded", [None, "", " \n", 7])
def test_without_an_embedded_template_the_hint_decides(embedded: Any) -> None:
    metadata = {} if embedded is None else {"tokenizer.chat_template": embedded}
    assert text_of(for_model(metadata, "solar").render([user("u")])) == "<s>### User:\nu\n\n### Assistant:\n"
    with pytest.raises(
        TemplateError, match=r"has no chat template: name its format with --template, one of chatml, gemma"
    ):
        for_model(metadata, None)


def test_an_embedded_template_that_is_broken_is_never_replaced_quietly() -> None:
    with pytest.raises(TemplateError, match="cannot be used"):
        for_model({"tokenizer.chat_template": "{% if %}"}, "mistral")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"tokenizer.ggml.eos_token_id": 2},
        {"tokenizer.ggml.eos_token_id": 9, "tokenizer.ggml.tokens": ["a"]},
        {"tokenizer.ggml.eos_token_id": "2", "tokenizer.ggml.tokens": ["a", "b", "c"]},
    ],
)
def test_an_end_token_that_nobody_knows_is_not_left_out(metadata: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match="end token"):
        for_model({**metadata, "tokenizer.chat_template": MISTRAL + "{# mine #}"}, None)


@pytest.mark.parametrize(
    ("source", "origin"),
    [
        (MISTRAL, "the mistral format in place of the file's own (Mistral's of 2023: it glues an answer"),
        (OFFICIAL["solar"], "the solar format in place of the file's own (SOLAR's: it glues an answer"),
        (OFFICIAL["llama-3"], "the file's own, known as Llama 3's"),
        (OFFICIAL["gemma-2"] + "\n", "the file's own, known as Gemma's"),
        (OFFICIAL["chatml"] + "{# changed #}", "the file's own, unknown to edgellm"),
        ("", "the zephyr format, named for this file"),
    ],
)
def test_a_receipt_names_the_template_and_its_hash(source: str, origin: str) -> None:
    metadata = {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.tokens": ["a", "b", "</s>"]}
    found = for_model({**metadata, "tokenizer.chat_template": source}, "zephyr")
    assert found.receipt.startswith(origin)
    assert found.receipt.endswith(f"; sha256 {found.sha256}")


def test_a_replaced_template_says_the_same_without_its_fault() -> None:
    conversation = [user("u"), assistant("a"), user("v")]
    tokens = {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.tokens": ["a", "b", "</s>"]}
    found = for_model({**tokens, "tokenizer.chat_template": MISTRAL})
    assert text_of(found.render(conversation)) == "<s>[INST] u [/INST] a</s> [INST] v [/INST]"
    assert "u [/INST]a</s> [INST]" in official(MISTRAL, conversation)  # what it stands for


def test_the_known_templates_are_replaced_by_formats_that_exist() -> None:
    assert {one.replacement for one in KNOWN.values()} <= {"", *FORMATS}
    assert all(len(digest) == 64 for digest in KNOWN)


@pytest.mark.slow
def test_published_templates_render_as_in_transformers_or_are_refused() -> None:
    """The templates that llama.cpp keeps for its own tests, sixty and more: never another text, and nothing dropped."""
    utilities = pytest.importorskip("transformers.utils.chat_template_utils", reason="no oracle: transformers")
    options = {"enable_thinking": False, "tools": None, "documents": None}
    same = refused = 0
    for name, source in templates():
        for conversation in [one for key, one in CONVERSATIONS.items() if key != "only blanks"]:
            turns = [{"role": message.role, "content": message.content} for message in conversation]
            try:
                ours = text_of(compiled(source).render(conversation))
            except TemplateError:
                refused += 1
                continue
            try:
                [[theirs], _] = utilities.render_jinja_template(
                    [turns],
                    chat_template=source,
                    add_generation_prompt=True,
                    bos_token="<s>",
                    eos_token="</s>",
                    **options,
                )
            except jinja2.TemplateError:  # it refuses a system prompt, which ours folds
                assert all(message.content.strip() in ours for message in conversation)
                continue
            assert ours == theirs, name
            same += 1
    print(f"{same} texts equal, {refused} refused")
    assert same > 300
    assert refused < 40

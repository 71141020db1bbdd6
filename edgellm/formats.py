"""Known chat formats, as Jinja, and the published templates that are recognised by their hash. Data alone.

The formats are those of the model cards; a published template that would lose or glue something is replaced by one.
"""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """A chat format: its template, and what it writes for the beginning and the end of a turn."""

    source: str
    bos: str
    eos: str


class Known(NamedTuple):
    """A published template: its name, and where it is faulty, the format that takes its place and why."""

    name: str
    replacement: str = ""
    fault: str = ""


_NO_SYSTEM = "{% if m.role == 'system' %}{{ raise_exception('this format has no system role') }}{% endif %}"
_ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must alternate') }}{% endif %}"
)
_EACH, _DONE = "{% for m in messages %}", "{% endfor %}"


def _mistral(blank: str) -> str:
    return (
        "{{ bos_token }}{% set system = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' %}"
        "{% for m in (messages[1:] if system else messages) %}" + _NO_SYSTEM + _ALTERNATE
        + f"{{% if m.role == 'user' %}}{{{{ '[INST]{blank}' + (system if loop.last else '') + m.content + '[/INST]' }}}}"
        f"{{% else %}}{{{{ '{blank}' + m.content + eos_token }}}}{{% endif %}}{{% endfor %}}"
    )  # fmt: skip


FORMATS = {
    # The format of mistralai/Mistral-7B-Instruct-v0.1 and -v0.2 and Mixtral-8x7B-Instruct-v0.1, by their model cards.
    "mistral": Format(
        f"{{{{ bos_token }}}}{_EACH}{_NO_SYSTEM}{_ALTERNATE}"
        "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token + ' ' }}{% endif %}" + _DONE,
        "<s>",
        "</s>",
    ),
    # mistral-common, tokenizers v2 and v3 (Mistral-7B-Instruct-v0.3, Mixtral-8x22B): control tokens, and the system prompt
    # in the last user turn.
    "mistral-v3": Format(_mistral(" "), "<s>", "</s>"),
    # The same with the tekken tokenizer (Mistral-Nemo), which puts no blank anywhere.
    "mistral-v3-tekken": Format(_mistral(""), "<s>", "</s>"),
    # upstage/SOLAR-10.7B-Instruct-v1.0, tokenizer_config.json and model card.
    "solar": Format(
        "{{ bos_token }}" + _EACH + "{{ '### ' + (m.role | capitalize) + ':\n' + m.content + '\n\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}",
        "<s>",
        "</s>",
    ),
    "chatml": Format(
        _EACH + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "",
        "<|im_end|>",
    ),
    "llama-3": Format(
        "{{ bos_token }}" + _EACH
        + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "gemma": Format(
        "{{ bos_token }}" + _EACH + _NO_SYSTEM + _ALTERNATE
        + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim }}"
        + "{{ '<end_of_turn>\n' }}" + _DONE + "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<bos>",
        "<end_of_turn>",
    ),
    "zephyr": Format(
        _EACH + "{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "<s>",
        "</s>",
    ),
    "phi-3": Format(
        "{{ bos_token }}" + _EACH + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}" + _DONE
        + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "<s>",
        "<|end|>",
    ),
}  # fmt: skip

_GLUED = "it glues an answer to [/INST], unlike Mistral's own tokenizer"
_2023 = Known("Mistral's of 2023", "mistral", _GLUED)
KNOWN = {
    "7e995b379ec01747807246483647cd99030abf331653f1119e16d7ac041a3495": _2023,  # Mistral-7B-Instruct-v0.1
    "26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7": _2023,  # -v0.2, Mixtral-8x7B-Instruct-v0.1
    "6439f642d4e619817cc31f7d857831db78e40ec1b55500e84957d1e428169ed2": _2023,
    "b8e5e922a7a4ab5df61a904ef54639a27022fd84eb6b6434f09503afeca60eb4": Known(
        "SOLAR's", "solar", "it glues an answer to the next question"
    ),
    "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122": Known("Llama 3's"),
    "93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7": Known("Llama 3.1's"),
    "d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f": Known("Llama 3.2's"),
    "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3": Known("ChatML"),
    "ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6": Known("Gemma's"),
    "268b6082ceb7176dc6ed80557a2f7837f9f0339592fbee677d405a553af15f88": Known("Phi-3's"),
    "78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90": Known("Phi-3.5's"),
    "66291cf0045c2425a3a667cf3cbb7af2b11f09e025c02f97245323ab79119362": Known("Zephyr's"),
    "e7deee034838db2bfc7487788a3013d8a307ab69f72f3c54a85f06fd76007d4e": Known("Mistral Nemo's"),
    "55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a": Known("Qwen 2.5's"),
    "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5": Known("Qwen 3's"),
    "94c6035b4f0eb905c95e2b7d8dace8547abca03f7fe3e441ba8a6388b1941272": Known("QwQ's"),
    "17093daae25c2babb0dbc563035c890143dd4dfcd909fccd64e2643c43f5ad70": Known("the embedded model's"),
}
"""Published templates by the sha256 of their text, without the blanks around it."""

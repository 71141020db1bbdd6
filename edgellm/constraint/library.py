"""Grammars of llguidance: as text, from a plain schema or in Lark, and compiled within limits."""

from __future__ import annotations

import json
from typing import Any

from edgellm.errors import SchemaUnsupported

# Earley items in one row: the default of 2,000 refuses an object with 600 optional properties. 20 items cost 1 us.
_ROW_ITEMS, _STEP_ITEMS = 20_000, 200_000
_OPTIONS = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "coerce_one_of": False,
    "lenient": False,
}
_SWITCHES = {key: value for key, value in _OPTIONS.items() if value is not None}


def json_grammar(schema: Any) -> str:
    """The grammar of a plain schema, as text."""
    from llguidance import LLMatcher

    try:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_OPTIONS))
    except ValueError as error:
        raise SchemaUnsupported(f"the schema cannot be read: {error}.") from error


def literal(text: str) -> str:
    """A text as a Lark literal."""
    return json.dumps(text, ensure_ascii=False)


def lark_grammar(lines: str) -> str:
    """The grammar of Lark rules, as text."""
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_lark(lines))


def embedded(schema: dict[str, Any]) -> str:
    """A plain schema as a part of a Lark rule, written like `json.dumps` writes."""
    return f"%json {json.dumps({**schema, 'x-guidance': _SWITCHES})}"


def matcher(grammar: str, tokenizer: Any) -> Any:
    """Compile a grammar; what is wrong with it is in `get_error()`."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(max_items_in_row=_ROW_ITEMS, step_max_items=_STEP_ITEMS, verbose_errors=False)
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits)

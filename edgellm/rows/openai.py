"""OpenAI batch lines: `{custom_id, method, url, body}` into a Prompt, and a Result into the line that answers it.

Takes /v1/chat/completions. What a line asks for is obeyed or refused by name, never dropped. Knows no file and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgellm.errors import EngineFailed, RowUnreadable
from edgellm.prompt import Message, Prompt, Role
from edgellm.rows.ids import content_id
from edgellm.rows.row import Result
from edgellm.sampling import Sampling

_URL = "/v1/chat/completions"
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Of the same meaning here and there; the last three are extensions that other local servers know too.
_SAMPLING = ("temperature", "top_p", "seed", "stop", "max_tokens", "top_k", "min_p", "repeat_penalty")
# Whatever they are, the answer is the same. The model that answers is named in the answer.
_WITHOUT_EFFECT = {"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
# What we do not have, and the value that asks for nothing.
_NEUTRAL: dict[str, Any] = {
    "n": 1,
    "stream": False,
    "logprobs": False,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "tools": [],
}


def is_line(values: Mapping[str, Any]) -> bool:
    """Whether a row is an OpenAI batch line."""
    return "custom_id" in values and "body" in values


def read(values: Mapping[str, Any], defaults: Sampling) -> Prompt:
    """Turn a line into the prompt it asks for. Raises RowUnreadable, and UsageError for values out of range."""
    if strange := set(values) - {"custom_id", "method", "url", "body"}:
        raise RowUnreadable(f"unknown keys in the line: {_list(strange)}.")
    if values.get("method", "POST") != "POST" or values.get("url", _URL) != _URL:
        raise RowUnreadable(
            f"the line asks for {values.get('method', 'POST')} {values.get('url', _URL)}: known is POST {_URL}."
        )
    if not isinstance(values["body"], Mapping):
        raise RowUnreadable("the body of the line is not an object.")
    body = {key: value for key, value in values["body"].items() if value is not None}
    _refuse_unknown(body)
    return Prompt(messages=messages(body.get("messages")), sampling=_sampling(body, defaults), schema=_schema(body))


def messages(turns: Any) -> tuple[Message, ...]:
    """Read a list of messages. Raises RowUnreadable."""
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise RowUnreadable("there are no messages: a list of {role, content}.")
    return tuple(_message(turn) for turn in turns)


def answer(result: Result, *, model: str, created: int) -> dict[str, Any]:
    """Build the line that answers a row; `created` is in seconds since 1970."""
    name = content_id(str(result.row.id).encode(errors="replace"))
    body = _failure(result) if result.error else _completion(result, name, model, created)
    body |= {"warnings": list(result.warnings)} if result.warnings else {}
    body |= {"receipt": dict(result.receipt)} if result.receipt else {}
    error = {"code": type(result.error).__name__, "message": str(result.error)} if result.error else None
    status = 200 if not result.error else 500 if isinstance(result.error, EngineFailed) else 400
    return {
        "id": f"batch_req_{name}",
        "custom_id": result.row.id,
        "response": {"status_code": status, "request_id": f"req_{name}", "body": body},
        "error": error,
    }


def _completion(result: Result, name: str, model: str, created: int) -> dict[str, Any]:
    said = {"role": "assistant", "content": result.value, "refusal": None}
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": result.finish}],
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": result.tokens,
            "total_tokens": result.prompt_tokens + result.tokens,
        },
    }


def _failure(result: Result) -> dict[str, Any]:
    return {
        "error": {
            "message": str(result.error),
            "type": "server_error" if isinstance(result.error, EngineFailed) else "invalid_request_error",
            "param": None,
            "code": type(result.error).__name__,
        }
    }


def _refuse_unknown(body: Mapping[str, Any]) -> None:
    known = {"messages", "max_completion_tokens", "response_format", *_SAMPLING, *_WITHOUT_EFFECT, *_NEUTRAL}
    if strange := set(body) - known:
        raise RowUnreadable(f"the body asks for what is not offered here: {_list(strange)}.")
    for key in body.keys() & _NEUTRAL.keys():
        if body[key] != _NEUTRAL[key]:
            raise RowUnreadable(f"{key} can only be {_NEUTRAL[key]!r} here, not {body[key]!r}.")


def _sampling(body: Mapping[str, Any], defaults: Sampling) -> Sampling:
    asked = {name: body[name] for name in _SAMPLING if name in body}
    if "max_completion_tokens" in body:
        asked["max_tokens"] = body["max_completion_tokens"]
    return replace(defaults, **asked)


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = body.get("response_format", {"type": "text"})
    match wanted:
        case {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            return schema
    raise RowUnreadable("response_format is {type: text | json_object | json_schema, json_schema: {schema: ...}}.")


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise RowUnreadable("a message is {role, content}.")
    said = {key: value for key, value in turn.items() if value is not None}
    if strange := set(said) - {"role", "content"}:
        raise RowUnreadable(f"a message is {{role, content}}: there is also {_list(strange)}.")
    role = said.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RowUnreadable(f"the role of a message is one of {', '.join(_ROLES)}, not {role!r}.")
    return Message(_ROLES[role], _content(said.get("content")))


def _content(content: Any) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part["text"] for part in content if _is_text(part)]
        if texts and len(texts) == len(content):
            return "".join(texts)
    raise RowUnreadable("the content of a message is a text, or a list of {type: text, text}.")


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _list(names: set[Any]) -> str:
    return ", ".join(sorted(map(str, names)))

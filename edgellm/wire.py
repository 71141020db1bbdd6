"""What crosses the process boundary, as lines of JSON: openings and prompts go down, events come up.

Data in, data out; it knows no pipe and no process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgellm.decision import DevicePlan, Plan
from edgellm.errors import EdgeError, from_wire, to_wire
from edgellm.machine import Answer, Device
from edgellm.opening import Opening

if TYPE_CHECKING:
    from edgellm.prompt import Event, Prompt


def line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def seen(answer: Answer) -> dict[str, Any]:
    return {**answer._asdict(), "devices": [asdict(device) for device in answer.devices]}


def answer(data: Mapping[str, Any]) -> Answer:
    return Answer(tuple(Device(**device) for device in data["devices"]), data["offload"], data["note"])


def described(event: Event) -> dict[str, Any]:
    error = event.error
    return {
        "id": event.id,
        "text": event.text,
        "reply": asdict(event.reply) if event.reply else None,
        "error": to_wire(error) if isinstance(error, EdgeError) else None,
    }


def event(data: Mapping[str, Any]) -> Event:
    from edgellm.prompt import Event, Reply

    reply, error = data["reply"], data["error"]
    return Event(data["id"], data["text"], Reply(**reply) if reply else None, from_wire(error) if error else None)


def prompt(data: Mapping[str, Any]) -> Prompt:
    from edgellm.prompt import Message, Prompt  # not needed before a model is open
    from edgellm.sampling import Sampling

    sampling = {**data["sampling"], "stop": tuple(data["sampling"]["stop"])}
    messages = tuple(Message(**message) for message in data["messages"])
    return Prompt(**{**data, "messages": messages, "sampling": Sampling(**sampling), "saved": tuple(data["saved"])})


def opening(data: Mapping[str, Any]) -> Opening:
    plan = data["plan"]
    lists = {
        "tensor_overrides": tuple(map(tuple, plan["tensor_overrides"])),
        "tensor_split": tuple(plan["tensor_split"]),
        "devices": tuple(DevicePlan(**device) for device in plan["devices"]),
        "reasons": tuple(plan["reasons"]),
    }
    adapters: tuple[Any, ...] = ()
    if data["adapters"]:  # few models have any, and the room that knows them is large
        from edgellm.adapter import Choice

        adapters = tuple(Choice(**one) for one in data["adapters"])
    costs = {int(width): seconds for width, seconds in data["costs"].items()}
    changes = {"paths": tuple(data["paths"]), "plan": Plan(**{**plan, **lists}), "adapters": adapters, "costs": costs}
    return Opening(**{**data, **changes})

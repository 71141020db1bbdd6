"""Extraction with answers that are known beforehand: the speed of the schema work, whatever the model would have said.

A model of random numbers never gives a good answer, and a bad one is cheap to constrain. So the loop does all of its
work, masks included, and then takes the next piece of a canned answer instead of the likeliest token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgellm.constraint import Constraint
    from edgellm.engines.base import Logits

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "company": {"type": "string"},
        "city": {"type": "string"},
        "email": {"type": "string"},
        "age": {"type": "integer"},
        "subscribed": {"type": "boolean"},
    },
    "required": ["name", "company", "city", "email", "age", "subscribed"],
    "additionalProperties": False,
}
INSTRUCTION = (
    "You read letters that customers have written, and write down what they say about themselves as JSON. Take every value "
    "from the letter and from nowhere else. The fields are: name, the whole name of the customer; company, where they work; "
    "city, where they live; email, their address; age, a whole number of years; subscribed, whether they want the letter "
    "that is sent to all customers every month. Answer with the JSON object and nothing else.\n\n"
)
_NAMES = (
    "Ada Lind",
    "Bruno Costa",
    "Chloe Martin",
    "Dmitri Orlov",
    "Elena Rossi",
    "Farid Haddad",
    "Grace Kim",
    "Hugo Weiss",
)
_CITIES = ("Lisbon", "Oslo", "Lyon", "Graz", "Turin", "Rabat", "Busan", "Bern")


def letter(number: int) -> tuple[str, str]:
    """Return a letter of about a hundred words, and the JSON that it should be turned into."""
    name, city = _NAMES[number % len(_NAMES)], _CITIES[number * 3 % len(_CITIES)]
    value = {
        "name": name,
        "company": f"{name.split()[1]} & Sons {number}",
        "city": city,
        "email": f"{name.split()[0].lower()}{number}@example.org",
        "age": 21 + number * 7 % 60,
        "subscribed": number % 3 > 0,
    }
    text = (
        f"Letter {number}. Dear people, my name is {name}, and I have been ordering from you for {number % 9 + 1} years. I "
        f"work for {value['company']} in {city}, where I also live, not far from the station. Last week I turned "
        f"{value['age']}. The last parcel came two days late and a little wet, but nothing in it was broken, so please do "
        f"not worry about it. You can reach me at {value['email']} at any time of the day. As to the monthly letter: "
        f"{'yes, please send it to me' if value['subscribed'] else 'no, I do not want it'}. With kind regards, {name}\n\n"
    )
    return text, json.dumps(value)


class Canned:
    """A constraint that does its work and then insists on a canned answer."""

    def __init__(self, inner: Constraint, answer: str, pieces: Sequence[bytes], index: Mapping[bytes, int]) -> None:
        self._inner, self._rest = inner, answer.encode()
        self._pieces, self._index = pieces, index
        self._longest = max(map(len, index), default=1)

    def mask(self, logits: Logits) -> None:
        """Compute the real mask, then leave only the next piece of the answer."""
        self._inner.mask(logits)
        wanted = self._wanted()
        logits[:] = -float("inf")
        logits[wanted] = 0.0

    def prepare(self) -> None:
        """Make the real mask ahead."""
        self._inner.prepare()

    def allows(self, token: int) -> bool:
        """Ask the real constraint, but agree with the answer only."""
        return self._inner.allows(token) and token == self._wanted()

    def agrees(self, tokens: Sequence[int]) -> int:  # noqa: ARG002 - drafts are off while we measure
        """Draft nothing."""
        return 0

    def accept(self, token: int) -> None:
        """Go on by one token."""
        self._inner.accept(token)
        self._rest = self._rest[len(self._pieces[token]) :]

    def forced(self) -> list[int]:
        """Take what the schema forces."""
        tokens = self._inner.forced()
        self._rest = self._rest[sum(len(self._pieces[token]) for token in tokens) :]
        return tokens

    def affords(self, room: int) -> bool:
        """Ask the real constraint."""
        return self._inner.affords(room)

    def closing(self) -> list[int]:
        """Ask the real constraint."""
        return self._inner.closing()

    @property
    def complete(self) -> bool:
        """Whether the value is finished."""
        return self._inner.complete

    def _wanted(self) -> int:
        """The longest allowed token that the rest of the answer begins with."""
        for length in range(min(self._longest, len(self._rest)), 0, -1):
            token = self._index.get(self._rest[:length])
            if token is not None and self._inner.allows(token):
                return token
        raise AssertionError(f"the canned answer does not obey its schema at {self._rest[:40]!r}")

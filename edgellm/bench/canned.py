"""Extraction with answers that are known beforehand: the speed of the schema work, whatever the model would have said.

A model of random numbers never gives a good answer, and noise is what schemas have most work with. So the engine computes
every step, and then the next token of a canned answer is made the likeliest: what a trained model would have done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgellm.constraint import Constraint, Grammar
    from edgellm.engines.base import Engine, Feed, Logits
    from edgellm.loop import Loop
    from edgellm.prompt import Reply
    from edgellm.sequence import Sequence as Request

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
    """A constraint that knows the answer: it does its work, and says which token comes next."""

    def __init__(self, inner: Constraint, answer: str, pieces: Sequence[bytes], index: Mapping[bytes, int]) -> None:
        self._inner, self._rest = inner, answer.encode()
        self._pieces, self._index = pieces, index
        self._longest = max(map(len, index), default=1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def wanted(self) -> int:
        """Return the longest allowed token that the rest of the answer begins with."""
        for length in range(min(self._longest, len(self._rest)), 0, -1):
            token = self._index.get(self._rest[:length])
            if token is not None and self._inner.allows(token):
                return token
        raise AssertionError(f"the canned answer does not obey its schema at {self._rest[:40]!r}")

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


class Insistent:
    """An engine whose likeliest token is always the next one of a request's canned answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: list[Request] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def decode(self, feeds: Sequence[Feed], *worn: Any) -> Sequence[Logits]:
        """Compute, then put the known token on top of every row that was asked for."""
        rows = self._engine.decode(feeds, *worn)
        running = {one.slot: one for one in self.requests if one.slot >= 0 and one.constraint}
        for feed, row in zip((feed for feed in feeds if feed.logits), rows, strict=True):
            canned = running[feed.slot].constraint if feed.slot in running else None
            if isinstance(canned, Canned):
                row[-1, canned.wanted()] = row[-1].max() + 10
        return rows


def requests(engine: Engine, grammar: Grammar, count: int) -> list[Request]:
    """The work: so many letters with a shared instruction, and the answers that will be given."""
    from edgellm.sampling import Sampling
    from edgellm.sequence import Sequence as Request
    from edgellm.text import TextStream

    pieces = engine.vocab.pieces
    index = {piece: token for token, piece in enumerate(pieces) if piece}
    found = []
    for number in range(count):
        text, answer = letter(number)
        found.append(
            Request(
                id=number,
                prompt=engine.vocab.encode(INSTRUCTION + text),
                sampling=Sampling(temperature=0.0, max_tokens=256),
                text=TextStream(),
                constraint=Canned(grammar.start(), answer, pieces, index),
            )
        )
    return found


def answered(loop: Loop) -> list[Reply]:
    """Run a loop until it is idle. Raises what any request failed of."""
    replies = []
    while not loop.idle:
        for event in loop.step():
            if event.error:
                raise event.error
            if event.reply:
                replies.append(event.reply)
    return replies

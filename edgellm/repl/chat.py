"""A conversation with a model: what is asked, what is sent, what happens when it does not fit, is stopped, or crashes.

Knows how to talk; which words make it do what is known in `commands`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgellm.errors import EdgeError, PromptTooLong, UsageError
from edgellm.prompt import Message, Reply
from edgellm.repl.introduce import introduce
from edgellm.repl.loading import Brake, Loading, Opener
from edgellm.repl.session import Transcript, Turn
from edgellm.repl.show import Screen, spoken
from edgellm.sampling import Sampling

if TYPE_CHECKING:
    from edgellm.drive import Stream
    from edgellm.model import Model

# https://docs.mistral.ai/capabilities/guardrailing: the system prompt that `safe_prompt` adds.
SAFE = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)
OVERFLOW = ("stop", "drop-oldest")
_FULL = 0.8  # of the context, from which on every answer says so
_LONG = 200  # tokens of a question, whose reading may take a while
_TOKENS_PER_BYTE = 0.3  # before the model's own count is known: about right for English
_PRIOR_BYTES = 1000  # as much text of the model's own as this weighs as much as that guess


@dataclass(slots=True)
class Totals:
    """What this sitting has cost."""

    answers: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Chat:
    """The state of one sitting: a model, a conversation, and how to answer."""

    screen: Screen
    opener: Opener
    loading: Loading
    folder: Path | None  # where conversations are kept; None: nowhere
    transcript: Transcript
    reword: Callable[[str], str] = str  # lets the person change a text
    introduced: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    safe: bool = False
    overflow: Literal["stop", "drop-oldest"] = "stop"
    stats: bool = True
    attached: dict[str, str] = field(default_factory=dict)  # files that go in with the next message
    skipped: int = 0  # oldest turns that the model no longer sees
    used: int | None = None  # tokens of the conversation so far, where the model has counted them
    totals: Totals = field(default_factory=Totals)
    rate: float = _TOKENS_PER_BYTE

    @property
    def model(self) -> Model:
        """The model, as soon as it is loaded."""
        if not self.loading.done:
            with self.screen.busy(self.loading):
                self.loading.wait()
        return self.loading.result()

    @property
    def system(self) -> str:
        """The system prompt as it is sent."""
        return "\n\n".join(filter(None, (SAFE if self.safe else None, self.transcript.system)))

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self.model.plan.context

    def send(self, text: str, *, instead: int = 0) -> None:
        """Ask something, with the attached files, and show the answer; it may replace the last turns."""
        if not text.strip() and not self.attached:
            return
        parts = [_enclosed(name, content) for name, content in self.attached.items()]
        self.transcript.ask("\n\n".join([*parts, text] if text.strip() else parts), instead=instead)
        self.attached.clear()
        self.attend()

    def attend(self) -> None:
        """Answer the question that is pending."""
        if self.transcript.pending is None:
            raise UsageError("there is nothing to answer yet.")
        before = self.skipped
        if self.overflow == "drop-oldest":
            self._drop()
        while (error := self._listen()) is not None:
            self._learn(error.tokens)
            if self.overflow == "stop" or not self._drop(at_least=1):
                if self.skipped != before:
                    self.screen.note("that was not enough: the dropped turns are back.")
                self.skipped = before
                raise UsageError(f"{error} {self._way_out()}")

    def messages(self) -> tuple[Message, ...]:
        """What the model is sent: the system prompt always, answers without the thoughts before them."""
        head = [Message("system", self.system)] if self.system else []
        turns = [
            message
            for turn in self.transcript.past[self.skipped :]
            for message in (Message("user", turn.user), Message("assistant", spoken(turn.assistant)))
        ]
        pending = self.transcript.pending
        return (*head, *turns, *([Message("user", pending)] if pending is not None else []))

    def estimate(self, text: str) -> int:
        """Guess how many tokens a text has, from what the model has counted so far."""
        return round(len(text.encode("utf-8", "replace")) * self.rate)

    def changed(self) -> None:
        """Forget what was counted: the conversation is another one now."""
        self.used = None
        self.skipped = min(self.skipped, len(self.transcript.turns))

    def begin(self, transcript: Transcript) -> None:
        """Go on with another conversation."""
        self.transcript, self.skipped, self.used = transcript, 0, None

    def fresh(self) -> Transcript:
        """Return a conversation in which nothing was said."""
        return Transcript(self.folder, self.screen.warn)

    def introduce(self) -> None:
        """Say which model answers; waits for it."""
        introduce(self.screen, self.model)
        last = self.transcript.turns[-1].model if self.transcript.turns else ""
        if last and last != self.model.name and not self.introduced:
            self.screen.note(f"This conversation was last held with {last}: /model {last} goes on with it.")
        self.introduced = True

    def exchange(self, name: str) -> None:
        """Go on with another model. When it cannot be opened, the old one comes back, and the error is raised."""
        old = self.model.name
        self.loading.abandon()
        self.loading = Loading(self.opener, name)
        self.used = None
        try:
            _ = self.model
        except BaseException:
            self.loading.abandon()
            self.screen.note(f"{old} comes back.")
            self.loading = Loading(self.opener, old)
            raise

    # One answer.

    def _listen(self) -> PromptTooLong | None:
        """Show one answer as it comes, then keep it: whole, stopped, or as far as the engine lived.

        Returns what there was to say against the prompt, when it was refused for its length.
        """
        stream: Stream | None = None
        failure: EdgeError | None = None
        interrupted = False
        model = self.model
        with Brake() as brake:
            try:
                with self.screen.busy("starting the engine"), brake.on():
                    stream = model.stream(self.messages(), sampling=self.sampling)
                self._show(stream, brake)
            except KeyboardInterrupt:
                interrupted = True
            except PromptTooLong as error:
                return error
            except EdgeError as error:
                failure = error
            if stream:
                stream.close()
            self._keep(stream.text if stream else "", _reply(stream), failure)
        if interrupted and not self.screen.interactive:  # in a pipe, Ctrl-C means all of it
            raise KeyboardInterrupt
        return None

    def _show(self, stream: Stream, brake: Brake) -> None:
        tokens = self.estimate(self.transcript.pending or "")
        with self.screen.busy(f"reading about {tokens:,} tokens" if tokens >= _LONG else "reading"), brake.on():
            piece = next(stream, None)
        if piece is None:
            return
        with self.screen.answer() as page:
            while piece is not None:
                page.push(piece)
                with brake.on():
                    piece = next(stream, None)

    def _keep(self, text: str, reply: Reply | None, failure: EdgeError | None) -> None:
        if reply is None and not text.strip():
            if failure:
                self.screen.fail(f"{failure} Your message was not answered: /retry sends it again, /edit changes it.")
            else:
                self.screen.note("stopped before a word was said: /retry sends your message again, /edit changes it.")
            return
        if failure and self.transcript.instead:
            self.screen.fail(f"{failure} The earlier answer stays; /retry asks again.")
            return
        question = self.transcript.pending or ""
        if reply:
            finish, counts = str(reply.finish), (reply.prompt_tokens, reply.tokens)
        else:
            finish, counts = ("failed" if failure else "cancelled"), (0, 0)
        self.transcript.answer(Turn(question, text, finish, *counts, self.model.name))
        if reply:
            self._count(reply)
            self._report(reply)
        elif failure:
            self.screen.fail(f"{failure} The conversation goes on; /retry asks again.")
        else:
            self.used = None
            self.screen.note("stopped; what was said so far is kept. /retry asks again, /undo takes it back.")

    def _count(self, reply: Reply) -> None:
        totals = self.totals
        totals.answers += 1
        totals.tokens += reply.tokens
        totals.prompt_tokens += reply.prompt_tokens
        totals.shared_tokens += reply.shared_tokens
        totals.seconds += reply.total_s
        self.used = reply.prompt_tokens + reply.tokens
        self._learn(self.used)

    def _learn(self, tokens: int) -> None:
        """Improve the guess at tokens per byte; a few words, which are mostly template, change little."""
        self.rate = (tokens + _PRIOR_BYTES * _TOKENS_PER_BYTE) / (_bytes(self.messages()) + _PRIOR_BYTES)

    def _report(self, reply: Reply) -> None:
        used, context = reply.prompt_tokens + reply.tokens, self.context
        if self.stats:
            speed = f"{reply.tokens_per_s:.1f} tokens/s · " if reply.tokens_per_s else ""
            self.screen.note(
                f"{reply.tokens:,} tokens · {speed}first after {reply.first_token_s:.2f} s · "
                f"context {100 * used / context:.0f} % ({used:,} of {context:,})"
            )
        if not reply.text.strip():
            self.screen.note("the model said nothing.")
        if reply.finish == "length" and used >= context:
            self.screen.warn(f"the answer was cut: the context of {context:,} tokens is full. {self._way_out()}")
        elif reply.finish == "length":
            self.screen.warn(f"the answer was cut after {reply.tokens:,} tokens: /set max_tokens raises the limit.")
        if used >= _FULL * context > 0 and self.overflow == "stop" and used < context:
            self.screen.warn(f"the context is {100 * used / context:.0f} % full. {self._way_out()}")

    def _way_out(self) -> str:
        if self.overflow == "stop":
            return (
                "/clear begins anew, /undo takes turns back, /set overflow drop-oldest forgets the oldest turns; "
                "`edgellm chat --context N` makes room for more."
            )
        return "/edit shortens the message; `edgellm chat --context N` makes room for more."

    def _drop(self, at_least: int = 0) -> bool:
        """Leave out the oldest turns until question and answer have room; says so, and whether it dropped any."""
        turns, before = len(self.transcript.past), self.skipped
        room = (self.context - min(self.sampling.max_tokens, self.context // 4)) / self.rate
        size = _bytes(self.messages())
        while self.skipped < turns and (self.skipped - before < at_least or size > room):
            turn = self.transcript.turns[self.skipped]
            size -= _bytes((Message("user", turn.user), Message("assistant", spoken(turn.assistant))))
            self.skipped += 1
        dropped = self.skipped - before
        if dropped:
            self.screen.warn(
                f"dropped the oldest turns to make room ({dropped} of {turns - before}): the model no longer sees them; "
                "they stay in the saved conversation."
            )
        return dropped > 0


def _reply(stream: Stream | None) -> Reply | None:
    """Return the finished answer of a closed stream; None when it was stopped or died."""
    try:
        return stream.reply if stream else None
    except EdgeError:
        return None


def _bytes(messages: tuple[Message, ...]) -> int:
    return sum(len(message.content.encode("utf-8", "replace")) for message in messages) or 1


def _enclosed(name: str, content: str) -> str:
    """Fence a file's text, with a fence that does not occur in it."""
    fence = "```"
    while fence in content:
        fence += "`"
    return f"File {name}:\n{fence}\n{content.rstrip()}\n{fence}"

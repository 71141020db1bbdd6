"""A conversation with a model: what is asked, what is sent, what happens when it does not fit, is stopped, or crashes.

Knows how to talk; which words make it do what is known in `commands`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgellm import states
from edgellm.errors import EdgeError, EngineCrashed, PromptTooLong, UsageError
from edgellm.prompt import SAFETY, Message, Prompt, Reply, Task
from edgellm.repl.introduce import introduce
from edgellm.repl.loading import Brake, Loading, Opener
from edgellm.repl.memory import Memory
from edgellm.repl.session import Transcript, Turn
from edgellm.repl.show import Screen
from edgellm.sampling import Sampling
from edgellm.thoughts import spoken

if TYPE_CHECKING:
    from edgellm.drive import Drive, Stream
    from edgellm.model import Model

OVERFLOW = ("stop", "drop-oldest", "summarize-oldest")
_FULL = 0.8  # of the context, from which on every answer says so
_LONG = 200  # tokens of a question, whose reading may take a while
_TOKENS_PER_BYTE = 0.3  # before the model's own count is known: about right for English
_PRIOR_BYTES = 1000  # as much text of the model's own as this weighs as much as that guess
_DIGEST_WORDS = 100
_DIGEST_TOKENS = 200  # what so many words may take
_LET_GO_S = 0.1  # an engine that has not let go of an answer by then does so while the person types
_FEW = 16  # tokens of a prompt, whose speed says nothing


class Closes(Protocol):
    """An answer on its way, or many of them."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Totals:
    """What answers have cost."""

    answers: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    seconds: float = 0.0
    prompt_s: float = 0.0

    def add(self, reply: Reply) -> None:
        """Count one more."""
        self.answers += 1
        self.tokens += reply.tokens
        self.prompt_tokens += reply.prompt_tokens
        self.shared_tokens += reply.shared_tokens
        self.seconds += reply.total_s
        self.prompt_s += reply.first_token_s


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
    overflow: Literal["stop", "drop-oldest", "summarize-oldest"] = "stop"
    stats: bool = True
    attached: dict[str, str] = field(default_factory=dict)  # files that go in with the next message
    skipped: int = 0  # oldest turns that the model no longer sees
    used: int | None = None  # tokens of the conversation so far, where the model has counted them
    totals: Totals = field(default_factory=Totals)
    tasks: Totals = field(default_factory=Totals)
    rate: float = _TOKENS_PER_BYTE
    memory: Memory = field(init=False)
    _closing: threading.Thread | None = None  # an engine that is letting go of a stopped answer

    def __post_init__(self) -> None:
        self.memory = Memory(on=self.folder is not None)
        self.skipped = self.transcript.digested

    @property
    def model(self) -> Model:
        """The model, as soon as it is loaded."""
        if not self.loading.done:
            with self.screen.busy(self.loading):
                self.loading.wait()
        return self.loading.result()

    @property
    def system(self) -> str:
        """The system prompt as it is sent: the person's own, between the safety prompt and a summary of what was dropped."""
        digest = self.transcript.digest
        return "\n\n".join(filter(None, (self._instructions(), digest and f"What was said before, in short: {digest}")))

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self.model.plan.context

    def _instructions(self) -> str:
        return "\n\n".join(filter(None, (SAFETY if self.safe else None, self.transcript.system)))

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
        if self.overflow != "stop":
            self._drop()
        while (error := self._listen()) is not None:
            self._learn(error.tokens)
            if self.overflow == "stop" or not self._drop(at_least=1):
                if self.skipped != before and not self.transcript.digested:
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

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """Count, with the model's own tokenizer."""
        drive = self._ready().drive([_counted(texts)])
        with self.screen.busy("counting tokens; Ctrl-C stops"):
            found: list[int] = self._driven(drive)
        return found

    def work(self, kind: str, task: Task[Any]) -> Any:
        """Drive a task of this kind to its result, and count what it costs."""
        return self._driven(self._ready().bound(kind).drive([self._tallied(task)]))

    def _driven(self, drive: Drive[Any]) -> Any:
        """Wait for the only task of a drive, which runs in a thread, so that Ctrl-C is never kept waiting."""
        found: list[Any] = []
        over = threading.Event()

        def run() -> None:
            try:
                found.append(next(iter(drive)))
            except BaseException as error:  # raised again by the thread that waits
                found.append(error)
            over.set()

        threading.Thread(target=run, daemon=True).start()
        try:
            while not over.wait(0.05):
                pass
        except KeyboardInterrupt:
            self._let_go(drive)
            raise
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0].value

    def changed(self) -> None:
        """Forget what was counted: the conversation is another one now."""
        self.used = None
        self.skipped = self.transcript.digested or min(self.skipped, len(self.transcript.turns))

    def begin(self, transcript: Transcript) -> None:
        """Go on with another conversation."""
        self.leave()
        self.memory.forget()
        self.transcript, self.skipped, self.used = transcript, transcript.digested, None

    def leave(self) -> None:
        """Keep what is computed of this conversation."""
        if self.loading.done and not self.loading.failed:
            with self.screen.busy("keeping what was computed; Ctrl-C leaves at once"):
                self.memory.leave(self.model, self.transcript)

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
        self.leave()
        self.memory.forget()
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
        model, messages = self._ready(), self.messages()
        interrupted = False
        with Brake() as brake:
            try:
                stream, failure = self._heard(model, messages, brake)
            except PromptTooLong as error:
                return error
            if isinstance(failure, KeyboardInterrupt):
                interrupted, failure = True, None
            if stream and interrupted:
                self._let_go(stream)
            elif stream:
                stream.close()
            reply = None if interrupted else _reply(stream)
            self._keep(stream.text if stream else "", reply, failure)
            self._remember(model, messages, reply)
        if interrupted and not self.screen.interactive:  # in a pipe, Ctrl-C means all of it
            raise KeyboardInterrupt
        return None

    def _heard(
        self, model: Model, messages: tuple[Message, ...], brake: Brake
    ) -> tuple[Stream | None, EdgeError | KeyboardInterrupt | None]:
        """Ask and show; an engine that died of what the disk held is asked once more, without it."""
        system = self._system_file(model)
        while True:
            stream: Stream | None = None
            saved = self.memory.files(self.transcript, system)
            try:
                with self.screen.busy("starting the engine"), brake.on():
                    stream = model.follow(Prompt(messages=messages, sampling=self.sampling, saved=saved, priority=1))
                self._show(stream, brake)
            except PromptTooLong:
                raise
            except EngineCrashed as error:
                if not (stream and not stream.text and self.memory.lost(saved)):
                    return stream, error
                self.screen.note("the engine died of what was kept on the disk, which is gone now: computing it again.")
            except (EdgeError, KeyboardInterrupt) as error:
                return stream, error
            else:
                return stream, None

    def _let_go(self, running: Closes) -> None:
        """Stop what runs; the engine may take its time, the person need not wait for it."""
        self._closing = threading.Thread(target=running.close, daemon=True)
        self._closing.start()
        self._closing.join(_LET_GO_S)

    def _ready(self) -> Model:
        """The model, when the engine has let go of what was stopped before."""
        model = self.model
        if self._closing and self._closing.is_alive():
            with self.screen.busy("stopping the last answer"):
                while self._closing.is_alive():
                    self._closing.join(0.05)
        return model

    # What the model has computed.

    def _system_file(self, model: Model) -> Path | None:
        system = self._instructions()
        return states.named(f"{model.name}\n{system}") if system else None

    def _remember(self, model: Model, sent: tuple[Message, ...], reply: Reply | None) -> None:
        """Keep what was computed, where it is worth it."""
        tokens = reply.prompt_tokens + reply.tokens if reply else self.estimate("".join(one.content for one in sent))
        self.memory.learn(sent, tokens)
        if reply is None:
            return
        self.memory.keep(model, self.transcript)
        file, system = self._system_file(model), self._instructions()
        if file:
            self.memory.keep_system(model, system, self.estimate(system), file)
        if self.memory.trouble:
            self.screen.note(f"{self.memory.trouble} Resuming this conversation will take longer.")
            self.memory.trouble = ""

    def _tallied(self, task: Task[Any]) -> Task[Any]:
        """Count what a task costs."""
        with contextlib.closing(task):
            replies: list[Reply] | None = None
            while True:
                try:
                    prompts = next(task) if replies is None else task.send(replies)
                except StopIteration as done:
                    return done.value
                replies = yield prompts
                for reply in replies:
                    self.tasks.add(reply)

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
        self.totals.add(reply)
        self.used = reply.prompt_tokens + reply.tokens
        self._learn(self.used)

    def _learn(self, tokens: int) -> None:
        """Improve the guess at tokens per byte; a few words, which are mostly template, change little."""
        self.rate = (tokens + _PRIOR_BYTES * _TOKENS_PER_BYTE) / (_bytes(self.messages()) + _PRIOR_BYTES)

    def _report(self, reply: Reply) -> None:
        used, context = reply.prompt_tokens + reply.tokens, self.context
        if self.stats:
            read = reply.prompt_tokens - reply.shared_tokens
            facts = (
                f"{reply.tokens:,} tokens",
                f"{_rate(reply.tokens_per_s)} tokens/s" if reply.tokens_per_s else "",
                f"prompt {read / reply.first_token_s:,.0f}/s" if read > _FEW and reply.first_token_s else "",
                f"first {reply.first_token_s:.2f} s",
                f"context {100 * used / context:.0f} %",
            )
            self.screen.note(" · ".join(filter(None, facts)))
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
                "/clear begins anew, /undo takes turns back, /set overflow drop-oldest (or summarize-oldest) makes room; "
                "`edgellm chat --context N` makes room for more."
            )
        return "/edit shortens the message; `edgellm chat --context N` makes room for more."

    def _drop(self, at_least: int = 0) -> bool:
        """Leave out the oldest turns until question and answer have room; says so, and whether it dropped any."""
        turns, before = len(self.transcript.past), self.skipped
        room = self.context - min(self.sampling.max_tokens, self.context // 4)
        room -= min(_DIGEST_TOKENS, self.context // 8) if self.overflow == "summarize-oldest" else 0
        size, after = _bytes(self.messages()), before
        while after < turns and (after - before < at_least or size > room / self.rate):
            turn = self.transcript.turns[after]
            size -= _bytes((Message("user", turn.user), Message("assistant", spoken(turn.assistant))))
            after += 1
        if after == before:
            return False
        if self.overflow == "summarize-oldest":
            self._shorten(before, after)
        self.skipped = after
        done = "summarized" if self.overflow == "summarize-oldest" else "dropped"
        self.screen.warn(
            f"{done} the oldest turns to make room ({after - before} of {turns - before}): the model no longer sees them; "
            "they stay in the saved conversation."
        )
        return True

    def _shorten(self, first: int, last: int) -> None:
        """Have the model say in short what was said, and send that in place of the turns."""
        from edgellm.tasks import summarize

        said = [f"{turn.user}\n{spoken(turn.assistant)}" for turn in self.transcript.turns[first:last]]
        text = "\n\n".join(filter(None, [self.transcript.digest, *said]))
        try:
            with self.screen.busy("summarizing the oldest turns; Ctrl-C stops"):
                digest = self.work("summarize", summarize.summarize(text, words=min(_DIGEST_WORDS, self.context // 16)))
        except EdgeError as error:
            raise UsageError(
                f"the oldest turns could not be summarized: {error} /set overflow drop-oldest drops them."
            ) from error
        self.transcript.shorten(str(digest), last)


def _counted(texts: Sequence[str]) -> Task[list[int]]:
    replies = yield [Prompt(completion=text, count=True) for text in texts]
    return [reply.prompt_tokens for reply in replies]


def _reply(stream: Stream | None) -> Reply | None:
    """Return the finished answer of a closed stream; None when it was stopped or died."""
    try:
        return stream.reply if stream else None
    except EdgeError:
        return None


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.1f}"


def _bytes(messages: tuple[Message, ...]) -> int:
    return sum(len(message.content.encode("utf-8", "replace")) for message in messages) or 1


def _enclosed(name: str, content: str) -> str:
    """Fence a file's text, with a fence that does not occur in it."""
    fence = "```"
    while fence in content:
        fence += "`"
    return f"File {name}:\n{fence}\n{content.rstrip()}\n{fence}"

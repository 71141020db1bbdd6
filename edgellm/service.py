"""Engine, template and loop behind one counter: prompts in, events out. This is what runs inside the worker's process.

Knows no process and no pipe; `worker` carries its words across, and in-process mode calls it directly.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgellm import engines, template
from edgellm.engines.base import Stopped, Worn
from edgellm.engines.devices import free_bytes
from edgellm.errors import EdgeError, EmptyText, EngineFailed, PromptTooLong, TruncatedOutput, UsageError
from edgellm.lookup import Pace
from edgellm.loop import Loop
from edgellm.opening import Opening
from edgellm.prompt import Event, Message, Prompt, Reply
from edgellm.sequence import Sequence
from edgellm.slots import overlap
from edgellm.text import TextStream

if TYPE_CHECKING:  # rooms that a plain answer does not need: they are opened where one is wanted
    from edgellm.constraint import Grammar
    from edgellm.scoring import Scoring

# Reading a state of fewer tokens from the disk is no faster than computing them.
_WORTH_READING = 64
_THOUGHTS = "<think>"


class Service:
    """One open model that answers prompts."""

    def __init__(self, opening: Opening, begun: engines.Begun | None = None) -> None:
        """Open the model, or wait for one that was `begun` already. Raises EngineMissing, EngineFailed and UsageError."""
        self._opening = opening
        begun = begun or engines.begin(opening.engine, opening.paths, opening.plan, opening.adapter_paths)
        self._before = dict(begun.free_bytes)  # forgotten when the first answer has been given
        self._engine = begun.finish()
        self._loop = Loop(self._engine, deterministic=opening.deterministic, pace=Pace(dict(opening.costs)))
        self._scorings: list[Scoring] = []
        self._grammars: dict[str, Grammar] = {}
        self._template: template.Template | None = None
        self._notes: dict[int, tuple[str, int]] = {}  # what the reply to a prompt will tell: template, dropped messages
        # SentencePiece families begin an answer with a blank, which is not part of the answer.
        glued = b"".join(self._engine.vocab.pieces[token] for token in self._engine.vocab.encode("a")) == b" a"
        self._lead = " " if glued else ""

    @property
    def idle(self) -> bool:
        """Nothing to do."""
        return self._loop.idle and not self._scorings

    def add(self, id: int, prompt: Prompt) -> Event | None:  # noqa: A002 - the noun of Event
        """Take a prompt in; one that only counts or keeps is answered here and now, however long it is.

        Raises PromptTooLong, TemplateError or SchemaUnsupported before anything is computed.
        """
        if prompt.count:
            return Event(id, reply=self._counted(prompt))
        if prompt.score:
            self._scored(id, prompt)
            return None
        if prompt.keep is not None:
            return Event(id, reply=self._kept(prompt, Path(prompt.keep)))
        prompt, dropped = self._shortened(prompt)
        self._refuse_hopeless(prompt)
        grammar = self._grammar(prompt)
        segments = self._segments(prompt)
        tokens = template.encode(segments, self._engine.vocab)
        self._refuse_too_little(prompt, tokens, grammar)
        worn, adapter = self._worn(prompt)
        self._recall(prompt.saved, tokens, worn)
        sequence = Sequence(
            id=id,
            prompt=tokens,
            sampling=prompt.sampling,
            text=TextStream(
                stop=prompt.sampling.stop,
                lead="" if prompt.completion is not None else self._lead,
                head="" if grammar else _begun(segments),
            ),
            constraint=grammar.start() if grammar else None,
            priority=prompt.priority,
            silent=prompt.silent,
            worn=worn,
            adapter=adapter,
        )
        self._loop.add(sequence)
        self._notes[id] = (self._template.receipt if prompt.messages and self._template else "", dropped)
        return None

    def step(self) -> list[Event]:
        """Compute one step for everyone."""
        if self._loop.idle and self._scorings:
            return self._score()
        events = [self._noted(event) for event in self._loop.step()]
        if self._before and any(event.reply for event in events):
            from edgellm import margins

            margins.note(self._opening.margin_keys, self._opening.plan.devices, self._before, free_bytes())
            self._before = {}
        return events

    def cancel(self, id: int) -> Event | None:  # noqa: A002
        """End a prompt early; None when it is already over."""
        for scoring in self._scorings:
            if scoring.id == id:
                self._scorings.remove(scoring)
                return Event(id, reply=scoring.reply("cancelled"))
        event = self._loop.cancel(id)
        return self._noted(event) if event else None

    def stop(self) -> None:
        """Abort the running step, from any thread."""
        self._engine.stop()

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def _noted(self, event: Event) -> Event:
        """Tell in a reply what was done to its prompt."""
        if not (event.reply or event.error):
            return event
        receipt, dropped = self._notes.pop(event.id, ("", 0))
        if event.reply is None:
            return event
        return replace(event, reply=replace(event.reply, template=receipt, dropped_messages=dropped))

    def _shortened(self, prompt: Prompt) -> tuple[Prompt, int]:
        """Drop the oldest turns of a conversation whose writer allows it, until a quarter is left for an answer."""
        if prompt.overflow == "error" or not prompt.messages:
            return prompt, 0
        context = self._engine.context
        room = context - min(prompt.sampling.max_tokens, context // 4)

        def fits(messages: tuple[Message, ...]) -> bool:
            return self._least(messages) <= room and len(self._tokens(replace(prompt, messages=messages))) <= room

        from edgellm import history

        messages, dropped = history.shortened(prompt.messages, fits)
        return replace(prompt, messages=messages), dropped

    def _counted(self, prompt: Prompt) -> Reply:
        tokens = len(self._tokens(prompt))
        return Reply(text="", finish="stop", prompt_tokens=tokens, tokens=0, context_tokens=self._engine.context)

    def _worn(self, prompt: Prompt) -> tuple[Worn | None, str]:
        """Find the adapter that a prompt wants, and how its receipt names it."""
        if not self._opening.adapters and prompt.adapter is None:
            return None, ""
        from edgellm.adapter import resolve

        found = resolve(self._opening.adapters, prompt.adapter)
        if found is None:
            return None, ""
        index, scale = found
        return Worn(index, scale), self._opening.adapters[index].label(scale)

    # Measuring a text, when nobody waits for an answer.

    def _scored(self, id: int, prompt: Prompt) -> None:  # noqa: A002
        tokens = self._tokens(prompt)
        bos, least = self._engine.vocab.bos, 16
        tokens = tokens[1:] if bos is not None and tokens[:1] == [bos] else tokens
        if len(tokens) < 2:
            raise EmptyText("there is nothing to measure: the text has fewer than two tokens.")
        if self._engine.context < least:
            raise UsageError(
                f"a text cannot be measured in a context of {self._engine.context} tokens: {least} are needed."
            )
        from edgellm.scoring import Scoring

        worn, adapter = self._worn(prompt)
        self._scorings.append(Scoring(id, tokens, worn, adapter))

    def _score(self) -> list[Event]:
        """Measure one window of the first text; what slots held is forgotten for it."""
        scoring = self._scorings[0]
        for slot in range(self._engine.slots):
            self._loop.slots.empty(slot)
        self._loop.wear(scoring.worn)
        try:
            if not scoring.step(self._engine):
                return []
        except Stopped:
            return []
        except EdgeError as error:
            del self._scorings[0]
            return [Event(scoring.id, error=error)]
        del self._scorings[0]
        return [Event(scoring.id, reply=scoring.reply("stop"))]

    # States on the disk.

    def _likeness(self, worn: Worn | None) -> str:
        """What a saved state depends on; what was computed with an adapter is of no use without it."""
        name = f" {self._opening.adapters[worn.number].sha256}:{worn.scale!r}" if worn else ""
        return self._engine.likeness + name

    def _recall(self, files: tuple[str, ...], tokens: list[int], worn: Worn | None) -> None:
        """Put the saved state that knows most of a prompt into a slot, unless some slot knows nearly as much."""
        if not files:
            return
        from edgellm import states

        likeness = self._likeness(worn)
        found = [(overlap(tokens, states.peek(Path(file), likeness)), file) for file in files]
        length, file = max(found)
        if length < self._loop.slots.known(tokens, worn) + _WORTH_READING:
            return
        with states.lent(Path(file), likeness) as state:
            if state:
                self._loop.slots.adopt(state.tokens, state.data, worn)

    def _kept(self, prompt: Prompt, path: Path) -> Reply:
        """Write what slots hold of a prompt; nothing when that is little, or the engine cannot."""
        worn, _ = self._worn(prompt)
        alone = prompt.messages[-1:] and prompt.messages[-1].role == "system"
        tokens = self._beginning(prompt) if alone else self._tokens(prompt)
        held, data = self._loop.slots.saved(tokens, whole=not alone, worn=worn)
        if data and len(held) >= _WORTH_READING and not (alone and len(held) < len(tokens)):
            from edgellm import states

            try:
                states.write(path, self._likeness(worn), states.State(held, data))
            except OSError as error:
                raise EngineFailed(f"what was computed could not be kept: {error}.") from error
        else:
            held = []
        return Reply(text="", finish="stop", prompt_tokens=len(tokens), tokens=0, shared_tokens=len(held))

    def _beginning(self, prompt: Prompt) -> list[int]:
        """Return the tokens that all conversations under a system prompt begin with, whatever is asked."""
        first, second = (
            self._tokens(replace(prompt, messages=(*prompt.messages, Message("user", text)))) for text in ("0", "a")
        )
        return first[: overlap(first, second)]

    def _least(self, messages: tuple[Message, ...]) -> int:
        """Tokens that messages have at least, however they are cut; 0 where they are short."""
        size = sum(len(message.content.encode()) for message in messages)
        return size // self._longest if size > self._engine.context // 2 else 0

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token; looking at all of them takes a while, and few prompts ask for it."""
        return max(map(len, self._engine.vocab.pieces), default=1) or 1

    def _refuse_hopeless(self, prompt: Prompt) -> None:
        """Refuse what cannot fit whatever the tokenizer does, before it spends seconds on megabytes."""
        least = self._least(prompt.messages or (Message("user", prompt.completion or ""),))
        if least >= self._engine.context:
            raise PromptTooLong(
                f"the prompt has at least {least:,} tokens and the context {self._engine.context:,}: "
                "shorten the text or raise --context.",
                least,
                self._engine.context,
            )

    def _refuse_too_little(self, prompt: Prompt, tokens: list[int], grammar: Grammar | None) -> None:
        """Refuse a budget in which not even the shortest value of the schema fits."""
        room = min(prompt.sampling.max_tokens, self._engine.context - len(tokens))
        if grammar is None or room <= 0 or grammar.least is None or grammar.least <= room:
            return
        raise TruncatedOutput(
            f"the shortest value of this schema takes {grammar.least} tokens, and there is room for {room}: "
            "raise --max-tokens or --context.",
            needed_tokens=grammar.least,
        )

    def _tokens(self, prompt: Prompt) -> list[int]:
        return template.encode(self._segments(prompt), self._engine.vocab)

    def _segments(self, prompt: Prompt) -> tuple[template.Segment, ...]:
        if prompt.completion is not None:
            return (template.Segment(prompt.completion, content=True),)
        if self._template is None:
            self._template = self._find_template()
        return self._template.render(prompt.messages)

    def _find_template(self) -> template.Template:
        if self._opening.engine == "scripted":
            return template.builtin("mistral")
        return template.for_model(self._opening.metadata, self._opening.template_hint, self._engine.vocab)

    def _grammar(self, prompt: Prompt) -> Grammar | None:
        if prompt.schema is None:
            return None
        from edgellm.constraint import Grammar

        if prompt.quotes is not None:  # another grammar for every text: not worth keeping
            return Grammar.compile(prompt.schema, self._engine.vocab, lead=self._lead, quotes=prompt.quotes)
        key = repr(prompt.schema)
        grammar = self._grammars.pop(key, None) or Grammar.compile(prompt.schema, self._engine.vocab, lead=self._lead)
        self._grammars[key] = grammar
        if len(self._grammars) > 64:  # schemas come from users: keep those that were used last
            del self._grammars[next(iter(self._grammars))]
        return grammar


def _begun(segments: tuple[template.Segment, ...]) -> str:
    """Return what the prompt has begun of the answer: some templates open the model's thoughts, which it then closes."""
    last = segments[-1] if segments else template.Segment("", content=True)
    return f"{_THOUGHTS}\n" if not last.content and last.text.rstrip().endswith(_THOUGHTS) else ""


def added(service: Service, id: int, prompt: Prompt) -> list[Event]:  # noqa: A002
    """Add a prompt; a refusal is the event of that prompt alone, and so is a count."""
    try:
        event = service.add(id, prompt)
    except EdgeError as error:
        return [Event(id, error=error)]
    except Exception as error:  # nothing is computed yet: what only this prompt provokes must not hurt the others
        mishap = f"the prompt could not be prepared ({type(error).__name__}: {error})."
        return [Event(id, error=EngineFailed(mishap))]
    return [event] if event else []

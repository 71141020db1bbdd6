"""What every command of a chat does; each puts itself into the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from edgellm.errors import UsageError
from edgellm.prompt import Task
from edgellm.repl import choices, session
from edgellm.repl.chat import OVERFLOW, Chat, Totals
from edgellm.repl.export import ENDINGS, written
from edgellm.repl.introduce import facts
from edgellm.repl.reading import text_file
from edgellm.repl.settings import change, shown, values
from edgellm.repl.show import gib
from edgellm.repl.table import ALIASES, COMMANDS, Leave, command
from edgellm.thoughts import spoken

_SHOWN_TURNS = 8
_METER_CELLS = 20
_WHEN_FULL = dict(
    zip(
        OVERFLOW,
        ("stop and say so", "drop the oldest turns and say so", "summarize the oldest turns and say so"),
        strict=True,
    )
)


def _names(chat: Chat, argument: str) -> list[str]:  # noqa: ARG001
    return list(COMMANDS)


# Talking.


@command("help", "[COMMAND]", "what you can type here", _names)
def _help(chat: Chat, argument: str) -> None:
    if argument:
        name = argument.lstrip("/")
        found = COMMANDS.get(ALIASES.get(name, name))
        if found is None:
            raise UsageError(f"there is no command /{name}: /help lists all of them.")
        chat.screen.say(f"/{found.name} {found.usage}".rstrip() + f"   {found.words}")
        return
    chat.screen.columns([(f"/{one.name} {one.usage}".rstrip(), one.words) for one in COMMANDS.values()])
    chat.screen.note(
        'Several lines: """ begins and ends them, Alt-Enter adds one, and a paste keeps its own. Tab completes.\n'
        "Ctrl-C stops the answer, Ctrl-D leaves, Ctrl-X Ctrl-E opens $EDITOR, Up brings back what you typed."
    )


@command("retry", "", "answer the last question again")
def _retry(chat: Chat, argument: str) -> None:  # noqa: ARG001
    transcript = chat.transcript
    if transcript.pending is None:
        if not transcript.turns:
            raise UsageError("there is nothing to answer again: ask something first.")
        transcript.ask(transcript.turns[-1].user, instead=1)
    if chat.sampling.temperature == 0 or chat.sampling.seed is not None:
        chat.screen.note("temperature 0 or a fixed seed: expect the same answer, /set changes that.")
    chat.attend()


@command("edit", "[TEXT]", "change your last message and send it again")
def _edit(chat: Chat, argument: str) -> None:
    transcript = chat.transcript
    if transcript.pending is None and not transcript.turns:
        raise UsageError("there is no message to edit yet.")
    last = transcript.pending if transcript.pending is not None else transcript.turns[-1].user
    text = argument or chat.reword(last)
    if not text.strip():
        chat.screen.note("nothing was changed.")
        return
    chat.send(text, instead=1 if transcript.pending is None else transcript.instead)


@command("undo", "[N]", "take back the last question and its answer, or the last N")
def _undo(chat: Chat, argument: str) -> None:
    count = _number(argument or "1", "/undo")
    turns = len(chat.transcript.turns)
    if not 1 <= count <= turns:
        raise UsageError(f"there are {turns} turns to take back, not {count}.")
    chat.transcript.undo(count)
    chat.changed()
    chat.screen.note(f"took back {_turns(count)}; {_turns(turns - count)} left.")


@command("clear", "", "begin a new conversation; this one stays saved")
def _clear(chat: Chat, argument: str) -> None:  # noqa: ARG001
    old = chat.transcript
    fresh = chat.fresh()
    if old.system:
        fresh.instruct(old.system)
    chat.begin(fresh)
    chat.attached.clear()
    kept = f" The last one is kept: /resume {old.name}" if old.saved else ""
    chat.screen.note(f"A new conversation.{kept}")


@command(
    "read", "FILE", "put a text, Markdown, HTML or PDF file in with your next message; - takes it out", choices.files
)
def _read(chat: Chat, argument: str) -> None:
    if argument == "-":
        chat.attached.clear()
        chat.screen.note("no file goes in with your next message.")
        return
    if argument:
        attach(chat, argument)
        return
    if not chat.attached:
        raise UsageError("name a file: /read notes.md")
    for name, text in chat.attached.items():
        _announce(chat, name, text)


def attach(chat: Chat, path: str) -> None:
    """Put a file in with the next message, and say how long it is."""
    name, found = text_file(path)
    for note in found.notes:
        chat.screen.warn(f"{name}: {note}.")
    _announce(chat, name, found.text)  # first: whoever stops the counting does not want it
    chat.attached[name] = found.text


def _announce(chat: Chat, name: str, text: str) -> None:
    [tokens] = chat.tokens([text])
    chat.screen.say(
        f"{name}: {len(text):,} characters, {tokens:,} tokens ({100 * tokens / chat.context:.0f} % of the "
        "context). It goes in with your next message; /read - takes it out."
    )
    if tokens >= chat.context:
        chat.screen.warn("That is more than the context holds: /summarize may take it, a message will not.")


@command("copy", "[code]", "copy the last answer, or its last block of code", choices.words("code"))
def _copy(chat: Chat, argument: str) -> None:
    from edgellm.repl import clipboard

    if argument not in ("", "code"):
        raise UsageError("/copy takes nothing, or the word code.")
    text = _last_answer(chat)
    if argument == "code":
        text = clipboard.last_code(text)
    chat.screen.note(clipboard.put(text, chat.screen))


# Tasks: they answer beside the conversation and do not change it.


@command(
    "translate", "LANGUAGE [TEXT]", "translate TEXT, the file that was read, or the last answer", choices.languages
)
def _translate(chat: Chat, argument: str) -> None:
    language, _, text = argument.partition(" ")
    if not language:
        raise UsageError("name a language: /translate fr, or /translate fr Good morning")
    from edgellm.tasks import translate

    _told(chat, "translate", text, lambda given: translate.translated(given, language))


@command("summarize", "[N [words]] [TEXT]", "summarize TEXT, the file that was read, or the last answer")
def _summarize(chat: Chat, argument: str) -> None:
    from edgellm.tasks import summarize

    unit, number, text = _length(argument)
    options = summarize.Options(
        sentences=number if unit == "sentences" else None, words=number if unit == "words" else None
    )
    _told(chat, "summarize", text, lambda given: summarize.summarized(given, options=options))


def _length(argument: str) -> tuple[str, int, str]:
    """Read `3`, `3 sentences` or `80 words` off the text that follows."""
    count, _, rest = argument.partition(" ")
    if not count.isdecimal():
        return "", 0, argument
    unit, _, text = rest.partition(" ")
    kind = {"word": "words", "sentence": "sentences"}.get(unit.lower().rstrip("s"), "")
    return kind or "sentences", int(count), text if kind else rest


@command("extract", "FIELDS [-- TEXT]", "JSON from TEXT, the file that was read, or the last answer")
def _extract(chat: Chat, argument: str) -> None:
    from edgellm.tasks import extract

    fields, _, text = argument.partition("--")
    if not fields.strip():
        raise UsageError("name the fields: /extract name, age int, email? -- TEXT")
    schema = extract.fields(fields)  # refused before anything is computed
    chat.screen.result(extract.dump(_worked(chat, "extract", text, lambda given: extract.extract(given, schema))))


class _Told(Protocol):
    """What a task found, and what must be known of it."""

    @property
    def text(self) -> str: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...


def _told(chat: Chat, kind: str, text: str, task: Callable[[str], Task[_Told]]) -> None:
    found: _Told = _worked(chat, kind, text, task)
    chat.screen.result(found.text)
    for warning in found.warnings:
        chat.screen.warn(warning)


def _worked(chat: Chat, kind: str, text: str, task: Callable[[str], Task[Any]]) -> Any:
    given = text.strip() or "\n\n".join(chat.attached.values()) or _last_answer(chat)
    _ = chat.model  # says that it is loading, where it is
    with chat.screen.busy("working; Ctrl-C stops"):
        return chat.work(kind, task(given))


def _last_answer(chat: Chat) -> str:
    if not chat.transcript.turns:
        raise UsageError("there is no answer yet: give the text, or /read a file.")
    return spoken(chat.transcript.turns[-1].assistant)


# How it answers.


@command("model", "[NAME]", "say which model answers, or go on with another one", choices.models)
def _model(chat: Chat, argument: str) -> None:
    if argument:
        chat.exchange(argument)
    chat.introduce()


@command("system", "[TEXT | -]", "show or set the system prompt; - takes it away")
def _system(chat: Chat, argument: str) -> None:
    if argument:
        chat.transcript.instruct(None if argument == "-" else argument)
        chat.changed()
    chat.screen.say(f"System prompt: {chat.transcript.system or 'none'}")
    if chat.safe:
        chat.screen.note("The safety prompt stands before it: /safe off takes it away.")


@command("safe", "[on | off]", "put a safety prompt before the system prompt", choices.words("on", "off"))
def _safe(chat: Chat, argument: str) -> None:
    if argument not in ("", "on", "off"):
        raise UsageError(f"/safe is on or off, not {argument!r}.")
    chat.safe = {"on": True, "off": False, "": chat.safe}[argument]
    chat.screen.say(f"The safety prompt is {'on' if chat.safe else 'off'}.")


@command("set", "[NAME VALUE]", "show or change how answers are made", choices.settings)
def _set(chat: Chat, argument: str) -> None:
    name, _, value = argument.partition(" ")
    if not name:
        chat.screen.columns(values(chat))
        return
    if value.strip():
        change(chat, name, value.strip())
    chat.screen.say(shown(chat, name))


# What is what.


@command("show", "", "the model: its file, size, licence")
def _show(chat: Chat, argument: str) -> None:  # noqa: ARG001
    chat.screen.columns(list(facts(chat.model)))


@command("plan", "", "what is on the GPU, and why")
def _plan(chat: Chat, argument: str) -> None:  # noqa: ARG001
    plan = chat.model.plan
    for reason in plan.reasons:
        chat.screen.say(f"  {reason}")
    rows = [
        (
            device.device,
            f"{gib(device.weights_bytes)} weights, {gib(device.kv_bytes)} context, {gib(device.compute_bytes)} "
            f"buffers, {gib(device.margin_bytes)} kept free; {gib(device.free_bytes)} were free",
        )
        for device in plan.devices
    ]
    chat.screen.columns(rows)


@command("stats", "", "tokens and speed of this sitting")
def _stats(chat: Chat, argument: str) -> None:  # noqa: ARG001
    chat.screen.columns([*_costs("answers", chat.totals), *_costs("tasks", chat.tasks)])


def _costs(name: str, totals: Totals) -> list[tuple[str, str]]:
    if not totals.answers:
        return [(name, "none yet")]
    rate = totals.tokens / totals.seconds if totals.seconds else 0.0
    read, shared = totals.prompt_tokens - totals.shared_tokens, 100 * totals.shared_tokens / (totals.prompt_tokens or 1)
    return [
        (
            name,
            f"{totals.answers:,}: {totals.tokens:,} tokens in {totals.seconds:.1f} s ({rate:.1f}/s, waiting included)",
        ),
        (
            "  prompts",
            f"{totals.prompt_tokens:,} tokens, {shared:.0f} % of them already computed; "
            f"{read:,} read in {totals.prompt_s:.1f} s",
        ),
    ]


@command("context", "", "what is in the model's memory, and how full it is")
def _context(chat: Chat, argument: str) -> None:  # noqa: ARG001
    context, turns = chat.context, chat.transcript.turns
    sent = turns[chat.skipped :]
    texts = [chat.system, *(f"{turn.user}\n{spoken(turn.assistant)}" for turn in sent[-_SHOWN_TURNS:])]
    counts = [
        count if text else 0 for text, count in zip(texts, chat.tokens([text or " " for text in texts]), strict=True)
    ]
    guessed = sum(chat.estimate(message.content) for message in chat.messages())
    used, about = (chat.used, "") if chat.used is not None else (guessed, "about ")
    rows = [
        ("used", f"{_meter(used / context)} {about}{used:,} of {context:,} tokens ({100 * used / context:.0f} %)"),
        (
            "system",
            f"{counts[0]:,} tokens" + (", with a summary of what was dropped" if chat.transcript.digest else ""),
        ),
        ("turns", f"{len(sent)} of {len(turns)} are sent; thoughts (<think>) are not sent again"),
    ]
    for turn, count in zip(sent[-_SHOWN_TURNS:], counts[1:], strict=True):
        rows.append(("", f"{count:>7,} tokens  {' '.join(turn.user.split())[:50]}"))
    rows += [("attached", f"{count:,} tokens  {name}") for name, count in _attached(chat)]
    rows.append(("when full", _WHEN_FULL[chat.overflow]))
    chat.screen.columns(rows)


def _attached(chat: Chat) -> list[tuple[str, int]]:
    return list(zip(chat.attached, chat.tokens(list(chat.attached.values())), strict=True)) if chat.attached else []


def _meter(share: float) -> str:
    full = round(min(1.0, share) * _METER_CELLS)
    return "█" * full + "░" * (_METER_CELLS - full)


# Keeping.


@command("save", "[NAME]", "give the conversation a name")
def _save(chat: Chat, argument: str) -> None:
    transcript = chat.transcript
    if transcript.path is None:
        raise UsageError("nothing is written (--no-history, or a disk that failed); /export FILE writes where you say.")
    if argument:
        chat.memory.settle()  # a file that is being written would keep its old name
        transcript.rename(argument)
    state = "saved as it happens" if transcript.saved else "will be saved from the first message on"
    chat.screen.say(f"{transcript.name}: {state}, in {transcript.path}")


@command("resume", "[NAME]", "go on with a saved conversation, by default the latest other one", choices.conversations)
def _resume(chat: Chat, argument: str) -> None:
    folder = session.folder()
    name = argument or next((one for one in session.names(folder) if one != chat.transcript.name), "")
    if not name:
        raise UsageError("there is no other conversation to resume.")
    chat.begin(session.resume(folder, name, chat.screen.warn, keep=chat.folder is not None))
    recall(chat)


@command("sessions", "", "the saved conversations, the latest first")
def _sessions(chat: Chat, argument: str) -> None:  # noqa: ARG001
    folder = session.folder()
    found = session.names(folder)
    rows = []
    for name in found[:20]:
        about = session.summary(folder / f"{name}.jsonl")
        mark = "*" if name == chat.transcript.name and chat.transcript.path else " "
        rows.append((f"{mark} {name}", f"{about.when}  {_turns(about.turns):>9}  {about.title[:60]}"))
    chat.screen.columns(rows)
    more = f"{len(found) - 20} older ones are in {folder}." if len(found) > 20 else ""
    if more or not found:
        chat.screen.note(more or f"there are none yet in {folder}.")


@command("branch", "[NAME]", "go on in a copy; the conversation so far stays as it is")
def _branch(chat: Chat, argument: str) -> None:
    old = chat.transcript
    chat.transcript = old.branch(argument or None)
    chat.screen.note(f"{chat.transcript.name} goes on from here; {old.name} stays as it is.")


@command("export", "FILE", "write the conversation to a .md or .json file", choices.files)
def _export(chat: Chat, argument: str) -> None:
    if not argument:
        raise UsageError("name a file: /export talk.md, or talk.json")
    path = Path(argument).expanduser()
    text = written(chat.transcript, path.suffix.lower())
    try:
        with path.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already, and is not overwritten: take another name.") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}.") from error
    chat.screen.say(f"{path}: {_turns(len(chat.transcript.turns))}, {gib(path.stat().st_size)}")


@command("exit", "", "leave; so does Ctrl-D")
def _exit(chat: Chat, argument: str) -> None:  # noqa: ARG001
    raise Leave


def recall(chat: Chat) -> None:
    """Show where a resumed conversation stands."""
    transcript = chat.transcript
    chat.screen.note(f"{transcript.name}: {_turns(len(transcript.turns))}.")
    if transcript.turns:
        last = transcript.turns[-1]
        chat.screen.note("> " + last.user.replace("\n", "\n. "))
        chat.screen.result(last.assistant)
        if last.finish in ENDINGS:
            chat.screen.note(f"({ENDINGS[last.finish]})")
    if transcript.pending is not None:
        chat.screen.warn(
            f"Your last message was not answered: /retry sends it again. It was: {transcript.pending[:200]}"
        )


def _number(text: str, name: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{name} takes a number, not {text!r}.")
    return int(text)


def _turns(count: int) -> str:
    return f"{count} turn" if count == 1 else f"{count} turns"

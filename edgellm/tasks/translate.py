"""Translation: text and a language in, the same text in that language out.

Knows the names of languages and how to ask.
"""

from __future__ import annotations

import difflib

from edgellm.errors import EmptyText, TruncatedOutput, UsageError
from edgellm.prompt import Message, Prompt, Task
from edgellm.sampling import Sampling

GREEDY = Sampling(temperature=0.0, max_tokens=1024)

LANGUAGES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "ms": "Malay",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sr": "Serbian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
"""ISO 639-1 codes and the English names that prompts use."""

_ALIASES = {"nb": "no", "farsi": "fa", "mandarin": "zh", "castilian": "es", "flemish": "nl"}


def language(spoken: str) -> str:
    """Return the English name of a language given as code, tag or name: `fr`, `fr-FR`, `fr_CA`, `French`.

    Raises UsageError with near names when it is unknown.
    """
    asked = spoken.strip().lower()
    by_name = {name.lower(): code for code, name in LANGUAGES.items()}
    code = asked.replace("_", "-").split("-")[0]
    code = _ALIASES.get(code, by_name.get(asked, code))
    if code in LANGUAGES:
        return LANGUAGES[code]
    near = difflib.get_close_matches(asked, [*by_name, *LANGUAGES], n=3, cutoff=0.7)
    names = ", ".join(dict.fromkeys(LANGUAGES[by_name.get(one, one)] for one in near))
    cure = f"Did you mean {names}?" if names else f"Known codes: {' '.join(LANGUAGES)}."
    raise UsageError(f"unknown language {spoken!r}. {cure}")


def ask(text: str, to: str, source: str | None = None, *, sampling: Sampling = GREEDY) -> Prompt:
    """Build the prompt; `to` and `source` in any form that `language` reads."""
    pair = f"from {language(source)} to {language(to)}" if source else f"to {language(to)}"
    question = f"Translate this text {pair}. Reply with the translation only.\n\nText: {text.strip()}"
    return Prompt(messages=(Message("user", question),), sampling=sampling)


def translate(text: str, to: str, source: str | None = None, *, sampling: Sampling = GREEDY) -> Task[str]:
    """Translate one text. Raises EmptyText, UsageError (unknown language) or TruncatedOutput."""
    if not text.strip():
        raise EmptyText("there is no text to translate.")
    [reply] = yield [ask(text, to, source, sampling=sampling)]
    if reply.finish != "stop":
        raise TruncatedOutput(
            f"the translation was cut after {reply.tokens} tokens: raise --max-tokens or --context.", reply.text
        )
    return reply.text.strip()

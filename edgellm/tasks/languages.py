"""The names of languages: any common form in, the English name that prompts use out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from edgellm.errors import UsageError

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
    code = _code(asked, by_name)
    if code in LANGUAGES:
        return LANGUAGES[code]
    near = difflib.get_close_matches(asked, [*by_name, *LANGUAGES], n=3, cutoff=0.7)
    names = ", ".join(dict.fromkeys(LANGUAGES[by_name.get(one, one)] for one in near))
    cure = f"Did you mean {names}?" if names else f"Known codes: {' '.join(LANGUAGES)}."
    raise UsageError(f"unknown language {spoken!r}. {cure}")


def known(spoken: str) -> bool:
    """Whether `language` would know it."""
    asked = spoken.strip().lower()
    return _code(asked, {name.lower(): code for code, name in LANGUAGES.items()}) in LANGUAGES


def _code(asked: str, by_name: Mapping[str, str]) -> str:
    code = asked.replace("_", "-").split("-")[0]
    return _ALIASES.get(code, by_name.get(asked, code))


SPACELESS = frozenset({"Chinese", "Japanese", "Thai"})
"""Languages that put no blank between sentences."""

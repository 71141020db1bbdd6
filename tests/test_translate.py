"""A translation keeps what must survive, or says what it lost; long texts come through whole, with their structure."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ggufs
import pytest
from hypothesis import given as supposing
from hypothesis import strategies as st
from plays import content, given, play
from test_layout import MARKDOWN, SUBTITLES

import edgellm
from edgellm.errors import InvalidOutput, PromptTooLong, TruncatedOutput, UsageError
from edgellm.prompt import Prompt, Reply
from edgellm.sampling import Sampling
from edgellm.tasks import glossary
from edgellm.tasks.summarize import Options as Length
from edgellm.tasks.summarize import summarized
from edgellm.tasks.translate import Options, Translation, ask, translated

SMALL = Sampling(temperature=0, max_tokens=200)


def loud(prompt: Prompt) -> str:
    """Translate into a language that changes letters alone, and no placeholder, tag, link or code."""
    parts = re.split(r"(\{[^}]*\}|<[^>]*>|`[^`]*`|\]\([^)]*\)|%\w|https?://\S+)", given(prompt))
    return "".join(part if place % 2 else part.replace("e", "é").replace("o", "ö") for place, part in enumerate(parts))


def run(text: str, answer: Callable[[Prompt], Any] = loud, *, context: int = 4096, **options: Any) -> Translation:
    sampling = options.pop("sampling", SMALL)
    return play(translated(text, "fr", sampling=sampling, options=Options(**options)), answer, context=context)[0]


def test_a_short_text_is_asked_in_the_words_the_embedded_model_was_taught() -> None:
    result, asked = play(translated(" Good morning.\nBye {n}.\n", "fr", "en"), loud)
    assert content(asked[0]) == (
        "Translate this text from English to French. Reply with the translation only.\n\nText: Good morning.\nBye {n}."
    )
    assert len(asked) == 1
    assert result == Translation(text="Gööd mörning.\nByé {n}.", kept=1)
    assert result.facts() == {"kept": 1, "lost": [], "parts": 1, "retries": 0, "warnings": []}


def test_what_was_lost_is_asked_for_by_name_once() -> None:
    answers = iter(["Salut {nom}, 3 €", "Salut {name}, 3,50 €"])
    result, asked = play(translated("Hi {name}, 3.50 €", "fr"), lambda prompt: next(answers))
    assert "Keep these exactly as they are: {name}, 3.50. Do not write: {nom}." in content(asked[1])
    assert (result.text, result.lost, result.retries, result.kept) == ("Salut {name}, 3,50 €", (), 1, 2)


def test_what_is_still_lost_is_reported_and_the_better_answer_kept() -> None:
    answers = iter(["Salut {name}", "Salut"])
    result, _ = play(translated("Hi {name}, {greeting}", "fr"), lambda prompt: next(answers))
    assert result.text == "Salut {name}"
    assert result.warnings == ("placeholder {greeting} is missing",)
    assert (result.kept, result.retries) == (1, 1)
    assert isinstance(result, edgellm.Translation)


def test_strict_raises_and_carries_the_text() -> None:
    with pytest.raises(InvalidOutput, match=r"placeholder \{name\} is missing") as error:
        run("Hi {name}", lambda prompt: "Salut", strict=True)
    assert error.value.text == "Salut"


def test_lost_lines_are_translated_one_by_one() -> None:
    def careless(prompt: Prompt) -> str:
        return loud(prompt).split("\n")[0]

    result, asked = play(translated("One.\nTwo.\n\n  Three.\nFour.", "fr"), careless)
    assert result.text == "Oné.\nTwö.\n\n  Thréé.\nFöur."
    assert result.lost == ()
    assert [given(prompt) for prompt in asked[1:]] == ["One.\nTwo.", "Three.\nFour.", "One.", "Two.", "Three.", "Four."]


def test_swallowed_sentences_are_translated_one_by_one() -> None:
    result = run("One. Two. Three. Four.", lambda prompt: loud(prompt).split(". ")[0])
    assert result.text == "Oné. Twö. Thréé. Föur."
    assert result.retries == 4


def test_an_answer_that_says_more_than_the_text_is_reported() -> None:
    result = run("Hello.", lambda prompt: "Bonjour.\n\nNote: this is French.")
    assert result.warnings == ("it has 2 lines, not 1",)


def test_a_cut_answer_is_asked_for_in_halves() -> None:
    text = "A sentence of five words. " * 12
    result = run(text, lambda prompt: loud(prompt) + loud(prompt)[-1] * 90, sampling=SMALL)
    assert result.text.count("A sénténcé") == 12
    with pytest.raises(TruncatedOutput, match="cut after 200 tokens"):
        run("One endless sentence", lambda prompt: "x" * 900)


def test_a_raving_model_is_not_asked_again_and_again() -> None:
    asked = []

    def rave(prompt: Prompt) -> Reply:
        asked.append(prompt)
        return Reply(text="la " * 900, finish="length", prompt_tokens=100, tokens=900)

    with pytest.raises(TruncatedOutput):
        run("One. Two. Three.", rave)
    assert len(asked) == 1


def test_a_sentence_that_makes_a_model_rave_does_not_cost_a_long_text() -> None:
    text = " ".join(f"Sentence number {n} is here." for n in range(60))

    def raves_at(*bad: int) -> Callable[[Prompt], Any]:
        def answer(prompt: Prompt) -> Any:
            if any(f"number {n} is" in given(prompt) for n in bad):
                return Reply(text="la " * 900, finish="length", prompt_tokens=100, tokens=900)
            return loud(prompt)

        return answer

    found = run(text, raves_at(7))
    assert found.warnings == ("it was not translated: Sentence number 7 is here.",)
    assert found.text.count("is here.") == 1
    assert found.text.count("is héré.") == 59
    with pytest.raises(TruncatedOutput):
        run(text, raves_at(*range(20)))
    with pytest.raises(InvalidOutput):
        run(text, raves_at(7), strict=True)


@pytest.mark.parametrize("context", [512, 4096])
def test_a_long_text_is_translated_in_parts_that_fit(context: int) -> None:
    text = "\n\n".join(f"Paragraph {n} is about one thing. It costs {n}.5 euros, {{name}}." for n in range(60))
    task = translated(text, "fr", sampling=SMALL)
    result, asked = play(task, loud, context=context)
    assert result.text == text.replace("e", "é").replace("o", "ö").replace("{namé}", "{name}")
    assert result.lost == ()
    assert result.parts == len(asked) > 3
    assert result.kept == 60 * 3
    assert all(len(content(prompt)) + len(given(prompt)) <= context for prompt in asked)


def test_a_part_shows_the_sentences_before_it_for_context() -> None:
    sentences = [f"Sentence number {n} is here." for n in range(60)]
    _, asked = play(translated(" ".join(sentences), "fr", sampling=SMALL), loud)
    for before, prompt in itertools.pairwise(asked):
        shown = content(prompt).split("only for context: ")[1].split("\n\n")[0]
        assert given(before).endswith(shown)


def test_a_line_without_a_blank_longer_than_the_context_comes_through() -> None:
    assert run("o" * 3000, loud, context=700).text.replace(" ", "") == "ö" * 3000
    with pytest.raises(PromptTooLong):
        run("o" * 3000, loud, context=60)


def echo(prompt: Prompt) -> str:
    return given(prompt)


_ALPHABET = st.sampled_from(
    ["word", "A", " ", "  ", "\n", "\n\n", ". ", "! ", "{x}", "7", "-", "`c`", "日", "。", "\t", "#"]
)


@supposing(st.lists(_ALPHABET, max_size=400).map("".join), st.sampled_from([400, 900]))
def test_a_model_that_says_the_text_again_gives_the_text(text: str, context: int) -> None:
    if not text.strip():
        return
    found = run(text, echo, context=context)
    assert found.text == text.strip() or found.text.split() == text.split() or _long(text)
    assert found.lost == ()


def _long(text: str) -> bool:
    return any(len(line) > 60 for line in text.split("\n"))


def test_markdown_and_subtitles_keep_their_structure() -> None:
    result = run(MARKDOWN * 3, format="markdown")
    assert (result.lost, result.notes) == ((), ())
    assert 'print("untouched")' in result.text
    assert "[a link](https://example.org" in result.text
    assert "| öné  | `1`   |" in result.text
    cues = "\n\n".join(SUBTITLES for _ in range(6))
    found = run(cues, format="srt")
    assert [line for line in found.text.split("\n") if "-->" in line or line.isdecimal()] == [
        line for line in cues.split("\n") if "-->" in line or line.isdecimal()
    ]
    assert found.text.count("\n") == cues.count("\n")
    assert "- Hi.\n" in found.text


def test_a_document_without_words_comes_back_with_a_note() -> None:
    found = run("```\ncode\n```\n", format="markdown")
    assert (found.text, found.parts) == ("```\ncode\n```\n", 0)
    assert found.warnings == ("there is nothing to translate in it",)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="text, markdown, srt, not 'docx'"):
        Options(format="docx")  # type: ignore[arg-type]


class TestGlossary:
    terms = {"battery": "accumulateur", "Power Supply": "alimentation", "電池": "pile"}  # noqa: RUF012

    def test_only_terms_that_occur_are_in_the_prompt(self) -> None:
        task = translated("The Battery and batteryless 電池工場.", "fr", options=Options(glossary=self.terms))
        _, asked = play(task, lambda prompt: "L'Accumulateur, pile.")
        assert " Use these terms: battery = accumulateur; 電池 = pile." in content(asked[0])
        task = translated("Nothing.", "fr", options=Options(glossary=self.terms))
        assert content(play(task, loud)[1][0]) == content(ask("Nothing.", "fr"))

    def test_a_term_that_was_not_used_is_asked_for_and_reported(self) -> None:
        task = translated("A battery.", "fr", options=Options(glossary=self.terms))
        result, asked = play(task, lambda prompt: "Une batterie.")
        assert "The answer must contain: accumulateur." in content(asked[1])
        assert result.warnings == ("term accumulateur is missing",)

    @pytest.mark.parametrize(
        "text",
        ["battery,pile\n", "source,target\nbattery,pile\n", "en;fr\r\nbattery;pile\r\n", "\ufeffbattery\tpile\n\n"],
    )
    def test_it_is_read_from_any_csv(self, text: str) -> None:
        assert glossary.read(text) == {"battery": "pile"}

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("a\n", "line 1: need a term"),
            ("a,b\na,c\n", "line 2: 'a' has two"),
            ('a,"b\n', "is not CSV"),
            (",b", "line 1"),
        ],
    )
    def test_what_is_no_glossary_is_refused_with_the_line(self, text: str, why: str) -> None:
        with pytest.raises(UsageError, match=why):
            glossary.read(text)


# 300 texts, and a model that breaks what it can.

_KEPT = ["{name}", "{{count}}", "${total}", "%s", "%(n)d", "$1", "<b>", "</b>", "<br/>", "&nbsp;", "https://example.org/a?b=c",
         "a.b@example.org", "`git push`", "1,234.56", "224", "3.5"]  # fmt: skip
_BREAKS: list[Callable[[str], str]] = [
    lambda kept: "",
    lambda kept: kept[1:],
    lambda kept: kept[:-1] + "x" + kept[-1],
    lambda kept: kept.upper() if kept != kept.upper() else kept[::-1],
    lambda kept: kept[0] + " " + kept[1:],
    lambda kept: "" if kept == "&nbsp;" else kept + kept,  # one more of these does no harm
    lambda kept: kept.translate(str.maketrans("{<%.2$", "([％;3S")),
]  # fmt: skip


def _broken_texts(seed: int) -> list[tuple[str, str, list[str]]]:
    """Texts, their answers, and what the answers broke; a third of the answers break nothing, and nothing repeats."""
    chance = random.Random(seed)
    words = ["order", "your", "friend", "was", "sent", "with", "parts", "and", "nothing", "more", "fine", "day"]
    found = []
    for number in range(300):
        kept = chance.sample(_KEPT, chance.randint(1, 4))
        broken = [one for one in kept if number % 3 and chance.random() < 0.6]
        source, answer = [f"Row{chr(97 + number // 26)}{chr(97 + number % 26)}"], ["Ligne"]
        for one in kept:
            filler = chance.sample(words, 2)
            source += [*filler, one]
            said = one
            while one in broken and said == one:
                said = chance.choice(_BREAKS)(one)
            answer += ["mot", "autre", said]
        found.append((" ".join(source) + " end", " ".join(answer) + " fin", broken))
    return found


def test_300_texts_survive_or_are_reported_whatever_a_model_breaks(script: Any) -> None:
    texts = _broken_texts(7)
    script(rules=[{"when": text, "say": answer} for text, answer, _ in texts])
    with edgellm.load("demo", engine="scripted", in_process=True) as model:
        found = [model.translated(text, "fr") for text, _, _ in texts]
    for (text, answer, broken), told in zip(texts, found, strict=True):
        assert told.text == answer
        reported = {loss.text.replace("1234.56", "1,234.56") for loss in told.lost if loss.wanted}
        assert reported == set(broken), text
        assert told.retries == bool(broken)
    assert sum(bool(broken) for _, _, broken in texts) > 100


def test_a_model_that_obeys_the_second_time_loses_nothing(script: Any) -> None:
    script(
        rules=[
            {"when": "Keep these exactly as they are: {name}.", "say": "Salut {name} !"},
            {"when": "Hello", "say": "Salut !"},
        ]
    )
    with edgellm.load("demo", engine="scripted", in_process=True) as model:
        assert model.translate(["Hello {name}!"] * 5, "fr", strict=True) == ["Salut {name} !"] * 5


def test_random_weights_end_in_a_report_or_in_words(tmp_path: Path) -> None:
    ggufs.write_model(tmp_path / "random.gguf")
    text = "Hello {name}. It costs 3.5.\n\nSee `x`.\n"
    with edgellm.load(tmp_path / "random.gguf", template="chatml", context=512) as model:
        for seed in range(30):
            how = Sampling(temperature=5, top_k=0, top_p=1, min_p=0, seed=seed, max_tokens=40, stop=("a", "e"))
            with contextlib.suppress(TruncatedOutput):
                told = model.translated(text, "fr", sampling=how, format="markdown" if seed % 2 else "text")
                kept = set(re.findall(r"\{name\}|`x`", told.text))
                assert {loss.text for loss in told.lost} >= {"{name}", "`x`"} - kept
        for length in (Length(sentences=2), Length(words=9)):
            with contextlib.suppress(TruncatedOutput, InvalidOutput):
                how = Sampling(temperature=5, max_tokens=40, seed=1, stop=("a",))
                short = model.run(summarized("Hello there. " * 60, sampling=how, options=length))
                assert short.miss == length.miss(short.text)


def test_the_embedded_model_keeps_lines_and_structure() -> None:
    text = "# Good morning\n\n- Thank you very much.\n- Good evening.\n\n```\nGood\n```\n"
    with edgellm.load("demo") as model:
        found = model.translated(text, "fr", format="markdown")
        assert re.fullmatch(r"# .+\n\n- .+\n- .+\n\n```\nGood\n```\n", found.text)
        assert found.warnings == ()
        plain = "Good morning. Thank you very much.\n" * 40
        assert model.translate(plain, "fr").count("\n") == 39

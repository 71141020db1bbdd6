"""The generators of the embedded model's text: what they promise to training, to evaluation and to people."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import islice
from random import Random

import jsonschema
import pytest

from edgellm.demo import lexicon, text, text_chat, text_extract, text_summary, text_translate, values
from edgellm.tasks import extract, summarize, translate

PIECES = ("ab", "▁the", "Zi", "{", "é", "1")


def drawn(task: str, count: int, *, seed: int = 5, evaluation: bool = False) -> list[text.Example]:
    return list(islice(text.examples(seed, evaluation=evaluation, pieces=PIECES, tasks={task: 1}), count))


def words(one: text.Example) -> set[str]:
    said = " ".join([*(message.content for message in one.messages), one.answer])
    return set(re.findall(r"[^\W\d_]+", said))


@pytest.mark.parametrize("task", text.TASKS)
def test_the_same_seed_gives_the_same_examples(task: str) -> None:
    assert drawn(task, 40) == drawn(task, 40)
    assert drawn(task, 40) != drawn(task, 40, seed=6)


def test_all_tasks_come_in_the_stream() -> None:
    assert {one.task for one in islice(text.examples(1), 300)} == set(text.TASKS)


def test_what_belongs_to_evaluation_never_occurs_in_training() -> None:
    lists = (values.FIRST_NAMES, values.LAST_NAMES, values.COMPANY_WORDS, values.STREET_WORDS)
    kept = {value for group in lists for value in group if values.held(value)} | {"Suvojit", "Hore", "Bisson"}
    for task in text.TASKS:
        for one in drawn(task, 250):
            assert not kept & words(one), one


def test_evaluation_uses_what_training_never_saw() -> None:
    for one in drawn("extract", 60, evaluation=True):
        assert all(values.held(name) for name in [json.loads(one.answer).get("first_name", "Ted")])
    sentences = [one.messages[0].content.split("Text: ")[1] for one in drawn("translate", 100, evaluation=True)]
    fresh = [one for one in sentences if one not in text_translate.COURTESY]
    assert fresh
    assert all(map(text.held_sentence, fresh))


def test_training_never_sees_a_sentence_of_evaluation() -> None:
    for one in drawn("translate", 300):
        sentence = one.messages[0].content.split("Text: ")[1]
        assert sentence in text_translate.COURTESY or not text.held_sentence(sentence)


def test_phrasings_with_a_star_are_for_evaluation_only() -> None:
    random = Random(1)
    assert {text_extract.phrasing(random, "a|*b", False) for _ in range(50)} == {"a"}
    assert {text_extract.phrasing(random, "a|*b", True) for _ in range(50)} == {"a", "b"}


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("task", ["extract", "spoken", "copy"])
def test_every_extraction_obeys_its_schema_and_quotes_its_text(task: str, evaluation: bool) -> None:
    for one in drawn(task, 300, evaluation=evaluation):
        if one.schema is None:
            continue
        answer = json.loads(one.answer)
        jsonschema.Draft202012Validator(one.schema).validate(answer)
        for value in _strings(answer):
            assert value in one.messages[-1].content, one


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for part in inner for one in _strings(part)]


def test_extraction_asks_in_the_words_that_are_used_at_run_time() -> None:
    for one in drawn("extract", 100):
        assert one.schema is not None
        given = one.messages[-1].content.split("\n\nText: ", 1)[1]
        assert extract.ask(given, one.schema).messages[-1] == one.messages[-1]
        assert one.answer == extract.dump(json.loads(one.answer))


def test_extraction_covers_one_to_six_fields_types_and_demonstrations() -> None:
    cases = drawn("extract", 600)
    assert {len(json.loads(one.answer)) for one in cases} == {1, 2, 3, 4, 5, 6}
    kinds = {type(value) for one in cases for value in json.loads(one.answer).values()}
    assert kinds >= {str, int, float, bool, list, type(None)}
    assert any(len(one.messages) > 1 for one in cases)


def test_a_demonstration_never_gives_the_answer_away() -> None:
    for one in drawn("extract", 500):
        assert all(message.content != one.answer for message in one.messages[:-1]) or len(one.answer) < 40


def test_translation_asks_in_the_words_that_are_used_at_run_time() -> None:
    for one in drawn("translate", 60):
        question = one.messages[0].content
        sentence = question.split("Text: ")[1]
        to = "fr" if "French" in question else "es"
        source = "en" if "from English" in question else None
        assert translate.ask(sentence, to, source).messages == one.messages


@pytest.mark.parametrize(
    ("rough", "right"),
    [
        ("je ai un livre", "j'ai un livre"),
        ("la école de le village", "l'école du village"),
        ("nous allons à le marché", "nous allons au marché"),
        ("nous allons à la gare", "nous allons à la gare"),
        ("ma école et ma maison", "mon école et ma maison"),
        ("ce homme et ce garçon", "cet homme et ce garçon"),
        ("il ne ouvre pas la porte", "il n'ouvre pas la porte"),
        ("est-ce que il mange", "est-ce qu'il mange"),
        ("le œuf", "l'œuf"),
    ],
)
def test_french_is_elided_and_contracted(rough: str, right: str) -> None:
    assert text_translate.french(rough) == right


@pytest.mark.parametrize(
    ("rough", "right"),
    [("voy a el parque", "voy al parque"), (" como una manzana", "como una manzana"), ("a él", "a él")],
)
def test_spanish_is_contracted(rough: str, right: str) -> None:
    assert text_translate.spanish(rough) == right


def test_adjectives_agree_with_their_nouns() -> None:
    for _ in range(2):
        for noun in lexicon.NOUNS:
            phrase = text_translate.noun_phrase(Random(noun.en), noun).words
            french, spanish = set(re.split(r"[ ']", phrase.fr)), set(phrase.es.split())
            for one in lexicon.ADJECTIVES:
                if one.en in phrase.en.split() and one.en != "cheap":
                    plural = noun.ens in phrase.en.split() and noun.ens != noun.en
                    assert one.fr[(noun.fr_gender == "f") + 2 * plural] in french or noun.ens == noun.en
                    assert one.es[(noun.es_gender == "f") + 2 * plural] in spanish or noun.ens == noun.en


def test_verbs_have_every_form() -> None:
    for verb in lexicon.VERBS:
        for forms in (verb.fr_present, verb.fr_future, verb.es_present, verb.es_past, verb.es_future):
            assert len(forms) == 6
            assert all(forms)
    eat = next(verb for verb in lexicon.VERBS if verb.en == "eat")
    assert (eat.fr_present[3], eat.fr_participle, eat.fr_future[0]) == ("mangeons", "mangé", "mangerai")
    assert (eat.es_present[2], eat.es_past[0], eat.es_future[5]) == ("come", "comí", "comerán")


def test_the_vocabulary_covers_what_is_generated() -> None:
    known = {word.lower() for word in re.findall(r"[^\W\d_]+", text.vocabulary())}
    known |= {noun.ens for noun in lexicon.NOUNS}
    known |= {form for verb in lexicon.VERBS for form in (verb.ens, verb.past)}
    known |= {word.lower() for name in (*values.FIRST_NAMES, *values.CITIES) for word in name.split()}
    known |= {"an", "has", "wants", "goes", "lives", "does", "do", "am", "are", "is", "not", "will"}
    random = Random(2)
    for _ in range(1000):
        for word in re.findall(r"[^\W\d_]+", text_translate.sentence(random).en):
            assert word.lower() in known, word


def test_sentences_are_written_as_each_language_writes_them() -> None:
    random = Random(3)
    for _ in range(500):
        one = text_translate.sentence(random)
        assert "  " not in one.en + one.fr + one.es
        assert not re.search(r"\b(de le|à le|je [aeiouéê]|le [aeiouéê])", one.fr), one.fr
        assert one.es.endswith("?") == ("¿" in one.es) == one.en.endswith("?") == one.fr.endswith(" ?")


def test_summaries_keep_their_facts_and_their_length() -> None:
    for one in drawn("summarize", 300):
        question = one.messages[0].content
        report = question.split("Text: ", 1)[1]
        assert one.facts
        for fact in one.facts:
            assert fact in one.answer
            assert fact in report or fact.split()[0] in report
        if limit := re.search(r"at most (\d+) words", question):
            assert len(one.answer.split()) <= int(limit[1])
            assert summarize.ask(report, words=int(limit[1])).messages == one.messages
        elif count := re.search(r"exactly (\d)", question):
            assert summarize.ask(report, sentences=int(count[1])).messages == one.messages
            assert int(count[1]) == 1 or ". " in one.answer


def test_reports_have_four_to_ten_sentences() -> None:
    random = Random(4)
    for _ in range(200):
        report = text_summary.report(random)
        count = len(re.findall(r"[.!?](?= [A-Z0-9]|$)", report.text))
        assert 4 <= count <= 16  # titles and initials (`Dr.`, `J.`) also end in a point


def test_chat_is_honest_about_what_it_does_not_know() -> None:
    answers = {one.answer for one in drawn("chat", 400)}
    assert text_chat.OFF_TOPIC in answers
    assert answers <= {text_chat.OFF_TOPIC, *(answer for _, answer in text_chat.INTENTS.values())}


def test_a_conversation_ends_with_a_user_and_alternates() -> None:
    for one in drawn("chat", 200):
        roles = [message.role for message in one.messages if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert all(message.role != "system" for message in one.messages[1:])


def test_nonsense_is_copied_exactly() -> None:
    for one in drawn("copy", 200):
        if one.schema is None:
            assert one.messages[0].content == f"Repeat this text: {one.answer}"


def test_the_vocabulary_is_told_in_lines() -> None:
    told = text.vocabulary()
    assert "Good morning." in told
    assert "bicycle" in told
    assert told.count("\n") > 30


def test_the_evaluation_stays_what_it_was() -> None:
    """Figures of different days can be compared. Where this must change, measure again all that is told of the model."""
    asked = [one for task in text.TASKS for one in drawn(task, 60, seed=20240, evaluation=True) if task != "copy"]
    told = hashlib.sha256(json.dumps([(one.answer, *(m.content for m in one.messages)) for one in asked]).encode())
    assert told.hexdigest()[:16] == "8f1417621e5d9acd"

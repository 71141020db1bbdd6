"""What the documents of Mistral, Mixtral and SOLAR show, each in a few lines; `--only NAME` runs one.

The embedded model only demonstrates that it runs. For real answers: `python examples/documents.py -m mixtral-8x7b-instruct`,
`-m mistral-7b-instruct-v0.2` or `-m solar-10.7b-instruct`.
"""

import argparse
import dataclasses
from collections.abc import Callable

import edgellm
from edgellm.template import builtin
from edgellm.text import wrapped

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("-m", "--model", default="demo")
parser.add_argument("--only", metavar="NAME")
options = parser.parse_args()
if options.model == "demo":
    print("The embedded model only demonstrates that this runs; name a real one with -m.\n")

MOST = 48 if options.model == "demo" else 2048
# The documents call them max_new_tokens, temperature, top_k, top_p and repetition_penalty.
CREATIVE = edgellm.Sampling(max_tokens=MOST, temperature=0.9, top_k=55, top_p=0.93, repeat_penalty=1.2, seed=1)
GREEDY = edgellm.Sampling(temperature=0, max_tokens=min(MOST, 512))
REPORT = (
    "On Saturday Bruges won the handball match against Denver 2 to 0. It rained a little. The referee showed two yellow "
    "cards. Both teams played hard. The best player was Nate Moreau. The first half was slow."
)
SHOWN: dict[str, Callable[[edgellm.Model], str]] = {}


def shown(function: Callable[[edgellm.Model], str]) -> Callable[[edgellm.Model], str]:
    SHOWN[function.__name__] = function
    return function


def ask(model: edgellm.Model, question: str, sampling: edgellm.Sampling = GREEDY) -> str:
    return model.chat([{"role": "user", "content": question}], sampling=sampling).text


@shown
def paragraph(model: edgellm.Model) -> str:
    return ask(model, "Write a paragraph about the sea in exactly five sentences.", CREATIVE)


@shown
def lines_of_a_width(model: edgellm.Model) -> str:
    return "".join(wrapped([ask(model, "Who are you, and what can you do?")], 40))


@shown
def french_and_spanish(model: edgellm.Model) -> str:
    return " / ".join(model.translate("Good morning", to=language) for language in ("fr", "es"))


@shown
def two_short_sentences(model: edgellm.Model) -> str:
    return model.summarize(REPORT, sentences=2)


@shown
def json_from_a_sentence(model: edgellm.Model) -> str:
    text = "My name is Clara Novak, working in company Boreal and my address is 12 Mill Street"
    return str(model.extract(text, fields="name, company, address"))


@shown
def json_from_lines(model: edgellm.Model) -> str:
    text = "name: John\nlastname: Smith\naddress: #1 Samuel St."
    return str(model.extract(text, fields="name, lastname, address"))


@shown
def classification(model: edgellm.Model) -> str:
    """The schema leaves no third answer."""
    tone = {"tone": {"enum": ["good", "bad"]}}
    schema = {"type": "object", "properties": tone, "required": ["tone"], "additionalProperties": False}
    question = "Is this review good or bad? Answer with JSON.\n\nThe food was cold and the waiter was rude."
    return model.chat([{"role": "user", "content": question}], schema=schema, sampling=GREEDY).text


@shown
def the_rest_of_a_text(model: edgellm.Model) -> str:
    """For base models, such as TheBloke/Mistral-7B-v0.1-GGUF: no chat format."""
    return model.complete("The history of the lighthouse begins", sampling=GREEDY).text


@shown
def the_rest_of_a_program(model: edgellm.Model) -> str:
    sampling = dataclasses.replace(GREEDY, stop=("\n\n",))
    return model.complete("def fibonacci(n: int) -> int:\n", sampling=sampling).text


@shown
def a_function_from_a_description(model: edgellm.Model) -> str:
    return ask(model, "Write a Python function that says whether a number is prime.")


@shown
def few_shot_through_messages(model: edgellm.Model) -> str:
    turns = [
        {"role": "system", "content": "Turn what is said into JSON."},
        {"role": "user", "content": "name: Ann Lee\nage: 31"},
        {"role": "assistant", "content": '{"name": "Ann Lee", "age": 31}'},
        {"role": "user", "content": "name: Omar Haddad\nage: 44"},
    ]
    return model.chat(turns, sampling=GREEDY).text


@shown
def two_turns_in_the_exact_format(model: edgellm.Model) -> str:
    turns = [("user", "What is 2 + 2?"), ("assistant", "4."), ("user", "And 3 + 3?")]
    messages = [edgellm.Message(role, text) for role, text in turns]  # type: ignore[arg-type]
    written = "".join(segment.text for segment in builtin("mistral").render(messages))
    return f"{written}\n{model.chat(messages, sampling=GREEDY).text}"


@shown
def the_safe_prompt(model: edgellm.Model) -> str:
    hello = [{"role": "user", "content": "Who are you?"}]
    bare, safe = model.chat(hello, sampling=GREEDY), model.chat(hello, sampling=GREEDY, safe=True)
    return f"{safe.text} [{safe.prompt_tokens - bare.prompt_tokens} more tokens in the prompt]"


@shown
def the_square_root(model: edgellm.Model) -> str:
    return ask(model, "What is the square root of 144? Explain it step by step.")


if options.only and options.only not in SHOWN:
    parser.error(f"--only is one of {', '.join(SHOWN)}")
with edgellm.load(options.model, slots=1) as model:
    for name, function in SHOWN.items():
        if options.only in (None, name):
            print(f"# {name.replace('_', ' ')}\n{function(model)}\n")

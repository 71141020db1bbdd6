"""Test your own program without any model: the scripted engine says what you tell it, and can crash on purpose.

Run it with pytest, or as a program.
"""

import json
import os
import tempfile

import edgellm


def invoice_total(model: edgellm.Model, text: str) -> float:
    """Stands for your program."""
    return float(model.extract(text, fields="total float")["total"])


def scripted(**script: object) -> edgellm.Model:
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(script, file)
    os.environ["EDGELLM_SCRIPT"] = file.name
    return edgellm.load("demo", engine="scripted")


def test_the_total_is_read() -> None:
    with scripted(rules=[{"when": "invoice 7", "say": '{"total": 12.5}'}]) as model:
        assert invoice_total(model, "the text of invoice 7") == 12.5


def test_a_crash_of_the_engine_does_not_take_us_along() -> None:
    with scripted(crash_at=1) as model:
        try:
            invoice_total(model, "any text")
        except edgellm.EngineCrashed as crash:
            print("survived:", crash)


if __name__ == "__main__":
    test_the_total_is_read()
    test_a_crash_of_the_engine_does_not_take_us_along()

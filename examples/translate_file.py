"""Translate a text file line by line into several languages; the lines of a file are decoded together."""

import argparse
from pathlib import Path

import edgellm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", type=Path, nargs="?", help="UTF-8 text; a few sample lines without it")
parser.add_argument("--to", nargs="+", default=["fr", "es"])
parser.add_argument("-m", "--model", default="demo")
options = parser.parse_args()

text = options.file.read_text(encoding="utf-8") if options.file else "Good morning.\nThank you very much.\n"
lines = [line for line in text.splitlines() if line.strip()]
with edgellm.load(options.model, slots=8) as model:
    for language in options.to:
        print(f"# {language}")
        print(*model.translate(lines, to=language), sep="\n")

"""Pictures of `edgellm chat` for the documentation: a real session in a real terminal, as SVG.

    python docs/pictures.py [FOLDER]

Needs tmux, which is the terminal. Every scene is played at 80 and 120 columns, and drawn in light and dark. The embedded
model answers in `chat`; in `markdown` the scripted engine says a canned answer, to show how one looks.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
from rich.text import Text

# Theme, and how a terminal of these colours tells programs about them.
THEMES = {"light": (DEFAULT_TERMINAL_THEME, "0;15"), "dark": (DIMMED_MONOKAI, "15;0")}
WIDTHS = (80, 120)
ANSWER = """Two ways to reverse a list in **Python**:

1. `reversed(x)` gives an iterator, and leaves `x` as it is.
2. `x.reverse()` turns the list itself around.

```python
def backwards(words: list[str]) -> str:
    # [/INST] and [bold] stay what they are
    return " ".join(reversed(words))
```

| call | copies | works on |
|---|---|---|
| `reversed(x)` | no | any sequence |
| `x[::-1]` | yes | lists, strings |
"""
SCENES = {
    "chat": (
        (),
        (
            "Hello, who are you?",
            "/translate fr Good morning",
            "/extract name, company -- My name is Suvojit Hore, working in company AB",
            "/context",
            "/stats",
        ),
    ),
    "markdown": (("--engine", "scripted"), ("How do I reverse a list?",)),
}


class Tmux:
    """One terminal of a given width."""

    def __init__(self, home: Path, width: int, background: str, command: list[str]) -> None:
        self.socket = f"edgellm-pictures-{os.getpid()}"
        script = home / "script.json"
        script.write_text(json.dumps({"otherwise": ANSWER}))
        folders = {name: str(home / name.lower()) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
        env = {
            **os.environ,
            **folders,
            "EDGELLM_SCRIPT": str(script),
            "TERM": "xterm-256color",
            "COLORFGBG": background,
        }
        line = " ".join(f"'{one}'" for one in command)
        size = ("-x", str(width), "-y", "60")
        subprocess.run(
            ["tmux", "-L", self.socket, "-f", os.devnull, "new-session", "-d", *size, line], env=env, check=True
        )

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", "-L", self.socket, *arguments], capture_output=True, text=True, check=False)
        return done.stdout

    def screen(self, *, colours: bool = False) -> str:
        """What the terminal shows, without the empty lines at its end."""
        return self._tmux("capture-pane", "-p", *(("-e",) if colours else ())).rstrip()

    def type(self, text: str) -> None:
        """Type a line, and wait until the next prompt stands alone at the end."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")
        time.sleep(0.5)
        self.wait()

    def wait(self) -> None:
        """Wait for a prompt."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            last = self.screen().splitlines()[-1:]
            if last and re.fullmatch(r">( a message, or /help)?", last[0].strip()):
                time.sleep(0.3)
                return
            time.sleep(0.1)
        raise SystemExit(f"no prompt came:\n{self.screen()}")


def main() -> None:
    """Play every scene at every width, and draw it in every theme."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    for scene, width, theme in itertools.product(SCENES, WIDTHS, THEMES):
        path = folder / f"{scene}-{width}-{theme}.svg"
        path.write_text(drawn(scene, width, theme), encoding="utf-8")
        print(path)


def drawn(scene: str, width: int, theme: str) -> str:
    """Play one scene, and return its picture."""
    (options, lines), (colours, background) = SCENES[scene], THEMES[theme]
    command = [sys.executable, "-m", "edgellm", "chat", "-m", "demo", *options]
    with tempfile.TemporaryDirectory() as home, Tmux(Path(home), width, background, command) as terminal:
        terminal.wait()
        time.sleep(2)  # the model introduces itself above the prompt
        for line in lines:
            terminal.type(line)
        shown = terminal.screen(colours=True)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown))
    svg = console.export_svg(title="edgellm chat", theme=colours, unique_id="edgellm")
    # The fonts would come from somebody's server; any fixed-width one will do.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    main()

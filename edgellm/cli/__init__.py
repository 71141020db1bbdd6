"""The roof: `edgellm VERB`. Argument parsing, one sentence per error, exit codes; the work is done below.

Exit codes: 0 ok, 1 error, 2 usage, 3 partial batch, 130 interrupted. Answers go to stdout, everything else to stderr.
Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from edgellm.errors import EdgeError, UsageError

VERBS = {
    "demo": "tasks",
    "chat": "chat",
    "run": "run",
    "translate": "texts",
    "summarize": "texts",
    "extract": "tasks",
    "batch": "batch",
    "eval": "eval",
    "bench": "bench",
    "finetune": "finetune",
    "compare": "compare",
    "models": "models",
    "show": "models",
    "pull": "models",
    "verify": "models",
    "rm": "models",
    "plan": "models",
    "adapter": "adapter",
    "quantize": "quantize",
    "doctor": "models",
    "tune": "tuning",
}
"""Every verb, and the file of this folder that it lives in."""


_CLOSED = "the output was closed before everything was written."


class _Verbs(click.Group):
    """The group of all verbs, each imported when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in VERBS:
            return None
        module = importlib.import_module(f"edgellm.cli.{VERBS[name]}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            cure = f"Did you mean `edgellm {near[0]}`?" if near else f"Verbs: {', '.join(VERBS)}."
            raise click.UsageError(f"there is no verb {args[0]!r}. {cure}", ctx)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            said = metadata.version("edgellm")
        except metadata.PackageNotFoundError:
            said = "not installed: run from its folder"
        click.echo(f"edgellm, version {said}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def edgellm() -> None:
    """Run language models on this machine: translate, summarize, extract JSON, chat.

    Without -m the model is $EDGELLM_MODEL, else the best installed one, else `demo`, a tiny model that ships with
    edgellm for trying things out. Nothing is downloaded unless you name it.
    """


def main() -> None:
    """Run the command line; never returns."""
    code = _run()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        code = code or _complain(_CLOSED)
    except (OSError, ValueError) as error:
        code = code or _complain(f"{error}.")
    # The interpreter would flush again on its way out, and complain again about a pipe that is closed.
    if code and sys.stdout is not None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
    sys.exit(code)


def _run() -> int:
    if sys.stdout is None:
        return _complain("there is no standard output to write the answer to.")
    # A terminal that cannot show a character shows its code instead of failing.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return edgellm.main(standalone_mode=False) or 0
    except click.exceptions.Abort:
        return _complain("interrupted.", 130)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return _complain("interrupted.", 130)
    except EdgeError as error:
        return _complain(str(error), 2 if isinstance(error, UsageError) else 1)
    except (BrokenPipeError, SystemExit):  # click turns a broken pipe into an exit
        return _complain(_CLOSED)
    except OSError as error:
        return _complain(f"{error}.")


def _complain(sentence: str, code: int = 1) -> int:
    from edgellm.text import plain

    click.echo(f"edgellm: {plain(sentence)}", err=True)
    return code

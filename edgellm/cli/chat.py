"""`edgellm chat`: a conversation on the terminal, or line by line through a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgellm.cli.options import announce, layers, model_options, sampling_options
from edgellm.sampling import Sampling

if TYPE_CHECKING:
    from edgellm.model import Model
    from edgellm.repl.loading import Progress


@click.command()
@click.option("-s", "--system", help="A system prompt.")
@click.option("--resume", is_flag=False, flag_value="", metavar="[NAME]", help="Go on with a saved conversation.")
@click.option("--safe", is_flag=True, help="Put a safety prompt before the system prompt.")
@click.option("--plain", is_flag=True, help="Show answers as they are, not as Markdown.")
@click.option("--no-history", is_flag=True, help="Write nothing to disk.")
@sampling_options(Sampling())
@model_options
def chat(
    model: str | None,
    system: str | None,
    resume: str | None,
    safe: bool,
    plain: bool,
    no_history: bool,
    sampling: Sampling,
    gpu_layers: str,
    **load: Any,
) -> None:
    """Chat with a model. Type /help inside; piped in, every line is a message.

    Conversations are saved as they happen, and resumed with --resume. Inside, /translate, /summarize and /extract work
    on the last answer or on a file that was read.
    """
    from edgellm.repl import Wishes, run

    wanted = layers(gpu_layers)
    found = announce(model, offline=load["offline"]) if model else None

    def opener(name: str | None, progress: Progress) -> Model:
        from edgellm.loading import load as load_model

        here = found if name == model else announce(name, offline=load["offline"]) if name else None
        return load_model(here or name, gpu_layers=wanted, slots=2, progress=progress, **load)

    wishes = Wishes(
        model=model, system=system, resume=resume, safe=safe, plain=plain, history=not no_history, sampling=sampling
    )
    click.get_current_context().exit(run(opener, wishes))

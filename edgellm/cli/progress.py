"""Progress, drawn on stderr with rich: bytes of a download, one line per file; parts of a long text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a progress callback `(file, done_bytes, total_bytes)`; nothing is drawn until it is called."""
    drawn: list[Any] = []
    tasks: dict[str, Any] = {}

    def progress(file: str, done_bytes: int, total_bytes: int) -> None:
        if not drawn:
            drawn.append(_start())
        if file not in tasks:
            tasks[file] = drawn[0].add_task(file, total=total_bytes)
        drawn[0].update(tasks[file], completed=done_bytes)

    try:
        yield progress
    finally:
        for one in drawn:
            one.stop()


def _start() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    drawing = Progress(*columns, console=Console(stderr=True))
    drawing.start()
    return drawing


@contextmanager
def parts() -> Iterator[Callable[[int, int], None]]:
    """Yield a progress callback `(done, total)`; drawn on a terminal alone, and gone at the end."""
    drawn: list[Any] = []

    def progress(done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if not drawn:
            drawn.append(_start_parts(total))
        drawn[0].update(drawn[0].task_ids[0], completed=done, total=total)

    try:
        yield progress
    finally:
        for one in drawn:
            one.stop()


def _start_parts(total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("parts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    drawing = Progress(*columns, console=Console(stderr=True), transient=True)
    drawing.add_task("parts", total=total)
    drawing.start()
    return drawing

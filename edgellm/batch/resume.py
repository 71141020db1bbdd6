"""What an earlier run left to do: the input walked along the ledger, so that every row is met once and none is lost.

In order, the ledger is a beginning of the input, and the two are compared row by row. As they finish, the ledger has gaps:
the rows that were running when the run ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from edgellm.batch.writing import Entry
from edgellm.errors import ResumeRefused
from edgellm.rows.ids import Marks, mark
from edgellm.rows.row import Row

# A run leaves as many gaps as it had rows running. With more than this, it was another input.
_GAPS = 4096
_CURE = "Give the input that it was begun with, or another output."


class Resume:
    """The rows of an input against the entries of a ledger. Exhaust `again` before `rest`; each is read once."""

    def __init__(self, rows: Iterable[Row], entries: Iterable[Entry], *, ordered: bool, retry: bool) -> None:
        self.done = 0  # rows that the ledger has
        self.failed = 0  # of these, those that failed and are not tried again
        self._rows, self._entries = iter(rows), entries
        self._ordered, self._retry = ordered, retry
        self._gaps: list[Row] = []

    def again(self) -> Iterator[Row]:
        """Failed rows that are to be tried again. Raises ResumeRefused where the input is not the one of the ledger."""
        return self._in_order() if self._ordered else self._in_any_order()

    def rest(self) -> Iterator[Row]:
        """Rows that nobody has finished."""
        return chain(self._gaps, self._rows)

    def _in_order(self) -> Iterator[Row]:
        for number, entry in enumerate(self._entries, 1):
            row = next(self._rows, None)
            if row is None:
                raise ResumeRefused(
                    f"the output has more rows than the input, which ends after {number - 1:,}: it is another input. {_CURE}"
                )
            if row.id != entry.id:
                raise ResumeRefused(
                    f"row {number:,} of the output has the id {entry.id!r}, and row {number:,} of the input {row.id!r}: "
                    f"the input was changed. {_CURE}"
                )
            yield from self._met(row, entry.failed)

    def _in_any_order(self) -> Iterator[Row]:
        done, failed = Marks(), Marks()
        for entry in self._entries:
            done.add(mark(entry.id))
            if entry.failed:
                failed.add(mark(entry.id))
        while self.done < len(done):
            row = next(self._rows, None)
            if row is None or len(self._gaps) > _GAPS:
                missing = len(done) - self.done
                raise ResumeRefused(f"{missing:,} rows of the output are not in the input: it was changed. {_CURE}")
            if mark(row.id) in done:
                yield from self._met(row, mark(row.id) in failed)
            else:
                self._gaps.append(row)

    def _met(self, row: Row, failed: bool) -> Iterator[Row]:
        self.done += 1
        if failed and self._retry:
            yield row
        else:
            self.failed += failed

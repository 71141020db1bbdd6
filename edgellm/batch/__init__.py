"""Thousands of rows from file to file, which can be killed at any moment and goes on where it was.

The output file is the ledger. Rows may be computed twice when a run is killed, and are recorded once. What is done with a
row is `rows`' work.
"""

from __future__ import annotations

from edgellm.batch.files import Batch, Options

__all__ = ["Batch", "Options"]

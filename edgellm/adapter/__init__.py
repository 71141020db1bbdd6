"""Adapters (LoRA): converting what PEFT trained into a GGUF file, and judging such files against the base they run on.

It needs no torch. The base stays as it is: nothing is merged, and nothing is quantized again.
"""

from edgellm.adapter.choice import NONE, Choice, Given, choose, resolve, split
from edgellm.adapter.conversion import convert
from edgellm.adapter.file import Adapter, check, read, weighed

__all__ = ["NONE", "Adapter", "Choice", "Given", "check", "choose", "convert", "read", "resolve", "split", "weighed"]

"""`python -m edgellm.demo.train`: from a seed to `demo.gguf`, in one command that may be stopped and run again."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from edgellm import demo
from edgellm.demo.train.tokenizer import Tokenizer, build

PIECES = Path(__file__).with_name("pieces.json")


def _mix(said: str) -> tuple[tuple[str, int], ...]:
    """Read `extract=64,copy=12`."""
    return tuple(
        (name.strip(), int(share)) for name, _, share in (one.partition("=") for one in said.split(",") if one)
    )


def main() -> int:
    """Train, export, and print where the file is and what its hash is."""
    parser = argparse.ArgumentParser(prog="python -m edgellm.demo.train", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo-training"), help="where checkpoints go")
    parser.add_argument("--output", type=Path, default=demo.path(), help="where the quantized file goes")
    parser.add_argument("--minutes", type=float, default=90.0, help="how long to train")
    parser.add_argument("--decay", type=float, default=0.4, help="share of the time in which the rate falls to zero")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate before it falls")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=3072, help="tokens of a micro-batch; two make a step")
    parser.add_argument(
        "--start",
        type=Path,
        help="a checkpoint or an exported .gguf to go on from (default: the folder's last, if any)",
    )
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--mix", default="", help="other shares of tasks, such as extract=64,copy=12,chat=4")
    parser.add_argument("--export-only", action="store_true", help="write the file from the checkpoint and stop")
    parser.add_argument("--new-pieces", action="store_true", help="make the vocabulary anew from generated text")
    options = parser.parse_args()

    import torch

    from edgellm.demo.train.export import export
    from edgellm.demo.train.model import Shape
    from edgellm.demo.train.train import Plan, train

    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.new_pieces:
        build(options.seed).save(PIECES)
    tokenizer = Tokenizer.load(PIECES)
    last = options.folder / "last.pt"
    start = options.start or (last if last.exists() else None)
    if start and not start.exists():
        parser.error(f"there is no {start} to go on from.")
    if start and start.suffix == ".gguf" and options.export_only:
        parser.error(f"{start} is exported already.")
    if not options.export_only:
        plan = Plan(
            seed=options.seed,
            minutes=options.minutes,
            decay=options.decay,
            rate=options.rate,
            tokens=options.tokens,
            mix=_mix(options.mix),
        )
        try:
            start = train(options.folder, tokenizer, Shape(len(tokenizer), layers=options.layers), plan, start=start)
        except ValueError as error:  # a file of more layers than were asked for
            parser.error(str(error))
    if start is None:
        parser.error(f"there is no checkpoint in {options.folder} to export.")
    export(start, tokenizer, options.output)
    print(f"{options.output} {options.output.stat().st_size:,} bytes")
    print(f"sha256 {hashlib.sha256(options.output.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

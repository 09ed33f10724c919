"""Makes the demo model with one command: `python -m demo_model [--out FILE]`, run from the folder above this one."""

from __future__ import annotations

import argparse
from pathlib import Path

from .export import export
from .train import Plan, train

_OUT = Path(__file__).resolve().parents[2] / "llorch" / "assets" / "haiku.gguf"


def main() -> None:
    """Train the model and write it as a GGUF file."""
    parser = argparse.ArgumentParser(prog="demo_model", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=_OUT, help="the GGUF file to write")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="training steps; fewer for a trial")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, default=Plan.threads)
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16 (faster where the CPU has it)")
    parser.add_argument("--compile", action="store_true", help="compile the layers (needs a C++ compiler)")
    args = parser.parse_args()
    plan = Plan(
        seed=args.seed,
        steps=args.steps,
        threads=args.threads,
        bfloat16=args.bfloat16,
        compiled=args.compile,
    )
    tokenizer, model = train(plan)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    export(tokenizer, model, args.out)
    print(f"{args.out.name}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

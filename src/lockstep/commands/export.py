"""`lockstep export`: the model of a run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lockstep.config import nearest, take_option
from lockstep.errors import EXIT_FAILED, EXIT_USAGE, counted, refuse
from lockstep.launch import read_launch
from lockstep.runs import check_writable, run_settings

if TYPE_CHECKING:
    from lockstep.inference import Exported

HELP = """usage: lockstep export RUN [--format onnx,pt2,huggingface] [--output DIR] [OPTIONS]

Export the model of RUN: a run folder (its newest checkpoint), RUN:best, RUN:ema or RUN:best-ema, or one
checkpoint of a run. Without --format, in all formats:
  onnx         model.onnx, for onnxruntime; needs pip install lockstep-trainer[export]
  pt2          model.pt2, for torch.export.load
  huggingface  huggingface/ with model.safetensors, config.json and a model card
They go to RUN/export/last (best, …), or to DIR. Each is checked before it gets its name: what it is for loads
it and scores the test set, and the predictions must be the same. Batches may have any size. OPTIONS are those
of `lockstep train`; the most useful is --data.root.
"""
FORMATS = ("onnx", "pt2", "huggingface")


def export(argv: list[str]) -> int:
    """Exports a model, says what became of each format, and returns the exit code.

    Raises:
        ConfigError: RUN is not a run with a checkpoint, an option is wrong, or a package is missing.
    """
    if not argv or argv[0].startswith("-"):
        print(HELP, end="")
        return 0 if {"-h", "--help"} & set(argv) else EXIT_USAGE
    stated, words = take_option(argv, "--format")
    output, words = take_option(words, "--output")
    formats = stated.split(",") if stated else list(FORMATS)
    for name in formats:
        if name not in FORMATS:
            near = nearest(name, FORMATS)
            hint = f"; perhaps you meant {near}" if near else ""
            raise refuse("--format", name, f"must be one or more of {','.join(FORMATS)}{hint}")
    from lockstep.runs.checkpoints.weights import run_of  # imports torch, which is slow

    run = run_of(words[0])
    place = ("--output", output) if output else ("RUN", str(run))
    check_writable(Path(output) if output else run, *place, "give another folder with --output")
    config = run_settings(run, words[1:])
    from lockstep.inference import export as export_model

    target = Path(output) if output else None
    is_fine = export_model(words[0], config, read_launch(), formats, target, tell)
    return 0 if is_fine else EXIT_FAILED


def tell(exported: Exported) -> None:
    """Says what became of one format."""
    if exported.failure:
        print(f"lockstep: not exported as {exported.name}: {exported.failure}; nothing was published")
        return
    assert exported.comparison is not None
    samples = counted(exported.comparison.num_samples, "sample", ",")
    equal = "the same predictions, " if exported.is_classification else ""
    difference = f"outputs that differ by at most {exported.comparison.difference:.2g}"
    print(f"lockstep: wrote {exported.path}: for {samples} {equal}{difference}")

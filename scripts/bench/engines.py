"""Steps as CUDA graphs against the same steps launched kernel by kernel, by recipe and precision.

The digests of the weights after all of them are compared too: the engine must not change a bit.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from harness import Bench, main, seconds_of, side_by_side
from lockstep.config import AugmentConfig, BatchConfig, Config, ModelConfig
from lockstep.engine import take_step
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from results import Row, median_row, ratio

SHIFTED = AugmentConfig(shift_pixels=2, rotate_degrees=5)


def cases(default: Config) -> dict[str, Config]:
    """What is measured, by name."""
    one_pass = replace(default, batch=BatchConfig(global_size=256, micro_size=256))
    strided = replace(one_pass, model=ModelConfig(name="cnn-strided"))
    return {
        "cnn, 8 x 32": default,
        "cnn, 8 x 32, dropout": replace(default, model=ModelConfig(dropout=0.25)),
        "cnn, 1 x 256": one_pass,
        "cnn, 1 x 256, augmented": replace(one_pass, augment=SHIFTED),
        "cnn, 1 x 256, bf16": replace(one_pass, precision="bf16"),
        "cnn, 1 x 256, fp16": replace(one_pass, precision="fp16"),
        "cnn-strided, 1 x 256": strided,
        "cnn-strided, 1 x 256, bf16": replace(strided, precision="bf16"),
        "cnn-gru, 1 x 256": replace(one_pass, model=ModelConfig(name="cnn-gru")),
        "rnn, 1 x 64": replace(
            default, model=ModelConfig(name="rnn"), batch=BatchConfig(global_size=64, micro_size=64)
        ),
        "mlp, 1 x 256": replace(one_pass, model=ModelConfig(name="mlp")),
    }


def measure(bench: Bench) -> list[Row]:
    """For each case the time of an eager and of a captured step, and their ratio.

    Raises:
        SystemExit: there is no CUDA device.
    """
    if bench.ranks.device.type != "cuda":
        raise SystemExit("engines.py needs a CUDA device: on a CPU there is only the eager engine")
    rows = []
    for name, config in cases(bench.config()).items():
        with bench.in_precision(config.precision) as in_precision:
            rows += compare(in_precision, name, config)
    return rows


def compare(bench: Bench, name: str, config: Config) -> list[Row]:
    """The rows of one case.

    Raises:
        SystemExit: the engines do not give the same weights.
    """
    runs = {engine: bench.run(replace(config, engine=engine)) for engine in ("eager", "captured")}
    repeats = bench.count(20)
    blocks = {engine: partial(seconds_of, partial(take_step, run), repeats) for engine, run in runs.items()}
    times = side_by_side(blocks, bench.count(10), num_warm_ups=2)
    if len({weights_sha256(run.model.state_dict()) for run in runs.values()}) > 1:
        raise SystemExit(f"{name}: the engines give other weights")
    milliseconds = {engine: [1e3 * each / repeats for each in seconds] for engine, seconds in times.items()}
    return [
        *(median_row(f"{name}: {engine} step", values, "ms") for engine, values in milliseconds.items()),
        ratio(f"{name}: captured / eager", times["captured"], times["eager"]),
    ]


if __name__ == "__main__":
    main(measure)

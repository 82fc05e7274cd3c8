"""The scores of a finished run: of its last weights and of the best ones, on the test set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lockstep.engine import Run, ScoredSet, score, score_both
from lockstep.report import say
from lockstep.runs import CHECKPOINTS_FOLDER
from lockstep.runs.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint, load_checkpoint
from lockstep.runs.checkpoints.checkpoint_folder import best_checkpoint
from lockstep.runs.checkpoints.weights import BEST, BEST_EMA, EMA, LAST
from lockstep.runs.saved_evaluations import write_evaluation
from lockstep.task import Evaluation
from lockstep.trainer.evaluate_checkpoint import summary_of

VALIDATED = ("validation_", "ema_validation_")
"""Begin the names of the scores on the validation set in a checkpoint's `info`."""


def final_results(run: Run) -> dict[str, Any]:
    """The scores as JSON values, and evaluations of the test set in the run folder. All ranks must call it.

    Without a validation set there are no best weights, and the last evaluation of the run is the result.
    """
    results: dict[str, Any] = {}
    if run.scored is not None and (run.evaluation is None or run.evaluation.step != run.step):
        run.evaluation, run.ema_evaluation = (*score_both(run, run.scored), None)[:2]
    best = best_of(run)
    if run.test is not None:
        results |= test_results(run, run.test, best)
    if run.validation is not None:
        for evaluation in newest_evaluations(run):
            results |= {**evaluation.record(), "validation_samples": evaluation.num_samples}
    if best is not None:
        values = {name: value for name, value in best.info.items() if name.startswith(VALIDATED)}
        results |= {"best_step": best.step} | {f"best_{name}": value for name, value in values.items()}
    return results


def best_of(run: Run) -> Checkpoint | None:
    """The best checkpoint by the validation set, on every rank; None if there is none, or it is damaged."""

    def read() -> Checkpoint | None:
        path = best_checkpoint(run.folder / CHECKPOINTS_FOLDER)
        try:
            return None if path is None else load_checkpoint(path)
        except DamagedCheckpoint as damage:
            say(f"warning: the best weights are not scored: {damage}")
            return None

    return None if run.validation is None else run.ranks.on_main(read)


def test_results(run: Run, test: ScoredSet, best: Checkpoint | None) -> dict[str, Any]:
    """The scores of the last and the best weights, and of the moving average of each, all computed once."""
    last = score_both(run, test) if run.validation is not None else newest_evaluations(run)
    evaluations = dict(zip((LAST, EMA), last, strict=False))
    if best is not None and best.step == run.step:
        evaluations |= dict(zip((BEST, BEST_EMA), last, strict=False))
    elif best is not None:
        for name, weights in ((BEST, best.weights), (BEST_EMA, best.ema)):
            if weights is not None:
                with other_weights(run.model, weights):
                    scores = score(run, test, is_average=name == BEST_EMA)
                evaluations[name] = replace(scores, step=best.step)
    run.ranks.on_main(lambda: write_all(run, test, evaluations))
    results = summary_of(run.task, evaluations[LAST])
    for name, scores in evaluations.items():
        prefix = "best_" if name in (BEST, BEST_EMA) else ""
        results |= {prefix + key: value for key, value in scores.record().items()}
    return results


def newest_evaluations(run: Run) -> list[Evaluation]:
    """The newest ones: of the weights, and of their moving average if there is one."""
    return [each for each in (run.evaluation, run.ema_evaluation) if each is not None]


def write_all(run: Run, test: ScoredSet, evaluations: dict[str, Evaluation]) -> None:
    """Saves evaluations by the names of their weights."""
    for name, scores in evaluations.items():
        write_evaluation(run.folder, [name], scores, test.samples)


@contextmanager
def other_weights(model: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Gives a model other weights until the block ends."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)

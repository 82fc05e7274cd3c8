"""Evaluations as W&B tables."""

import wandb

from lockstep.runs import write_task_facts
from lockstep.runs.saved_evaluations import to_npz
from lockstep.tracking.upload.evaluation_tables import evaluation_tables
from run_folders import DIGITS, make_evaluation


def test_each_saved_evaluation_has_two_tables(tmp_path):
    assert evaluation_tables(wandb, tmp_path) == {}
    write_task_facts(tmp_path, DIGITS)
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "validation-best.npz").write_bytes(to_npz(make_evaluation(5, "validation")))
    tables = evaluation_tables(wandb, tmp_path)
    assert list(tables) == ["validation_best_confusion", "validation_best_mistakes"]
    confusion = tables["validation_best_confusion"]
    assert confusion.columns == ["label", *(f"predicted {label}" for label in range(10))]
    assert confusion.data[7] == ["7", 0, 1, *[0] * 8]
    ((image, *facts),) = tables["validation_best_mistakes"].data
    assert image.image.size == (28, 28)
    assert facts == ["7", "1", make_evaluation(5).scores.columns["confidence"][2].item(), 2]

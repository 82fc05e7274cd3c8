"""What a replay writes of a step."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from lockstep.config import BatchConfig
from lockstep.errors import ConfigError
from lockstep.inspect.replay_details import (
    MAX_PICTURES,
    check_can_write_step,
    take_detailed_step,
    write_step,
)
from runs import small_config, small_run


def test_a_contact_sheet_of_a_large_batch_is_capped(tmp_path):
    run, _ = small_run(small_config(tmp_path, batch=BatchConfig(global_size=512, micro_size=128)))
    details, _ = take_detailed_step(run)
    json_file, sheet_file = write_step(tmp_path / "run", tmp_path / "mine", run, details)
    assert len(json.loads(json_file.read_text())["ids"]) == 512
    assert sheet_file == tmp_path / "mine" / "contact-sheet.png"
    side = math.isqrt(MAX_PICTURES)
    with Image.open(sheet_file) as sheet:
        assert sheet.width < (side + 1) * (112 + 32)
        assert sheet.height < (side + 1) * (112 + 64)
    assert not (tmp_path / "run").exists()


def test_losses_that_are_not_finite_are_null(tmp_path):
    run, _ = small_run(small_config(tmp_path))
    run.task = replace(run.task, loss=lambda logits, labels: logits.sum(dim=1) * torch.inf)
    details, _ = take_detailed_step(run)
    written = write_step(tmp_path, None, run, details)
    assert written[0] == tmp_path / "replay" / "step-00000001" / "step.json"
    text = written[0].read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    assert json.loads(text)["losses"] == [None] * 64


def test_where_nothing_can_be_written_is_known_before_the_replay(tmp_path):
    (tmp_path / "replay").touch()  # root may write anywhere, but not into a file
    with pytest.raises(ConfigError, match=r"RUN = .*replay' cannot be written; give another .* --output"):
        check_can_write_step(tmp_path, None)
    with pytest.raises(ConfigError, match=r"--output = .*replay' cannot be written; give another"):
        check_can_write_step(tmp_path, tmp_path / "replay" / "mine")
    check_can_write_step(tmp_path, tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()

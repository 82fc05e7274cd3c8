import json

import pytest

from lockstep.errors import ConfigError
from lockstep.metrics import MetricsFile, read_metrics
from lockstep.tracking import has_key, wandb_mode


def test_records_after_the_step_of_a_resume_are_cut_off(tmp_path):
    file = MetricsFile(tmp_path, resume_step=0)
    for step in (1, 2, 3):
        file.log({"step": step, "loss": step / 10})
    file.close("failed")
    with (tmp_path / "metrics.jsonl").open("a") as raw:
        raw.write('{"step": 4, "lo')  # a kill in the middle of a line
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]

    file = MetricsFile(tmp_path, resume_step=2)
    file.log({"step": 3, "loss": 9})
    file.close("finished")
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.1, 0.2, 9]


def test_mode_follows_the_key(monkeypatch, tmp_path):
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("disabled") == "disabled"
    with pytest.raises(ConfigError, match=r"tracking\.mode = 'online': no W&B key"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode("auto") == wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode("auto") == "disabled"
    assert wandb_mode("offline") == "offline"


def test_a_key_in_the_netrc_file_is_found(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine wandb.example login user password " + "k" * 40 + "\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert has_key()

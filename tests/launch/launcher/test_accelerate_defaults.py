"""Where accelerate's values come from."""

import pytest

from lockstep.errors import RankError
from lockstep.launch import as_in_default_config, read_launch


@pytest.fixture
def environ(tmp_path):
    file = tmp_path / "accelerate" / "default_config.yaml"
    file.parent.mkdir()
    file.write_text("mixed_precision: bf16\nnum_processes: 2\ndynamo_config: {dynamo_backend: INDUCTOR}\n")
    return {"HF_HOME": str(tmp_path), "ACCELERATE_MIXED_PRECISION": "bf16"}


def test_a_value_that_the_file_states_names_it(environ, tmp_path):
    words = f" (as in {tmp_path}/accelerate/default_config.yaml)"
    for name, value in (("mixed_precision", "bf16"), ("num_processes", 2), ("dynamo_backend", "inductor")):
        assert as_in_default_config(name, value, environ) == words
    with pytest.raises(RankError, match=r"--dynamo_backend = 'INDUCTOR' \(as in .*default_config\.yaml\)"):
        read_launch({**environ, "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"})


def test_other_values_other_launchers_and_a_file_that_is_none_name_nothing(environ, tmp_path):
    assert as_in_default_config("mixed_precision", "fp16", environ) == ""
    assert as_in_default_config("mixed_precision", "bf16", {"HF_HOME": str(tmp_path)}) == ""
    for text in ("{{", "- 1\n", ""):
        (tmp_path / "accelerate" / "default_config.yaml").write_text(text)
        assert as_in_default_config("mixed_precision", "bf16", environ) == ""

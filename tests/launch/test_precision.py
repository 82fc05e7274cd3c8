import pytest

from lockstep.config import Config
from lockstep.errors import ConfigError, RankError
from lockstep.launch import read_launch
from lockstep.launch.precision import check_precision, resolve_precision


def test_precision_comes_from_the_settings_or_the_launcher():
    has_bf16 = read_launch({"ACCELERATE_MIXED_PRECISION": "bf16"})
    assert resolve_precision(Config(), read_launch({})).precision == "no"
    assert resolve_precision(Config(), has_bf16).precision == "bf16"
    assert resolve_precision(Config(precision="bf16"), read_launch({})).precision == "bf16"
    with pytest.raises(ConfigError, match=r"precision = 'fp16': the launcher has --mixed_precision bf16"):
        resolve_precision(Config(precision="fp16"), has_bf16)
    with pytest.raises(ConfigError, match=r"--mixed_precision = 'fp8': must be no, bf16 or fp16"):
        resolve_precision(Config(), read_launch({"ACCELERATE_MIXED_PRECISION": "fp8"}))


def test_fp16_needs_cuda():
    check_precision("bf16", "cpu")
    with pytest.raises(RankError, match=r"precision = 'fp16': needs a CUDA device, but this process has cpu"):
        check_precision("fp16", "cpu")

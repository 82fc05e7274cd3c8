"""The settings of a run: one tree of dataclasses, read from flags and YAML."""

from lockstep.config.choices import nearest
from lockstep.config.file_retries import (
    PASSING,
    NoFile,
    error_text,
    is_file,
    is_folder,
    read_file,
    unreadable,
    with_retries,
)
from lockstep.config.parsing.arguments import parse, parse_config, take_count, take_option
from lockstep.config.parsing.serialization import as_dict, leaves, plain_values, to_yaml
from lockstep.config.parsing.yaml_file import yaml_flags
from lockstep.config.settings.data import DIGIT_SETS, FOLDER, GENERATED_DATA, SPLIT, DataConfig
from lockstep.config.settings.digits import IMAGE_SIZE, NUM_CLASSES
from lockstep.config.settings.optimizer import OPTIMIZER_SETTINGS, TORCH_OPTIMIZERS, OptimizerConfig
from lockstep.config.settings.recipe import (
    AugmentConfig,
    BatchConfig,
    LossConfig,
    ModelConfig,
    ScheduleConfig,
)
from lockstep.config.settings.settings import (
    Config,
    ReductionName,
    RunConfig,
    TaskConfig,
    TrackingConfig,
    TrainConfig,
)
from lockstep.config.users_code.references import argument_names, check_arguments, import_reference
from lockstep.config.users_code.run_folders import close_to_imports, enclosing_run_folder, leave_run_folders
from lockstep.config.users_code.source_files import (
    PROGRAM,
    imported_digests,
    is_installed,
    module_digests,
    source_digests,
    source_file,
    users_modules,
)
from lockstep.config.users_code.stated_code import check_stated_code

__all__ = [
    "DIGIT_SETS",
    "FOLDER",
    "GENERATED_DATA",
    "IMAGE_SIZE",
    "NUM_CLASSES",
    "OPTIMIZER_SETTINGS",
    "PASSING",
    "PROGRAM",
    "SPLIT",
    "TORCH_OPTIMIZERS",
    "AugmentConfig",
    "BatchConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "NoFile",
    "OptimizerConfig",
    "ReductionName",
    "RunConfig",
    "ScheduleConfig",
    "TaskConfig",
    "TrackingConfig",
    "TrainConfig",
    "argument_names",
    "as_dict",
    "check_arguments",
    "check_stated_code",
    "close_to_imports",
    "enclosing_run_folder",
    "error_text",
    "import_reference",
    "imported_digests",
    "is_file",
    "is_folder",
    "is_installed",
    "leave_run_folders",
    "leaves",
    "module_digests",
    "nearest",
    "parse",
    "parse_config",
    "plain_values",
    "read_file",
    "source_digests",
    "source_file",
    "take_count",
    "take_option",
    "to_yaml",
    "unreadable",
    "users_modules",
    "with_retries",
    "yaml_flags",
]

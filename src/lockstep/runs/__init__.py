"""The run folder: its files, checkpoints and evaluations, and whether a start may resume it.

These modules take time to load, so import them by their own names:
checkpoints.checkpoint, checkpoints.checkpoint_folder, checkpoints.weights, folder.folder_lock,
history.environment, resume.resume_from, saved_evaluations.
"""

from lockstep.runs.folder.files import (
    CHECKPOINTS_FOLDER,
    DATASET_FILE,
    METRICS_FILE,
    PROFILE_FOLDER,
    SETTINGS_FILE,
    STARTS_FILE,
    SUMMARY_FILE,
    SYNCED_FILE,
    TASK_FILE,
    WANDB_ENDING_FILE,
    WANDB_ID_FILE,
    check_writable,
    checkpoint_step,
    checkpoints_in,
    newest_checkpoint_step,
    run_folder_of,
    step_name,
    to_json,
    write_atomically,
)
from lockstep.runs.folder.links import check_links
from lockstep.runs.folder.set_aside import set_aside
from lockstep.runs.history.commits import commit_of
from lockstep.runs.history.history import (
    Record,
    check_history,
    mend_history,
    read_facts,
    read_metrics,
    read_settings,
    read_starts,
    read_summary,
    recorded_run,
    resume_steps,
)
from lockstep.runs.history.starts import (
    bit_facts,
    changed_sources,
    environment_at,
    environment_changes,
    record_start,
    recorded_sources,
    recorded_threads,
)
from lockstep.runs.history.task_facts import TaskFacts, read_task_facts, write_task_facts
from lockstep.runs.resume.naming import run_path
from lockstep.runs.resume.resume_rules import (
    changed_settings,
    check_format,
    check_may_resume,
    check_same_run,
    check_same_sources,
    saved_identity,
)
from lockstep.runs.run_settings import TO_SCORE, TO_TRAIN, read_config, run_settings, stated_settings
from lockstep.runs.sinks import MetricsFile, Sink, Status

__all__ = [
    "CHECKPOINTS_FOLDER",
    "DATASET_FILE",
    "METRICS_FILE",
    "PROFILE_FOLDER",
    "SETTINGS_FILE",
    "STARTS_FILE",
    "SUMMARY_FILE",
    "SYNCED_FILE",
    "TASK_FILE",
    "TO_SCORE",
    "TO_TRAIN",
    "WANDB_ENDING_FILE",
    "WANDB_ID_FILE",
    "MetricsFile",
    "Record",
    "Sink",
    "Status",
    "TaskFacts",
    "bit_facts",
    "changed_settings",
    "changed_sources",
    "check_format",
    "check_history",
    "check_links",
    "check_may_resume",
    "check_same_run",
    "check_same_sources",
    "check_writable",
    "checkpoint_step",
    "checkpoints_in",
    "commit_of",
    "environment_at",
    "environment_changes",
    "mend_history",
    "newest_checkpoint_step",
    "read_config",
    "read_facts",
    "read_metrics",
    "read_settings",
    "read_starts",
    "read_summary",
    "read_task_facts",
    "record_start",
    "recorded_run",
    "recorded_sources",
    "recorded_threads",
    "resume_steps",
    "run_folder_of",
    "run_path",
    "run_settings",
    "saved_identity",
    "set_aside",
    "stated_settings",
    "step_name",
    "to_json",
    "write_atomically",
    "write_task_facts",
]

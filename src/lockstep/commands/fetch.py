"""`lockstep fetch`."""

from __future__ import annotations

from lockstep.config import Config
from lockstep.runs import read_config

HELP = """usage: lockstep fetch [OPTIONS]

Fetch and verify the data, so that a machine without internet can train later. OPTIONS are those of
`lockstep train`; the most useful are --data.name and --data.root.
"""


def fetch(argv: list[str]) -> int:
    """Fetches and verifies the data."""
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    settings = read_config(argv)
    if settings.task.name or not settings.data.is_digits:
        return fetch_task(settings)
    config = settings.data
    from lockstep.data import fetch_dataset, load_dataset

    source = fetch_dataset(config)
    dataset = load_dataset(config, seed=0)
    print(
        f"lockstep: {config.name} is complete in {config.root} (from {source}): "
        f"{len(dataset.train)} training and {len(dataset.test)} test images"
    )
    return 0


def fetch_task(config: Config) -> int:
    """Makes the data of a task, or images other than digits, which fetches it; returns the exit code."""
    from lockstep.trainer import find_task, task_samples

    config, task = find_task(config, None)
    train = task_samples(task, "train", config.data, config.seed)
    num_test = 0 if task.test is None else len(task_samples(task, "test", config.data, config.seed))
    name = config.task.name or config.data.name
    print(f"lockstep: {name} has {len(train)} training and {num_test} test samples")
    return 0

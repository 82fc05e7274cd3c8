"""`lockstep fetch`."""

from __future__ import annotations

from lockstep.config import parse_config

HELP = """usage: lockstep fetch [OPTIONS]

Fetch and verify the data, so that a machine without internet can train later. OPTIONS are those of
`lockstep train`; the most useful are --data.name and --data.root.
"""


def fetch(argv: list[str]) -> int:
    """Fetches and verifies the data."""
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return 0
    config = parse_config(argv).data
    from lockstep.data import fetch_dataset, load_dataset

    source = fetch_dataset(config)
    dataset = load_dataset(config, seed=0)
    print(
        f"lockstep: {config.name} is complete in {config.root} (from {source}): "
        f"{len(dataset.train)} training and {len(dataset.test)} test images"
    )
    return 0

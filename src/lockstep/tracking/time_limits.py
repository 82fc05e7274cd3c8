"""How long Lockstep waits for W&B, all in seconds. Training itself never waits: its records are queued."""

from __future__ import annotations

from lockstep.runs import Status

ANSWER_SECONDS = 10
"""For any answer of the server, before wandb is asked to open a run on it."""

INIT_SECONDS = 30
"""For wandb to open the run on a server that answers."""

RETRY_SECONDS = 60
"""From one failed attempt to open the run to the next one."""

LAST_ATTEMPT_SECONDS = 5
"""At the end of a start, for a server that did not answer before."""

CLOSE_SECONDS: dict[Status, float] = {"finished": 60, "interrupted": 10, "failed": 10}
"""At the end of a start, for the uploads to a server that answers. The next start uploads what is left."""

EXIT_SECONDS = 5
"""When the process exits, for wandb to tell the server how a run ended whose uploads have not. With those
above it stays within the 30 s that torchrun and SLURM leave a process after a signal."""

OFFLINE_SYNC_SECONDS = 600
"""For `wandb sync` to upload what the offline starts of one run left."""

SYNC_SECONDS = 1800
"""`lockstep sync` gives each run this much on top of LAST_ATTEMPT_SECONDS and CLOSE_SECONDS."""

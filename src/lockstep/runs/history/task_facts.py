"""task.json in the run folder: how its task is scored, so that reports need no code of it. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lockstep.config import NUM_CLASSES
from lockstep.runs.folder.files import TASK_FILE, to_json, write_atomically
from lockstep.runs.history.history import read_facts


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """How a run's task is scored."""

    name: str = ""
    headline: str = "loss"
    """The loss or metric that says which evaluation, checkpoint or run is better."""
    higher_is_better: bool = False
    classes: tuple[str, ...] = ()
    """The names of the classes, if it is a classification."""
    initial_weights: str = ""
    """The SHA-256 of the weights of a model given as an instance; empty for one that a function makes."""

    def score(self, value: float) -> float:
        """A headline value, negated if lower is better: the higher score is the better one."""
        return value if self.higher_is_better else -value


def write_task_facts(folder: Path, facts: TaskFacts) -> None:
    """Writes task.json."""
    write_atomically(folder / TASK_FILE, to_json(asdict(facts), indent=1) + "\n")


def read_task_facts(folder: Path) -> TaskFacts:
    """How the task of a run is scored. A folder that does not say is of a version that had digits alone."""
    facts = read_facts(folder / TASK_FILE)
    if facts is None:
        digits = tuple(str(digit) for digit in range(NUM_CLASSES))
        return TaskFacts(headline="accuracy", higher_is_better=True, classes=digits)
    known = {field.name: facts[field.name] for field in fields(TaskFacts) if field.name in facts}
    return TaskFacts(**{**known, "classes": tuple(known["classes"])})

"""A folder in the layout of Hugging Face's hub: model.safetensors, config.json and the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml
from torch import nn

from lockstep import __version__
from lockstep.data import ImagePreprocessing
from lockstep.runs import changed_settings, environment_at, to_json
from lockstep.runs.checkpoints.checkpoint import weights_sha256
from lockstep.task import Evaluation, Task

ENVIRONMENT = ("device", "world_size", "num_threads", "versions", "git")
"""What the card says of the machine that the run was on."""
WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the files of the folder say of a model, besides its weights."""

    task: Task
    run: Path
    data: Mapping[str, Any]
    """Name, sizes and digest of the data."""
    step: int
    """Optimizer steps that its weights have taken."""
    which: str
    """Which weights of the run they are: 'last', 'best', 'ema' or 'best-ema'."""
    scores: Evaluation | None
    """On the test set, if there is one."""


def write_hub_folder(model: nn.Module, facts: Facts, folder: Path) -> None:
    """Writes the three files into an empty folder."""
    # Cloned, because tied weights share memory and safetensors refuses that.
    weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    content = safetensors.torch.save(weights, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).write_bytes(content)
    digest = weights_sha256(weights)
    tree = hub_config(model, facts, digest)
    (folder / CONFIG_FILE).write_text(to_json(tree, indent=2) + "\n")
    (folder / CARD_FILE).write_text(model_card(facts, digest))


def hub_config(model: nn.Module, facts: Facts, digest: str) -> dict[str, Any]:
    """What config.json holds."""
    preprocess = facts.task.preprocess
    tree: dict[str, Any] = {
        "architectures": [type(model).__name__],
        "library_name": "lockstep",
        "lockstep_version": __version__,
        "weights_sha256": digest,
        **_labels(facts.task),
    }
    if isinstance(preprocess, ImagePreprocessing):
        tree["preprocessing"] = _preprocessing(preprocess)
    return {**tree, "settings": changed_settings(facts.run)}


def _labels(task: Task) -> dict[str, Any]:
    if not task.classes:
        return {}
    return {
        "num_labels": len(task.classes),
        "id2label": {str(number): name for number, name in enumerate(task.classes)},
        "label2id": {name: number for number, name in enumerate(task.classes)},
    }


def _preprocessing(preprocess: ImagePreprocessing) -> dict[str, Any]:
    """In the words of Hugging Face's image processors."""
    facts = preprocess.facts
    return {
        "num_channels": facts.channels,
        "size": {"shortest_edge": facts.size},
        "crop_size": {"height": facts.size, "width": facts.size},
        "do_center_crop": True,
        "rescale_factor": 1 / 255,
        "image_mean": list(facts.mean),
        "image_std": list(facts.std),
    }


def model_card(facts: Facts, digest: str) -> str:
    """The README: the front matter that the hub reads, and the same for people."""
    environment = environment_at(facts.run, facts.step)
    which = f"the weights {facts.which!r} of the run, after step {facts.step}"
    parts = [
        _front_matter(facts),
        f"# {facts.run.resolve().name}\n",
        f"Trained with Lockstep {__version__}: {which}.\n",
        _section("Scores on the test set", facts.scores.values if facts.scores else {}),
        _section("Data", facts.data),
        _section("Settings that differ from the defaults", changed_settings(facts.run)),
        _section("Environment", {name: environment[name] for name in ENVIRONMENT if name in environment}),
        _section("Digest", {"weights_sha256": digest}),
        USE,
    ]
    return "\n".join(part for part in parts if part)


USE = f"""## Use

`{WEIGHTS_FILE}` is the state dict of the model that the settings in `{CONFIG_FILE}` describe; the others
are at the defaults of that version of Lockstep:

```python
model.load_state_dict(safetensors.torch.load_file("{WEIGHTS_FILE}"))
```
"""


def _front_matter(facts: Facts) -> str:
    kind = "image-classification" if isinstance(facts.task.preprocess, ImagePreprocessing) else "other"
    results = [
        {"type": name, "value": value}
        for name, value in (facts.scores.values if facts.scores else {}).items()
        if value is not None
    ]
    dataset = {"type": facts.task.name, "name": facts.task.name, "split": "test"}
    index = {
        "name": facts.run.resolve().name,
        "results": [{"task": {"type": kind}, "dataset": dataset, "metrics": results}],
    }
    tree: dict[str, Any] = {"library_name": "lockstep", "tags": ["pytorch", "safetensors"]}
    tree |= {"pipeline_tag": kind} if kind != "other" else {}
    tree |= {"model-index": [index]} if results else {}
    return f"---\n{yaml.safe_dump(tree, sort_keys=False)}---\n"


def _section(title: str, values: Mapping[str, Any]) -> str:
    """A heading and a table; empty without values."""
    if not values:
        return ""
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items()]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *rows, ""])


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")

"""Exports the model of a run for other programs; each file is checked before it gets its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from lockstep.config import Config, DataConfig
from lockstep.data import chunks_of, describe_data
from lockstep.engine import evaluate
from lockstep.errors import require
from lockstep.inference.export_check import (
    Comparison,
    ExportFailure,
    Run,
    check_weights,
    compare,
    in_other_process,
    outputs_of,
)
from lockstep.inference.export_formats import check_onnx_packages, write_onnx, write_pt2
from lockstep.inference.hub_folder import WEIGHTS_FILE, Facts, write_hub_folder
from lockstep.inference.predictor import check_same_classes
from lockstep.launch import Launch
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks.ranks import Ranks
from lockstep.runs import DATASET_FILE, SETTINGS_FILE, check_links, read_facts, step_name
from lockstep.runs.checkpoints.weights import Weights, read_weights, split_name
from lockstep.task import Task, evaluating
from lockstep.trainer import (
    ModelSetting,
    find_task,
    model_of,
    model_setting,
    model_with_weights,
    set_weights,
    task_samples,
)

EXPORT_FOLDER = "export"
"""In the run folder."""
FORMATS = {"onnx": "model.onnx", "pt2": "model.pt2", "huggingface": "huggingface"}
"""Format → the file or folder that is published."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What became of one format."""

    name: str
    path: Path
    """Where it is, or would be."""
    comparison: Comparison | None = None
    """With the model, on the test set."""
    is_classification: bool = False
    failure: str = ""
    """Why it was not published; empty if it was."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model of a run with what it is checked on."""

    setting: ModelSetting
    module: nn.Module
    """In evaluation mode, on the CPU."""
    facts: Facts
    batches: Iterable[Any]
    """The inputs of all samples that it is checked on, afresh in each iteration."""

    @property
    def is_classification(self) -> bool:
        """Whether its outputs are logits."""
        return bool(self.facts.task.classes)


def export(
    run: str,
    config: Config,
    launch: Launch,
    formats: Iterable[str],
    target: Path | None,
    tell: Callable[[Exported], None],
) -> bool:
    """Exports the model of a run in several formats, on the CPU in float32; whether all were published.

    Args:
        run: the weights, as `read_weights` takes them.
        config: the settings of the run, with the data to check on.
        launch: what the launcher started: one process.
        formats: some of FORMATS.
        target: the folder to publish into; None: one in the run folder.
        tell: gets what became of each format.

    Raises:
        ConfigError: a setting is wrong, the run has no such weights, or a package is missing.
    """
    rule = "export runs in one process; start it without a launcher"
    require(launch.world_size == 1, "processes", launch.world_size, rule)
    chosen = list(formats)
    if "onnx" in chosen:
        check_onnx_packages()
    with join_ranks(replace(launch, wants_cpu=True), "no") as ranks, ExitStack() as closing:
        weights = read_weights(run)
        model = read_model(config, weights, ranks, closing)
        folder = target or model.facts.run / EXPORT_FOLDER / export_name(run, weights)
        if target is None:
            check_links(model.facts.run)
        exported = []
        for name in chosen:
            exported.append(export_one(name, model, folder))
            tell(exported[-1])
        return not any(each.failure for each in exported)


def export_name(run: str, weights: Weights) -> str:
    """The name of the folder for some weights of a run: 'last', 'best-ema', or 'step-00000012' and so on."""
    path, which = split_name(run)
    if (path / SETTINGS_FILE).exists() or weights.checkpoint is None:
        return which
    return step_name(weights.checkpoint.step) + ("-ema" if which == "ema" else "")


def read_model(config: Config, weights: Weights, ranks: Ranks, closing: ExitStack) -> Model:
    """The model with some weights, its scores, and the samples that it is checked on.

    These are of the test set, or of the training set if there is no other.
    """
    assert weights.run is not None, "a command takes its settings from there"
    assert weights.checkpoint is not None
    config, task = find_task(config, None, weights.run)
    check_same_classes(task, weights.run)
    module = model_with_weights(config, task, ranks, weights.tensors)
    closing.enter_context(evaluating(module))
    samples = task_samples(task, "train" if task.test is None else "test", config.data, config.seed)
    chunks = chunks_of(samples, config.batch.eval_size, 0, 1, closing)
    step = weights.checkpoint.step
    scores = None if task.test is None else evaluate(module, task, chunks, ranks, step=step, seed=config.seed)
    data = data_of(task, config.data, config.seed, weights.run)
    facts = Facts(task=task, run=weights.run, data=data, step=step, which=weights.which, scores=scores)
    setting = model_setting(config, task)
    return Model(setting=setting, module=module, facts=facts, batches=Inputs(chunks.batches))


@dataclass(frozen=True)
class Inputs:
    """The inputs of batches, afresh in each iteration."""

    batches: Iterable[tuple[Any, Any]]

    def __iter__(self) -> Any:
        return (inputs for inputs, _ in self.batches)


def export_one(name: str, model: Model, folder: Path) -> Exported:
    """Writes one format under a name of its own, checks it, and then gives it its name."""
    path = folder / FORMATS[name]
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".partial-{path.name}"  # torch.export wants the suffix
    remove(scratch)
    try:
        comparison = write_and_check(name, model, scratch)
        if comparison.is_equal:
            remove(path)
            os.replace(scratch, path)
            return Exported(
                name=name, path=path, comparison=comparison, is_classification=model.is_classification
            )
        failure = (
            f"it does not compute what the model computes: {comparison.num_different:,} predictions of "
            f"{comparison.num_samples:,} differ, and outputs by up to {comparison.difference:.3g}"
        )
        return Exported(name=name, path=path, comparison=comparison, failure=failure)
    except ExportFailure as error:
        return Exported(name=name, path=path, failure=str(error))
    finally:
        remove(scratch)


def write_and_check(name: str, model: Model, path: Path) -> Comparison:
    """Writes one format, and computes with what will load it.

    Raises:
        ExportFailure: the model cannot be exported, or what loads it fails.
    """
    module, is_classification = model.module, model.is_classification
    example = next(iter(model.batches))
    if name == "huggingface":
        path.mkdir()
        write_hub_folder(module, model.facts, path)
        again = reloaded(model, path)
        with evaluating(again):
            return compare(
                module, partial(outputs_of, again), model.batches, is_classification=is_classification
            )
    if name == "onnx":
        write_onnx(module, example, path, is_classification=is_classification)
    else:
        write_pt2(module, example, path)
    with in_other_process(name, path) as run:
        return compared(model, run)


def compared(model: Model, run: Run) -> Comparison:
    """Compares on all samples, and on one alone: to exporters, a batch of one is a case of its own."""
    example = next(iter(model.batches))
    one = example[:1] if isinstance(example, Tensor) else {name: each[:1] for name, each in example.items()}
    alone = compare(model.module, run, [one], is_classification=model.is_classification)
    if not alone.is_equal:
        raise ExportFailure(f"for a batch of one sample its outputs differ by {alone.difference:.3g}")
    return compare(model.module, run, model.batches, is_classification=model.is_classification)


def reloaded(model: Model, folder: Path) -> nn.Module:
    """The model of a folder in the layout of Hugging Face, rebuilt.

    Raises:
        ExportFailure: a process without Lockstep does not find the weights of the model in the file.
    """
    path = folder / WEIGHTS_FILE
    check_weights(model.module.state_dict(), path)
    made = model_of(model.facts.task)
    set_weights(model.setting, made, safetensors.torch.load_file(path))
    return made


def data_of(task: Task, config: DataConfig, seed: int, run: Path) -> Mapping[str, Any]:
    """Name, sizes and digest of the data of a run: as it began; of digits, whose files are fixed, as now."""
    known = read_facts(run / DATASET_FILE)
    if known is not None:
        return known
    test = None if task.test is None else task_samples(task, "test", config, seed)
    return describe_data(task.name, task_samples(task, "train", config, seed), test)


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

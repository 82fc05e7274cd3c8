"""Parameter groups: which parameters learn, at which rate, and which of them decay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lockstep.config import OptimizerConfig, argument_names, nearest
from lockstep.errors import refuse, require

Group = dict[str, Any]
"""A parameter group of torch.optim, with a `name` and its peak rate as `base_lr` besides torch's entries."""


def groups_by_module(model: nn.Module, config: OptimizerConfig) -> list[Group]:
    """The groups in the config's order. A parameter belongs to the innermost module that is named.

    Raises:
        ConfigError: a group names something that is not a module of the model, or has no parameters.
    """
    rates = config.groups or {"": config.lr}
    names = dict(model.named_modules())
    for module in rates:
        if module not in names:
            valid = ", ".join(name for name in names if name)
            raise refuse("optimizer.groups", module, f"is not a module of this model; it has {valid}")
    members: dict[str, list[nn.Parameter]] = {module: [] for module in rates}
    for name, parameter in model.named_parameters():
        owners = [module for module in rates if not module or name.startswith(f"{module}.")]
        if owners:
            members[max(owners, key=len)].append(parameter)
    for module in rates:
        if not members[module]:
            raise refuse("optimizer.groups", module, "has no parameters of its own; name another module")
    return [
        {"params": members[module], "lr": rate, "base_lr": rate, "name": module or "model"}
        for module, rate in rates.items()
    ]


def groups_of_task(
    model: nn.Module,
    stated: Sequence[Mapping[str, Any]],
    kind: type[torch.optim.Optimizer],
    config: OptimizerConfig,
) -> list[Group]:
    """A task's own groups, as torch.optim takes them: dicts with `params` and arguments of the class.

    `lr` is optimizer.lr if a group has none; `name`, for the records, is 'group0' and so on. Parameters in no
    group are frozen by `build_optimizer`.

    Raises:
        ConfigError: optimizer.groups is set too, or a group has something that the class does not take, no
            parameters, some of another model or of another group, or the name of another group.
    """
    rule = "is set, and the task has parameter groups of its own; leave one out"
    require(not config.groups, "optimizer.groups", config.groups, rule)
    owners: dict[int, str] = {id(parameter): "" for parameter in model.parameters()}
    allowed = argument_names(kind)
    groups: list[Group] = []
    for number, entry in enumerate(stated):
        field = f"the task's parameter group {number}"
        params = entry.get("params", ())
        members = [params] if isinstance(params, torch.Tensor) else list(params)
        group = {"lr": config.lr, "name": f"group{number}", **entry, "params": members}
        require(bool(members), field, members, "has no parameters; give it some as 'params'")
        for parameter in members:
            owner = owners.get(id(parameter))
            shape = list(getattr(parameter, "shape", ()))
            rule = "has a parameter of this shape that is not the model's; take it from model.parameters()"
            require(owner is not None, field, shape, rule)
            rule = f"has a parameter of this shape that is in {owner!r} too; leave it in one group"
            require(not owner, field, shape, rule)
            owners[id(parameter)] = group["name"]
        for name in entry.keys() - {"params", "name"}:
            if allowed is not None and name not in allowed:
                near = nearest(name, allowed)
                hint = f"; perhaps you meant {near!r}" if near else ""
                raise refuse(f"{field}: {name}", entry[name], f"is not an argument of {kind.__name__}{hint}")
        rate = group["lr"]
        require(0 < rate < math.inf, f"{field}: lr", rate, "must be a finite rate > 0")
        is_new = group["name"] not in [each["name"] for each in groups]
        require(is_new, f"{field}: name", group["name"], "is the name of an earlier group; choose another")
        groups.append({**group, "base_lr": rate})
    return groups


def without_decay_of_vectors(groups: list[Group]) -> list[Group]:
    """Splits off what has fewer than two dimensions, biases and normalization weights, without weight decay.

    A group 'NAME' is followed by 'NAME/no_decay'; a group that has only one kind stays one.
    """
    split: list[Group] = []
    for group in groups:
        decayed = [parameter for parameter in group["params"] if parameter.dim() >= 2]
        vectors = [parameter for parameter in group["params"] if parameter.dim() < 2]
        if decayed:
            split.append({**group, "params": decayed})
        if vectors:
            name = f"{group['name']}/no_decay"
            split.append({**group, "params": vectors, "name": name, "weight_decay": 0.0})
    return split

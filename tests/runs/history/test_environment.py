"""What a run records of its environment."""

import json

import numpy
import torch
import yaml

from lockstep.config import Config, ModelConfig
from lockstep.runs.history.environment import cpu_facts, environment, package_versions
from runs import fresh_ranks


def test_the_environment_is_json():
    facts = environment(fresh_ranks())
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["world_size"], facts["device"]) == (1, "cpu")
    assert set(facts["versions"]) == {"lockstep", "python", "torch", "accelerate"}


def test_the_versions_of_packages_count_by_the_names_of_their_distributions():
    found = package_versions(Config(model=ModelConfig(name="yaml.nodes:Node")))
    assert (found["PyYAML"], found["numpy"]) == (yaml.__version__, numpy.__version__)
    assert "PyYAML" not in package_versions(Config())


def test_the_kind_of_cpu_is_known(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    facts = cpu_facts()
    assert facts["model"]
    assert facts["capability"] == torch.backends.cpu.get_cpu_capability()
    assert facts["limits"] == {"ONEDNN_MAX_CPU_ISA": "SSE41"}

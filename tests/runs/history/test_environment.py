"""What a run records of its environment."""

import base64
import hashlib
import json

import numpy
import torch
import yaml

from lockstep.config import Config, ModelConfig
from lockstep.runs import environment_changes
from lockstep.runs.history.environment import cpu_facts, environment, package_digests, package_versions
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


def install(place, source):
    """Installs a package of the same version, as pip leaves it."""
    facts = place / "ours-1.0.dist-info"
    for folder in (place / "ours", facts):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "ours" / "__init__.py").write_text("")
    (place / "ours" / "layers.py").write_text(source)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
    (facts / "top_level.txt").write_text("ours\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(source.encode()).digest()).rstrip(b"=").decode()
    lines = ["ours/__init__.py,,0", f"ours/layers.py,sha256={digest},{len(source)}", "ours/layers.pyc,,"]
    (facts / "RECORD").write_text("\n".join([*lines, "ours-1.0.dist-info/RECORD,,"]) + "\n")


def test_a_package_that_is_installed_again_with_the_same_version_is_told_of(tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    install(place, "width = 1\n")
    monkeypatch.syspath_prepend(place)
    config = Config(model=ModelConfig(name="ours:Net"))
    before = {"packages": package_digests(config), "versions": package_versions(config)}
    assert (before["versions"]["ours"], before["packages"].keys()) == ("1.0", {"ours"})
    assert package_digests(Config()) == {}
    install(place, "width = 2\n")
    after = {"packages": package_digests(config), "versions": package_versions(config)}
    (change,) = environment_changes(before, after)
    assert change.startswith("the code of ours ")
    assert environment_changes({"versions": before["versions"]}, after) == []  # of an older version


def test_the_kind_of_cpu_is_known(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    facts = cpu_facts()
    assert facts["model"]
    assert facts["capability"] == torch.backends.cpu.get_cpu_capability()
    assert facts["limits"] == {"ONEDNN_MAX_CPU_ISA": "SSE41"}

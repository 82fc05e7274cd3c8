import sys

import pytest

from lockstep.config import Config, LossConfig, ModelConfig, check_stated_code, module_digests
from lockstep.errors import ConfigError

SOURCE = """
from os import getcwd
import subprocess
from package import Net as Other
raise RuntimeError("was executed")
class Net:
    def small(self): pass
make = lambda: Net()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "own.py").write_text(SOURCE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from .net import Net, load\n")
    (tmp_path / "package" / "net.py").write_text("from torch.hub import load\nclass Net: pass\n")
    return tmp_path


def check(name, recorded=None, named=(), **options):
    digests = module_digests(name.partition(":")[0]) if recorded is None else recorded
    config = Config(model=ModelConfig(name=name))
    return check_stated_code(config, ["model.name"], named, digests, "runs/x", **options)


@pytest.mark.parametrize("name", ["own:Net", "own:Net.small", "own:make", "package:Net", "own:Other"])
def test_a_module_whose_source_is_as_recorded_may_be_imported(folder, name):
    (line,) = check(name)
    assert line.startswith(f"imports {name.partition(':')[0]} from {folder}/")
    assert line.endswith("for model.name, as runs/x says; its source is unchanged")


@pytest.mark.parametrize("name", ["cnn", "torchvision:resnet18"])
def test_what_is_built_in_needs_no_record(folder, name):
    assert check(name, {}) == []
    config = Config(loss=LossConfig(name="torch.nn:HuberLoss"))
    assert check_stated_code(config, ["loss.name"], (), {}, "runs/x") == []


def test_a_changed_source_is_refused_unless_the_user_names_it(folder):
    digests = module_digests("own")
    (folder / "package" / "net.py").write_text("class Net: pass\n")
    with pytest.raises(ConfigError, match=r"the source of package.net is not what was recorded; if you tru"):
        check("own:Net", digests)
    with pytest.raises(ConfigError, match=r"its source was not recorded; .* name it too: --model.name own:"):
        check("own:Net", {})
    assert check("own:Net", {}, named=["model.name"]) == []


@pytest.mark.parametrize(
    "name",
    ["own:subprocess.getoutput", "own:getcwd", "own:Net.mro", "own:nothing", "package:load", "own:make.x"],
)
def test_a_name_that_the_module_does_not_define_is_refused(folder, name):
    with pytest.raises(ConfigError, match=r"does not define it itself; if you trust it, name it too"):
        check(name)


@pytest.mark.parametrize("name", ["subprocess:getoutput", "torch.hub:load", "lockstep.runs.folder.files:x"])
def test_a_library_is_refused_whatever_was_recorded(folder, name):
    with pytest.raises(ConfigError, match=r"is a library, not code of your own; if you trust it"):
        check(name, {name.partition(":")[0]: "0" * 64})


@pytest.mark.parametrize("name", ["torch.hub:load", "own:getcwd", "builtins:exec"])
def test_what_the_user_has_trained_with_is_imported_if_its_source_is_as_recorded(folder, name):
    module = name.partition(":")[0]
    (line,) = check(name, is_own=True)
    assert line.startswith(f"imports {module} f")
    digests = module_digests(module)
    if digests:
        with pytest.raises(ConfigError, match=f"the source of {module} is not what was recorded"):
            check(name, {**digests, module: "0" * 64}, is_own=True)


@pytest.mark.parametrize("name", ["builtins:exec", "posix:system", "missing:Net", "__main__:Net"])
def test_a_module_without_a_file_is_refused(folder, name):
    with pytest.raises(ConfigError, match=r"no file of a module '\w+' is found from here"):
        check(name, {name.partition(":")[0]: "0" * 64})


def test_a_module_in_a_run_folder_is_refused_even_if_its_source_is_as_recorded(folder):
    run = folder / "trained" / "x"
    run.mkdir(parents=True)
    for name in ("config.yaml", "starts.jsonl", "evil.py"):
        (run / name).touch()
    for named in ((), ("model.name",)):
        with pytest.raises(ConfigError, match=r"lies in the run folder '.*/trained/x', and nothing in one"):
            check("trained.x.evil:Net", named=named)

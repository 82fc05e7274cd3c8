"""The source of a user's code: what is found, without running it."""

import hashlib
import importlib
import sys
from importlib.util import spec_from_file_location

import pytest

from lockstep.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TaskConfig,
    imported_digests,
    module_digests,
    source_digests,
    source_file,
    users_modules,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module, what it imports, a package, and a module that would fail if it ran."""
    files = {
        "net.py": "import numpy\nimport torch\nfrom pkg.inner import layers\nraise SystemExit\n",
        "pkg/__init__.py": "",
        "pkg/inner/__init__.py": "from . import layers\n",
        "pkg/inner/layers.py": "from ..common import X\n",
        "pkg/common.py": "X = 1\n",
        "alone.py": "import net  # 1\n",
        "broken.py": "def (:\n",
        "space/mod.py": "import pkg.common\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_counts_with_those_beside_it_that_it_imports(folder):
    beside = {"pkg", "pkg.common", "pkg.inner", "pkg.inner.layers"}
    assert module_digests("net").keys() == {"net", *beside}
    assert module_digests("net")["net"] == hashlib.sha256((folder / "net.py").read_bytes()).hexdigest()
    assert module_digests("pkg.inner.layers").keys() == beside
    assert module_digests("alone").keys() == {"alone", "net", *beside}
    assert module_digests("space.mod").keys() == {"space.mod", "pkg", "pkg.common"}
    assert module_digests("broken").keys() == {"broken"}
    assert not {"net", "pkg", "alone"} & sys.modules.keys()


def test_what_was_imported_counts_whatever_names_it(folder, monkeypatch):
    (folder / "plugins").mkdir()
    (folder / "plugins" / "far.py").write_text("import torch\n")
    (folder / "mine.py").write_text("__import__('pkg.com' + 'mon')\n")
    (folder / "venv" / "site-packages").mkdir(parents=True)
    (folder / "venv" / "site-packages" / "library.py").write_text("")
    config = Config(model=ModelConfig(name="mine:Net"))
    assert imported_digests(config, ()) == {}
    for place in ("", "plugins", "venv/site-packages"):
        monkeypatch.syspath_prepend(folder / place)
    names = ["mine", "pkg.common", "far", "library"]
    try:
        for name in names:
            importlib.import_module(name)
        assert imported_digests(config, ()).keys() == {"mine", "pkg", "pkg.common", "far"}
        assert imported_digests(config, ["far"]).keys() == {"mine", "pkg", "pkg.common"}
    finally:
        for name in ["pkg", *names]:
            sys.modules.pop(name, None)
    assert module_digests("mine").keys() == {"mine"}
    also = ["pkg.common", "far", "__main__", "gone"]
    assert module_digests("mine", also).keys() == {"mine", "pkg.common", "pkg"}


@pytest.mark.parametrize("name", ["missing", "pkg.missing", "net.missing", "", ".net", "sys", "space"])
def test_what_has_no_file_has_no_source(folder, name):
    assert module_digests(name) == {}
    assert source_file(name) is None


def test_of_an_installed_package_only_the_module_counts(folder):
    assert module_digests("accelerate.state").keys() == {"accelerate.state"}


def test_an_editable_install_is_the_users_own_code_all_of_it(tmp_path, monkeypatch):
    package = tmp_path / "checkout" / "src" / "edited"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from edited.net import Net\n")
    (package / "net.py").write_text("class Net: pass\n")

    class EditableFinder:
        """As setuptools writes it for `pip install --editable`."""

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return spec_from_file_location(name, package / "__init__.py") if name == "edited" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, EditableFinder])
    assert module_digests("edited").keys() == {"edited", "edited.net"}


def test_each_setting_that_refers_to_a_users_code_counts():
    config = Config(
        model=ModelConfig(name="my.net:Net"),
        data=DataConfig(name="my_data:make"),
        loss=LossConfig(name="my_loss:loss"),
        schedule=ScheduleConfig(name="my_schedule:factor"),
        optimizer=OptimizerConfig(name="my_optimizer:Sgd"),
    )
    assert users_modules(config) == {
        "model.name": "my.net",
        "data.name": "my_data",
        "loss.name": "my_loss",
        "schedule.name": "my_schedule",
        "optimizer.name": "my_optimizer",
    }
    libraries = {
        "model": ModelConfig(name="torchvision:resnet18"),
        "data": DataConfig(name="huggingface:mnist"),
        "loss": LossConfig(name="torch.nn:HuberLoss"),
    }
    assert users_modules(Config(**libraries)) == source_digests(Config()) == {}
    assert users_modules(Config(task=TaskConfig(name="tasks:line"))) == {"task.name": "tasks"}
    assert users_modules(Config(task=TaskConfig(name="line"))) == {"task.name": "__main__"}


def test_what_lockstep_is_counts_by_its_version(folder):
    (folder / "mine.py").write_text("import lockstep\n")
    assert module_digests("mine").keys() == {"mine"}

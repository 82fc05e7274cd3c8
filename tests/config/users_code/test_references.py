import functools

import pytest

from lockstep.config import check_arguments, import_reference
from lockstep.errors import ConfigError


class Net:
    def __init__(self, size, *, depth=3, dropout=0.0):
        self.size = size

    @classmethod
    def small(cls):
        return cls(1)


def takes_anything(step, **options):
    return options


def test_a_reference_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_own_net.py").write_text(
        "class Net:\n    @staticmethod\n    def small(): return 'small'\n"
    )
    monkeypatch.chdir(tmp_path)
    assert import_reference("model.name", "my_own_net:Net").small() == "small"
    assert import_reference("model.name", "my_own_net:Net.small")() == "small"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("Net", "cannot be imported; write it as 'package.module:name'"),
        (":Net", "cannot be imported; write it as 'package.module:name'"),
        ("package:", "cannot be imported; write it as 'package.module:name'"),
        (
            "nowhere.at_all:Net",
            r"cannot be imported \(No module named 'nowhere'\); name 'package.module:name'",
        ),
        ("a..b:Net", "cannot be imported"),
        (".relative:Net", "cannot be imported"),
        (
            "functools:partail",
            r"cannot be imported \('functools' has no 'partail'\); perhaps you meant 'partial'",
        ),
        ("functools:partial.nothing", r"cannot be imported \('partial' has no 'nothing'\)"),
    ],
)
def test_what_cannot_be_imported_is_one_line(name, rule):
    with pytest.raises(ConfigError, match=rf"^model\.name = '{name}': {rule}") as refusal:
        import_reference("model.name", name)
    assert "\n" not in str(refusal.value)


def test_an_error_inside_a_module_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        import_reference("model.name", "broken_module:Net")


def test_arguments_that_fit_pass():
    check_arguments("model.args", Net, {"size": 3, "depth": 4})
    check_arguments("model.args", Net, {"depth": 4}, reserved=("size",))
    check_arguments("model.args", takes_anything, {"step": 1, "whatever": 2})
    check_arguments("model.args", functools.partial(Net, 3), {"depth": 4})
    check_arguments("model.args", dict, {"anything": 1})  # written in C, without a signature


@pytest.mark.parametrize(
    ("target", "arguments", "reserved", "message"),
    [
        (
            Net,
            {"size": 3, "dpeth": 4},
            (),
            "model.args.dpeth = 4: is not an argument of Net; it takes size, depth, dropout; "
            "perhaps you meant 'depth'",
        ),
        (
            Net,
            {"depth": 4},
            (),
            "model.args = {'depth': 4}: Net needs an argument 'size'; state model.args.size",
        ),
        (Net, {"size": 3}, ("size",), "model.args.size = 3: is passed by Lockstep itself; leave it out"),
        (
            Net,
            {"size": 3},
            ("size", "depth", "dropout"),
            "model.args.size = 3: is passed by Lockstep itself; leave it out",
        ),
        (
            Net.small,
            {"size": 3},
            (),
            "model.args.size = 3: is not an argument of small; it takes none that can be stated here",
        ),
        (
            takes_anything,
            {},
            (),
            "model.args = {}: takes_anything needs an argument 'step'; state model.args.step",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(target, arguments, reserved, message):
    with pytest.raises(ConfigError) as refusal:
        check_arguments("model.args", target, arguments, reserved)
    assert str(refusal.value) == message

import pytest

from lockstep.errors import ConfigError
from lockstep.runs import check_links
from lockstep.runs.folder.folder_lock import locked_folder
from runs import fresh_ranks


def test_a_link_that_leads_out_of_a_run_folder_is_refused(tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    (folder / "report").mkdir(parents=True)
    outside.write_text("precious")
    (folder / "report" / "curves.png").symlink_to(outside)
    with pytest.raises(ConfigError, match=r"run/report/curves.png': leads to '.*/outside', and a run writes"):
        check_links(folder)


@pytest.mark.parametrize("target", ["../elsewhere", "/nowhere"])
def test_a_folder_that_is_a_link_and_a_link_to_nothing_are_refused(tmp_path, target):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "checkpoints").symlink_to(target)
    with pytest.raises(ConfigError, match=r"set run\.dir, or link the whole run folder"):
        check_links(folder)


def test_links_inside_of_the_folder_and_the_folder_itself_may_be_links(tmp_path):
    (tmp_path / "disk" / "wandb" / "run-1").mkdir(parents=True)
    (tmp_path / "disk" / "wandb" / "latest-run").symlink_to("run-1")  # as wandb makes it
    (tmp_path / "disk" / "wandb" / "run-1" / "logs").mkdir()
    (tmp_path / "disk" / "wandb" / "run-1" / "logs" / "debug-core.log").symlink_to("/elsewhere/log")  # too
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    check_links(tmp_path / "run")


@pytest.mark.parametrize("name", [".lock", "starts.jsonl"])
def test_a_start_does_not_write_through_a_link(tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(outside)
    with pytest.raises(ConfigError, match=r"remove the link"), locked_folder(tmp_path / "run", fresh_ranks()):
        pass
    assert outside.read_text() == "precious"

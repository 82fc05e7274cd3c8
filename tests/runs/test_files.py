from concurrent.futures import ThreadPoolExecutor

from lockstep.runs import (
    CHECKPOINTS_FOLDER,
    checkpoint_step,
    checkpoints_in,
    newest_checkpoint_step,
    step_name,
    write_atomically,
)


def test_several_writers_of_one_file_each_publish_the_whole_of_it(tmp_path):
    """The tasks of a sweep write the same table: one scratch file for all would vanish under its writer."""
    contents = [letter * 100_000 for letter in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "table", content), contents * 5))
    assert (tmp_path / "table").read_text() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_steps_name_folders_and_are_read_back(tmp_path):
    folder = tmp_path / CHECKPOINTS_FOLDER
    assert newest_checkpoint_step(tmp_path) == 0
    for name in (step_name(12), step_name(9), ".step-00000013.partial", "step-00000014.copy"):
        (folder / name).mkdir(parents=True)
    assert [checkpoint_step(path) for path in checkpoints_in(folder)] == [9, 12]
    assert newest_checkpoint_step(tmp_path) == 12

"""slurm/sweep.sbatch: an array of runs, a limited number at a time, and one table."""

from processes import QUICK, ROOT, read_run
from slurm_jobs import FINAL, LONG, Job


def test_three_rows_two_at_a_time(cluster, tmp_path):
    rows = ["# rate and seed", "--optimizer.lr 0.01", "", "--seed 1", "--optimizer.lr 0.02 --seed 2"]
    (tmp_path / "grid.txt").write_text("\n".join(rows) + "\n")
    words = ["sbatch", "--parsable", f"--output={tmp_path}/output-%a", "--array=1-3%2", "--nodes=1"]
    words += ["--gpus-per-node=2", "slurm/sweep.sbatch", "--grid", str(tmp_path / "grid.txt"), *QUICK]
    array = cluster.run(*words, "--run.dir", str(tmp_path / "runs"), cwd=ROOT)
    at_once = []

    def is_done():
        states = [cluster.job(f"{array}_{task}")["JobState"] for task in (1, 2, 3)]
        at_once.append(states.count("RUNNING"))
        return all(state in FINAL for state in states)

    cluster.wait(is_done, 90, "end of the array")
    outputs = [(tmp_path / f"output-{task}").read_text() for task in (1, 2, 3)]
    for task in (1, 2, 3):
        assert cluster.job(f"{array}_{task}")["JobState"] == "COMPLETED", outputs[task - 1]
    assert max(at_once) == 2
    runs = [read_run(path.parent) for path in (tmp_path / "runs").glob("*/summary.json")]
    # Processes come from the GPUs of the allocation.
    assert [run["world_size"] for run in runs] == [2, 2, 2]
    assert len({run["weights_sha256"] for run in runs}) == 3

    header, *lines = (tmp_path / "runs" / f"sweep-{array}.txt").read_text().splitlines()
    assert header.split()[:3] == ["run", "seed", "optimizer.lr"]
    assert sorted(line.split()[1:5] for line in lines) == [
        ["0", "0.01", "finished", "2"],
        ["1", "0.005", "finished", "2"],
        ["2", "0.02", "finished", "2"],
    ]


class Task(Job):
    """A task of an array that is submitted."""

    def __init__(self, cluster, array, number, folder):
        self.cluster, self.id = cluster, f"{array}_{number}"
        self.run, self.output = folder / f"row{number}", folder / f"output-{number}"


def test_each_task_is_requeued_by_itself_and_goes_on_with_its_own_run(cluster, tmp_path, undisturbed):
    """One loses its node to a partition of a higher priority; the other is asked to stop."""
    as_windows_writes_it = "--run.name row1\r\n--run.name row2 --seed 1\r\n"
    (tmp_path / "grid.txt").write_text(as_windows_writes_it)
    words = ["sbatch", "--parsable", f"--output={tmp_path}/output-%a", "--array=1-2", "--nodes=1"]
    words += ["--exclusive", "--export=ALL,LOCKSTEP_PROCESSES_PER_NODE=1", "slurm/sweep.sbatch"]
    words += ["--grid", str(tmp_path / "grid.txt"), *QUICK, *LONG, "--run.dir", str(tmp_path)]
    array = cluster.run(*words, cwd=ROOT)
    one, two = tasks = [Task(cluster, array, number, tmp_path) for number in (1, 2)]
    for task in tasks:
        task.wait_for_step(6)
    preempting = ["--partition=high", f"--nodelist={one.facts['NodeList']}", "--exclusive", "--wrap=sleep 1"]
    cluster.run("sbatch", f"--output={tmp_path}/preempting", *preempting)
    cluster.run("scancel", "--batch", "--signal=USR1", two.id)
    one.assert_finished_as(undisturbed, world_size=1)
    two.wait_for("COMPLETED")
    assert [task.restarts for task in tasks] == [1, 1]
    assert f"SLURM has requeued job {one.id} itself" in one.text
    assert f"checkpoint saved; requeueing job {two.id}" in two.text
    assert "could not be requeued" not in one.text + two.text
    steps = [[record["step"] for record in read_run(task.run)["records"]] for task in tasks]
    assert steps == [list(range(1, 43))] * 2
    assert all(f"resuming {task.run} after step" in task.text for task in tasks)

"""slurm/sweep.sbatch: an array of runs, a limited number at a time, and one table."""

from processes import QUICK, ROOT, read_run
from slurm_jobs import FINAL


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

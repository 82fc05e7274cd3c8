from lockstep.launch import StopRequest


def test_the_main_rank_alone_looks_for_the_job_scripts_file(tmp_path):
    file = tmp_path / "stop"
    ranks = [StopRequest({"LOCKSTEP_STOP_FILE": str(file), "RANK": rank}) for rank in "01"]
    assert [stop.is_set() for stop in ranks] == [False, False]
    file.touch()
    assert [stop.is_set() for stop in ranks] == [True, False]

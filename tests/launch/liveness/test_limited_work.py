from lockstep.launch import limited, making
from lockstep.launch.liveness.heartbeats import READING
from lockstep.launch.liveness.limited_work import progress


def test_what_a_users_constructor_reads_and_writes_shows_that_it_gets_on(tmp_path):
    """It may download for hours. What is read to find that out does not count."""
    with making("the training data"):
        before = progress()
        assert progress() == progress() == before
        (tmp_path / "downloaded").write_bytes(b"a part")
        assert progress() != before
        with limited(READING):  # a step has `advance`
            before = progress()
            (tmp_path / "log").write_text("a line")
            assert progress() == before

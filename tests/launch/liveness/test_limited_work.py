import gc
import sys
import threading

import pytest

from lockstep.launch import limited, making
from lockstep.launch.liveness.heartbeats import READING
from lockstep.launch.liveness.limited_work import frame_of, progress


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


@pytest.mark.parametrize("is_enabled", [True, False])
def test_no_garbage_is_collected_while_a_thread_is_looked_at(monkeypatch, is_enabled):
    """Freed tensors let other threads continue, and with one that starts a thread Python would hang."""
    frames, during = sys._current_frames, []

    def watched():
        during.append(gc.isenabled())
        return frames()

    monkeypatch.setattr(sys, "_current_frames", watched)
    was_enabled = gc.isenabled()
    (gc.enable if is_enabled else gc.disable)()
    try:
        frame = frame_of(threading.get_ident())
        assert gc.isenabled() == is_enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
    assert frame is not None
    assert frame.f_code.co_name == "watched"
    assert during == [False]

"""The stages of an upload: what may follow what, and who waits for it."""

from threading import Thread

import pytest

from lockstep.tracking.upload.upload_state import NEXT_STAGES, Stage, UploadState


def entered(*stages):
    """A state that went through these stages."""
    state = UploadState()
    for stage in stages:
        assert state.enter(stage)
    return state


def test_every_stage_has_its_next_ones_and_none_follows_itself():
    assert set(NEXT_STAGES) == set(Stage)
    assert not [stage for stage, following in NEXT_STAGES.items() if stage in following]


def test_an_upload_without_trouble_is_complete():
    state = entered(Stage.SENDING, Stage.COMPLETE)
    assert not state.enter(Stage.ABANDONED)  # so nothing is said of it
    assert state.stage is Stage.COMPLETE


def test_a_server_that_answers_late_loses_nothing():
    state = entered(Stage.RETRYING)
    assert not state.enter(Stage.RETRYING)  # so it is reported once
    assert state.enter(Stage.SENDING)
    assert state.enter(Stage.COMPLETE)


@pytest.mark.parametrize("before", [(), (Stage.RETRYING,), (Stage.SENDING,)])
def test_an_upload_that_lost_something_is_never_complete(before):
    state = entered(*before, Stage.INCOMPLETE)
    for stage in (Stage.SENDING, Stage.COMPLETE, Stage.INCOMPLETE, Stage.RETRYING):
        assert not state.enter(stage)
    assert state.enter(Stage.ABANDONED)


def test_who_waits_is_woken_by_the_next_stage():
    state = entered(Stage.RETRYING)
    assert not state.wait_while(Stage.RETRYING, 0.01)
    thread = Thread(target=state.enter, args=[Stage.SENDING])
    thread.start()
    assert state.wait_while(Stage.RETRYING, 60)
    thread.join()
    assert state.wait_while(Stage.RETRYING, 0)

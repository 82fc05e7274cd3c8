"""Files of the W&B client, whole and cut short."""

import struct

from wandb.proto import wandb_internal_pb2

from lockstep.tracking.offline.wandb_file import BLOCK_BYTES, FIRST, FULL, LAST, read_wandb_file


def history(step, text=""):
    """The bytes of a record of a step's history."""
    record = wandb_internal_pb2.Record()
    record.history.step.num = step
    record.history.item.add(key="text", value_json=text)
    return record.SerializeToString()


def chunk(data, chunk_type=FULL):
    return struct.pack("<4sHB", bytes(4), len(data), chunk_type) + data


def steps(path):
    return [record.history.step.num for record in read_wandb_file(path)]


def test_a_file_that_was_cut_short_is_read_up_to_there(tmp_path):
    path = tmp_path / "run-x.wandb"
    whole = bytes(7) + chunk(history(1)) + chunk(history(2))
    path.write_bytes(whole + chunk(history(3))[:-1])
    assert steps(path) == [1, 2]
    path.write_bytes(whole[:3])
    assert steps(path) == []


def test_a_record_that_spans_blocks_is_put_together(tmp_path):
    path = tmp_path / "run-x.wandb"
    long = history(1, "x" * BLOCK_BYTES)
    size = BLOCK_BYTES - 7 - 7  # what fits into the first block
    path.write_bytes(bytes(7) + chunk(long[:size], FIRST) + chunk(long[size:], LAST) + chunk(history(2)))
    assert steps(path) == [1, 2]


def test_the_end_of_a_block_that_holds_no_chunk_is_skipped(tmp_path):
    path = tmp_path / "run-x.wandb"
    start = bytes(7) + chunk(history(1))
    overhead = len(chunk(history(2, "x" * 30_000))) - 30_000
    start += chunk(history(2, "x" * (BLOCK_BYTES - 4 - len(start) - overhead)))
    assert len(start) == BLOCK_BYTES - 4
    path.write_bytes(start.ljust(BLOCK_BYTES, b"\0") + chunk(history(3)))
    assert steps(path) == [1, 2, 3]

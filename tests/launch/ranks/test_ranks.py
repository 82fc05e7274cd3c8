"""What the ranks decide together."""

import pytest
import torch

from processes import workers
from runs import fresh_ranks


@pytest.mark.slow
def test_two_ranks_get_the_same_answers_and_failures():
    result = workers(2, "ranks_worker.py")
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_rank_alone_needs_no_process_group():
    ranks = fresh_ranks()
    assert ranks.control is None
    assert [ranks.agree(flag) for flag in (True, False)] == [True, False]
    assert ranks.on_main(lambda: 3) == ranks.on_all(lambda: 3) == ranks.broadcast(3) == 3
    assert ranks.gather(torch.tensor([[1, 2]])).tolist() == [[1, 2]]
    assert ranks.gather_objects("a") == ["a"]

    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ranks.on_main(fail)
    ranks.barrier()

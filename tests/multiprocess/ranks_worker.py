"""Run under torchrun: what the ranks decide together is the same on each of them, failures included."""

import os
from dataclasses import replace

import pytest
import torch

from lockstep.errors import ConfigError, PeerError, RunStopped
from lockstep.launch import num_cores, read_launch
from lockstep.launch.process_group import join_ranks
from lockstep.launch.ranks.compare_ranks import differing_facts
from lockstep.launch.ranks.threads import equal_threads, fullest_node
from lockstep.runs.history.environment import environment
from lockstep.trainer.startup.start_facts import differing_ranks


def raises(error):
    def action():
        raise error

    return action


with join_ranks(read_launch(), "no") as ranks:
    size, is_last = ranks.world_size, ranks.rank == ranks.world_size - 1
    assert size > 1
    assert [ranks.agree(is_last), ranks.agree(False)] == [True, False]
    assert ranks.broadcast({"rank": ranks.rank}) == {"rank": 0}
    assert ranks.on_main(lambda: ranks.rank) == 0
    assert ranks.on_all(lambda: ranks.rank) == ranks.rank
    assert ranks.gather(torch.tensor([[ranks.rank, 1]])).tolist() == [[rank, 1] for rank in range(size)]
    assert ranks.gather_objects(str(ranks.rank)) == [str(rank) for rank in range(size)]
    facts = {"same": 1, "device": "B" if is_last else "A"} | ({"more": 2} if is_last else {})
    last = f"on rank {size - 1}"
    assert differing_facts(ranks, facts) == {
        "device": f"'A' on rank 0, 'B' {last}",
        "more": f"None on rank 0, 2 {last}",
    }
    assert fullest_node(ranks) == (size, num_cores())
    equal, lines = equal_threads(replace(ranks, num_threads=1 if is_last else 2))
    assert (equal.num_threads, torch.get_num_threads()) == (1, 1)
    assert lines == [f"num_threads = 1 on every rank, as on rank {size - 1}; others had up to 2"]
    # Instructions that one rank alone may use: no machine here has two kinds of CPU.
    os.environ |= {"ONEDNN_MAX_CPU_ISA": "SSE41"} if is_last else {}
    how = rf"the ranks differ in CPU limits \({{}} on rank 0, {{'ONEDNN_MAX_CPU_ISA': 'SSE41'}} {last}\)"
    with pytest.raises(ConfigError, match=f"{how}: exact reduction needs them equal; .* --reduction fast"):
        differing_ranks(ranks, environment(ranks), is_exact=True)
    (warning,) = differing_ranks(ranks, environment(ranks), is_exact=False)
    assert warning.endswith("so the bits may depend on them")
    with pytest.raises(ConfigError, match=r"a\.b = 1: no"):
        ranks.on_main(raises(ConfigError("a.b = 1: no")))
    with pytest.raises(RunStopped, match="the disk is full"):
        ranks.on_main(raises(RunStopped("the disk is full")))
    with pytest.raises(OSError if ranks.is_main else PeerError, match="disk full"):
        ranks.on_main(raises(OSError("disk full")))
    with pytest.raises(ConfigError, match="of the last rank"):
        ranks.on_all(raises(ConfigError("of the last rank")) if is_last else int)
    ranks.barrier()
assert not torch.distributed.is_initialized()

"""What a run records of its environment."""

import json

from lockstep.runs.environment import environment
from runs import fresh_ranks


def test_the_environment_is_json():
    facts = environment(fresh_ranks())
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["world_size"], facts["device"]) == (1, "cpu")
    assert set(facts["versions"]) == {"lockstep", "python", "torch", "accelerate"}

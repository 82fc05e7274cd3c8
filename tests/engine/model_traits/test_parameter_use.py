"""Which parameters a forward uses."""

from lockstep.engine.model_traits.parameter_use import ParameterUse

COUNTS = {"stem": 8, "block.a": 3, "block.b": 7, "unused": 0, "experts.0": 0}


def test_parameters_are_sorted_by_how_often_they_had_a_gradient():
    use = ParameterUse.from_counts(COUNTS, 8, ())
    assert use == ParameterUse(sometimes=("block.a", "block.b"), never=("unused", "experts.0"))


def test_the_user_may_say_that_a_parameter_is_sometimes_used():
    use = ParameterUse.from_counts(COUNTS, 8, ("experts.*", "stem"))
    assert use == ParameterUse(sometimes=("stem", "block.a", "block.b", "experts.0"), never=("unused",))

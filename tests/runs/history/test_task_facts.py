"""task.json: how a run's task is scored."""

from lockstep.runs import TaskFacts, read_task_facts, write_task_facts
from run_folders import DIGITS


def test_facts_come_back_from_their_file(tmp_path):
    write_task_facts(tmp_path, DIGITS)
    assert read_task_facts(tmp_path) == DIGITS


def test_a_run_without_facts_is_of_a_version_that_had_digits_alone(tmp_path):
    facts = read_task_facts(tmp_path)
    assert (facts.headline, facts.higher_is_better, facts.classes) == ("accuracy", True, tuple("0123456789"))


def test_the_better_value_has_the_higher_score():
    assert DIGITS.score(0.9) > DIGITS.score(0.8)
    error = TaskFacts(headline="error")
    assert error.score(0.1) > error.score(0.2)

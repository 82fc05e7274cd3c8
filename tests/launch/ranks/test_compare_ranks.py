"""What the ranks tell each other of themselves."""

from types import SimpleNamespace

import pytest

from lockstep.config import Config
from lockstep.errors import ConfigError
from lockstep.launch.ranks.compare_ranks import check_same_settings
from runs import fresh_ranks


def rank_beside(**other):
    """This rank beside one with other settings: only a second command would have them."""
    return SimpleNamespace(gather_objects=lambda settings: [settings, {**settings, **other}])


def test_ranks_with_unequal_settings_are_refused():
    """Such as those of a second node whose command has another seed: it was ignored without a word."""
    with pytest.raises(ConfigError, match=r"^seed: 0 on rank 0, 31 on rank 1; start every rank with"):
        check_same_settings(Config(), rank_beside(seed=31))
    for ranks in (fresh_ranks(), rank_beside()):
        check_same_settings(Config(), ranks)

from lockstep.launch.liveness.heartbeats import (
    BETWEEN,
    BUSY,
    COMPUTING,
    EVALUATING,
    READING,
    WAITING,
    Heartbeat,
    Register,
    Standstill,
    ranks_text,
)


def register(signs, heard_at=100.0, changed_at=0.0):
    """Ranks on nodes n0, n1, …, whose signs have not changed for a hundred seconds."""
    register = Register(world_size=len(signs), limit_seconds=60)
    for rank, heartbeat in enumerate(signs):
        register.enter(rank, f"n{rank}", changed_at)
        register.hear(rank, heartbeat, changed_at)
        register.hear(rank, heartbeat, heard_at)
    return register


def test_a_rank_that_gives_no_sign_is_named_with_its_node_and_place():
    ranks = register([Heartbeat(4, COMPUTING), Heartbeat(4, COMPUTING)])
    ranks.hear(0, Heartbeat(4, COMPUTING), 160.0)
    assert ranks.verdict(159.0) == ""
    assert ranks.verdict(160.0) == (
        "rank 1 on n1 has given no sign of life for 60 s (run.timeout_seconds); it was in step 5, computing"
    )
    ranks.leave(1)
    assert ranks.verdict(160.0) == ""


def test_a_rank_stands_still_if_its_sign_stays_the_same():
    for part in (READING, COMPUTING, BETWEEN, EVALUATING):
        watch = Standstill(limit_seconds=60)
        assert not watch.has_come(Heartbeat(4, part), 100.0)
        assert not watch.has_come(Heartbeat(4, part), 159.0)
        assert watch.has_come(Heartbeat(4, part), 160.0)


def test_what_gets_on_does_not_stand_still():
    """Batches of a long evaluation or window; and a process that was itself stopped for a while."""
    watch = Standstill(limit_seconds=60)
    for count in range(5):
        assert not watch.has_come(Heartbeat(4, EVALUATING, count), 50.0 * count)
    watch.excuse()
    assert not watch.has_come(Heartbeat(4, EVALUATING, 4), 900.0)


def test_long_work_is_no_standstill():
    """A download or a debugger on the main rank, for which the others wait."""
    for part in (BUSY, WAITING):
        watch = Standstill(limit_seconds=60)
        assert not any(watch.has_come(Heartbeat(4, part), now) for now in (0.0, 100.0))
    for signs in ([Heartbeat(-1, BUSY), Heartbeat(-1, WAITING)], [Heartbeat(4, BUSY), Heartbeat(4, BUSY)]):
        assert register(signs).verdict(100.0) == ""


def test_all_wait_for_each_other_where_a_network_does_not_connect_them():
    text = "all ranks have waited for each other for 60 s (run.timeout_seconds); rank 0 on n0 was before its"
    assert register([Heartbeat(-1, WAITING)] * 2).verdict(100.0).startswith(text)


def test_who_has_not_come():
    ranks = Register(world_size=12, limit_seconds=60)
    ranks.enter(0, "n0", 0.0)
    assert ranks_text(ranks.missing()) == "ranks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more"
    assert ranks_text([7]) == "rank 7"

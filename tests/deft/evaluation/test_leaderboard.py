from datetime import UTC, datetime

from deft.evaluation.leaderboard import Entry, boards


def entry(adapter, value, low=None, high=None, settings="s1", day=1, may_rank=True):
    at = datetime(2026, 1, day, tzinfo=UTC)
    return Entry(adapter, f"ev_{adapter}_{day}", "sys", "arm", value, low, high, 10, settings, may_rank, at)


def ranks(board):
    return [(place.entry.adapter_id, place.rank, place.best_rank, place.worst_rank) for place in board.places]


def test_ranks_go_by_value_and_say_what_the_intervals_leave_open():
    (board,) = boards(
        [entry("a", 0.9, 0.85, 0.95), entry("b", 0.7, 0.6, 0.8), entry("c", 0.65, 0.55, 0.75)], better="higher"
    )
    assert ranks(board) == [("a", 1, 1, 1), ("b", 2, 2, 3), ("c", 3, 2, 3)]


def test_where_lower_is_better_the_lowest_is_first():
    (board,) = boards([entry("a", 9, 8, 10), entry("b", 2, 1, 3)], better="lower")
    assert ranks(board) == [("b", 1, 1, 1), ("a", 2, 2, 2)]


def test_unlike_settings_never_share_a_board_and_the_newest_is_first():
    found = boards([entry("a", 1.0), entry("b", 2.0, settings="s2", day=2)], better="higher")
    assert [(board.settings_hash, len(board.places)) for board in found] == [("s2", 1), ("s1", 1)]


def test_of_an_adapter_the_newest_score_counts():
    (board,) = boards([entry("a", 5.0, day=1), entry("a", 1.0, day=3)], better="higher")
    assert [place.entry.value for place in board.places] == [1.0]


def test_what_may_not_rank_is_shown_without_a_rank():
    (board,) = boards([entry("a", 5.0, may_rank=False), entry("b", 1.0, 0, 2)], better="higher")
    assert ranks(board) == [("b", 1, 1, 1), ("a", None, None, None)]


def test_an_unknown_interval_leaves_every_rank_open():
    (board,) = boards([entry("a", 5.0), entry("b", 1.0, 0, 2)], better="higher")
    assert ranks(board) == [("a", 1, 1, 2), ("b", 2, 1, 2)]


def test_where_neither_end_is_better_values_are_listed_without_ranks():
    (board,) = boards([entry("a", 1.0, 0, 2), entry("b", 5.0, 4, 6)], better=None)
    assert ranks(board) == [("b", None, None, None), ("a", None, None, None)]


def test_the_order_of_the_list_changes_no_rank():
    entries = [entry("a", 0.9, 0.85, 0.95), entry("b", 0.7, 0.6, 0.8), entry("c", 0.8, may_rank=False)]
    (board,) = boards(entries, better="higher", order="asc")
    assert ranks(board) == [("b", 2, 2, 2), ("a", 1, 1, 1), ("c", None, None, None)]

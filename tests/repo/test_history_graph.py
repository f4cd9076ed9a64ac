from zfuse.repo.history_graph import draw_history


def drawn(history):
    """Return the drawing of ``"child parent"`` lines, newest first."""
    pairs = [(*line.split(), None)[:2] for line in history]
    lines = []
    for (snapshot, _), margin in zip(pairs, draw_history(pairs), strict=True):
        lines += [*margin.above, margin.beside + snapshot]
    return lines


def test_one_chain_is_one_lane():
    assert drawn(["c b", "b a", "a"]) == ["* c", "* b", "* a"]


def test_branches_meet_where_they_began():
    assert drawn(["d b", "c b", "b a", "a"]) == ["* d", "| * c", "|/", "* b", "* a"]


def test_many_lanes_end_in_one():
    assert drawn(["x a", "e b", "d b", "c b", "b a", "a"]) == [
        "* x",
        "| * e",
        "| | * d",
        "| | | * c",
        "| |/ /",
        "| |/",
        "| * b",
        "|/",
        "* a",
    ]


def test_a_lane_crosses_below_others():
    assert drawn(["x a", "y b", "z a", "a r", "b r", "r"]) == [
        "* x",
        "| * y",
        "| | * z",
        "|_|/",
        "* | a",
        "| * b",
        "|/",
        "* r",
    ]


def test_histories_that_never_meet():
    assert drawn(["x", "b a", "y", "a"]) == ["* x", "* b", "| * y", "* a"]
    assert drawn(["c a", "x", "b a", "a"]) == ["* c", "| * x", "| * b", "|/", "* a"]
    assert drawn(["b a", "x w", "a", "w"]) == ["* b", "| * x", "* | a", " /", "* w"]

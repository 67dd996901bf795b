from deft.reporting.curves import POINTS, training_curve


def test_the_series_that_matter_are_kept_and_gaps_are_left_out() -> None:
    points = [(0, {"deft/probe_kl": 0.0}), (1, {"loss": 0.7, "grad_norm": 3.0}), (2, {"loss": None, "epoch": 1.0})]
    assert training_curve(points) == {
        "loss": {"steps": [1], "values": [0.7]},
        "deft/probe_kl": {"steps": [0], "values": [0.0]},
    }


def test_long_runs_are_thinned_from_the_first_point_to_the_last() -> None:
    found = training_curve([(step, {"loss": 1 / step}) for step in range(1, 5001)])["loss"]
    assert len(found["steps"]) <= POINTS
    assert (found["steps"][0], found["steps"][-1]) == (1, 5000)
    assert found["values"][-1] == 1 / 5000

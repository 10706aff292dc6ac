"""What methods cost: medians over their parts, and time beside what the same part takes without a method."""

import json

import numpy as np
import pytest

from snce.bench.costs import PREPARE, SIZE, TIME, added_in_parts, cost_figures, cpu_hours


def cost(seconds: float, prepare: float = 0.0, size: float = 0.0) -> dict[str, float]:
    return {"prepare_seconds": prepare, "bytes": size, "seconds_per_picture": seconds}


def test_costs_are_medians_over_the_parts_and_each_part_is_compared_with_itself():
    base = {"bomb": cost(1.0), "axe": cost(10.0), "dog": cost(2.0), "flat": cost(20.0)}
    own = {"bomb": cost(1.1, 5.0, 100), "axe": cost(13.0, 7.0, 300), "dog": cost(80.0, 90.0, 200)}
    found = cost_figures(own, added_in_parts(own, base))
    assert found == pytest.approx({PREPARE: 7.0, SIZE: 200.0, TIME: 0.3})


def test_time_is_not_compared_with_what_was_drawn_elsewhere():
    assert added_in_parts({"bomb": cost(1.0), "axe": cost(3.0)}, {"axe": cost(2.0)}) == 0.5
    assert str(added_in_parts({"bomb": cost(1.0)}, {})) == "nan"


def test_a_run_takes_what_its_parts_take():
    drawn = [("SNCE", "axe")] * 2 + [("SNCE", "bomb")] * 3 + [("none", "axe")] * 4
    columns = {name: np.array([d[i] for d in drawn], dtype=object) for i, name in enumerate(("method", "erased"))}
    costs = {("SNCE", "axe"): cost(1.0, 10.0), ("SNCE", "bomb"): cost(2.0, 20.0), ("none", "axe"): cost(3.0)}
    parts = [{"method": m, "erased": e, "cost": json.dumps(c)} for (m, e), c in costs.items()]
    assert cpu_hours(columns, parts) * 3600 == pytest.approx((2 * 1 + 10) + (3 * 2 + 20) + 4 * 3)

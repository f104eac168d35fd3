"""Which designs of a front get further seeds first."""

from codesign import DesignPoint, uniform
from codesign.search import Measured, ParetoFront
from codesign.search.finalists import finalists


def front_of(*designs):
    """Latency in seconds, accuracy, standard error; labelled a, b, c, ..."""
    return ParetoFront.of(
        [
            Measured(
                point=DesignPoint.of(default=uniform("fp32"), channels={"a": 1 + i}),
                label=label,
                trials=(i,),
                latency_s=latency_s,
                accuracy=accuracy,
                standard_error=standard_error,
            )
            for i, (label, (latency_s, accuracy, standard_error)) in enumerate(zip("abcdefgh", designs, strict=False))
        ]
    )


def labels(front, floor=None):
    return "".join(m.label for m in finalists(front, floor))


def test_what_straddles_the_floor_comes_first_and_nearest_first():
    # 95 % intervals are +-0.01: b and c hold the floor of 0.90, d is sure to meet it, so e need not be looked at.
    front = front_of((1, 0.70, 0.005), (2, 0.895, 0.005), (3, 0.901, 0.005), (4, 0.93, 0.005), (5, 0.905, 0.02))
    assert labels(front, 0.90).startswith("cb")
    assert labels(front, 0.90)[2:].index("d") < labels(front, 0.90)[2:].index("e")
    # Without d, e may be the fastest that meets it.
    front = front_of((1, 0.70, 0.005), (2, 0.895, 0.005), (3, 0.901, 0.005), (5, 0.908, 0.005))
    assert labels(front, 0.90).startswith("cbd")


def test_without_a_floor_contested_designs_come_before_clear_ones():
    # c and d differ by less than 1.645 standard errors of their difference; a, b and e by far more than that.
    front = front_of((1, 0.5, 0.005), (2, 0.7, 0.005), (3, 0.8, 0.005), (4, 0.805, 0.005), (5, 0.95, 0.005))
    assert sorted(labels(front)[:2]) == ["c", "d"]
    assert sorted(labels(front)) == ["a", "b", "c", "d", "e"]


def test_a_design_that_leads_only_within_the_noise_comes_last():
    front = front_of((1, 0.5, 0.005), (2, 0.8, 0.005), (3, 0.797, 0.005))
    assert front.leading == (True, True, False)
    assert labels(front).endswith("c")
    assert labels(front_of(), 0.9) == ""


def test_a_floor_that_nothing_is_near_leaves_the_order_of_the_front():
    front = front_of((1, 0.5, 0.005), (2, 0.7, 0.005), (3, 0.9, 0.005))
    assert labels(front, 0.6) == labels(front)

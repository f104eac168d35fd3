"""Dominance beyond noise by hand; hypervolume against an independent count of cells."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign import DesignPoint, uniform
from codesign.search import Measured, Measurement, Origin, ParetoFront, Proposal, Trial, hypervolume, summarise
from codesign.search.front import dominates
from tests.reference import search_oracle

FP32 = DesignPoint(default=uniform("fp32"))
BF16 = DesignPoint(default=uniform("bf16"))


def measured(latency_s, accuracy, standard_error=0.0, label="", trial=0):
    return Measured(
        point=FP32,
        label=label,
        trials=(trial,),
        latency_s=latency_s,
        accuracy=accuracy,
        standard_error=standard_error,
    )


def trial(index, point, accuracy, *, standard_error=0.0, fidelity=1.0, diverged=False, label=""):
    return Trial(
        index=index,
        batch=0,
        batch_size=1,
        proposal=Proposal(point=point, origin=Origin.FRONT, seed=index, fidelity=fidelity, label=label),
        latency_s=1.0,
        metrics=(("energy_j", 2.0),),
        measurement=Measurement(accuracy=accuracy, standard_error=standard_error, diverged=diverged),
    )


def test_only_a_gain_beyond_the_noise_dominates():
    # Both have a standard error of 0.003: that of the difference is 0.00424, times 1.645 is 0.00698.
    fast = measured(1.0, 0.900, 0.003)
    assert not dominates(fast, measured(2.0, 0.8931, 0.003))
    assert dominates(fast, measured(2.0, 0.8929, 0.003))
    assert not dominates(measured(2.0, 0.99, 0.003), measured(1.0, 0.5, 0.003))


def test_without_noise_the_faster_of_two_equals_dominates_and_nothing_dominates_itself():
    a, b = measured(1.0, 0.9), measured(2.0, 0.9)
    assert dominates(a, b)
    assert not dominates(b, a)
    assert not dominates(a, a)


def test_the_front_keeps_what_the_noise_does_not_decide_and_says_which_lead():
    points = [measured(1, 0.90, 0.003), measured(2, 0.899, 0.003), measured(3, 0.88, 0.003), measured(4, 0.95, 0.003)]
    front = ParetoFront.of(points)
    assert [m.latency_s for m in front.members] == [1, 2, 4]
    assert front.leading == (True, False, True)


def test_seeds_of_a_design_are_pooled_and_lend_their_spread_to_designs_with_one():
    # FP32: 0.90 and 0.92, mean 0.91, standard deviation sqrt(2 x 0.01^2 / 1) = 0.01414, of the mean 0.01.
    trials = [trial(0, FP32, 0.90, label="fp32"), trial(1, BF16, 0.80), trial(2, FP32, 0.92)]
    fp32, bf16 = summarise(trials)
    assert (fp32.trials, fp32.seeds, fp32.label) == ((0, 2), 2, "fp32")
    assert fp32.accuracy == pytest.approx(0.91)
    assert fp32.standard_error == pytest.approx(0.01)
    assert bf16.standard_error == pytest.approx(0.01414, abs=1e-5)
    assert fp32.interval == pytest.approx((0.91 - 0.0196, 0.91 + 0.0196))


def test_a_stated_error_above_the_spread_between_seeds_is_believed():
    (found,) = summarise([trial(0, FP32, 0.90, standard_error=0.04), trial(1, FP32, 0.90, standard_error=0.04)])
    assert found.standard_error == pytest.approx(0.04 / 2**0.5)


def test_short_failed_and_numberless_trainings_are_not_on_the_front():
    trials = [trial(0, FP32, 0.9, fidelity=0.5), trial(1, BF16, float("nan"), diverged=True)]
    assert ParetoFront.of_trials(trials).members == ()


def test_hypervolume_by_hand():
    # Steps down at x = 1 (from 4 to 3) and x = 2 (to 1), reference (3, 4): 2 x 1 + 1 x 2.
    assert hypervolume([2, 1, 2.5, 9], [1, 3, 2, 0], reference=(3, 4)) == 4
    assert hypervolume([], [], reference=(3, 4)) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_hypervolume_counts_cells(points):
    area = hypervolume([x for x, _ in points], [y for _, y in points], reference=(7, 6))
    assert area == search_oracle.area(points, (7, 6))


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 1), st.floats(0, 0.05)), min_size=1, max_size=20))
def test_members_are_not_dominated_and_all_others_are(numbers):
    points = [measured(*n) for n in numbers]
    front = ParetoFront.of(points)
    assert front.members
    for point in points:
        beaten = any(dominates(other, point) for other in points)
        assert (point in front.members) != beaten
    leading = [m for m, leads in zip(front.members, front.leading, strict=True) if leads]
    assert [m.accuracy for m in leading] == sorted({m.accuracy for m in leading})


def test_json_csv_and_frame_say_the_same():
    front = ParetoFront.of_trials([trial(4, FP32, 0.9, standard_error=0.01, label="fp32")])
    document = json.loads(front.to_json())
    (row,) = csv.DictReader(io.StringIO(front.to_csv()))
    frame = front.to_frame()
    assert document["schema"] == "codesign.front/1"
    assert DesignPoint.from_json(document["points"][0]["point"]) == FP32
    assert document["points"][0]["trial"] == int(row["trial"]) == frame["trial"][0] == 4
    assert document["points"][0]["accuracy_low"] == float(row["accuracy_low"]) == pytest.approx(0.9 - 0.0196)
    assert float(row["energy_j"]) == 2.0
    assert ParetoFront.of([]).to_csv() == ""

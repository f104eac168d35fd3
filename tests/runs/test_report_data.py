"""The sentence that a report begins with."""

import pytest

from codesign.runs.report_data import headline


def point(trial, latency_s, accuracy, label=""):
    low, high = accuracy - 0.02, accuracy + 0.02
    kind = "baseline" if label else "searched"
    return {
        "trial": trial, "kind": kind, "label": label, "latency_s": latency_s, "accuracy": accuracy,
        "accuracy_low": low, "accuracy_high": high,
    }  # fmt: skip


BASELINES = [point(0, 8.0, 0.9, "fp32"), point(1, 4.0, 0.89, "fp8-hybrid")]


@pytest.mark.parametrize(
    ("searched", "chosen", "begins"),
    [
        (
            [(2, 1.0, 0.88), (3, 2.0, 0.886), (4, 3.0, 0.9)],
            3,
            "Trial 3 trains 4.00 times as fast as uniform fp32 and 2.00",
        ),
        ([(2, 1.0, 0.88)], 1, "No searched design comes within half a point of uniform fp8-hybrid (89.00 %)."),
    ],
)
def test_the_headline_is_the_fastest_design_within_half_a_point_of_the_rival(searched, chosen, begins):
    text, trial = headline([*BASELINES, *(point(*values) for values in searched)], "fp32", "fp8-hybrid")
    assert trial == chosen
    assert text.startswith(begins)


def test_where_the_run_has_limits_the_headline_is_the_best_within_them():
    text, trial = headline([*BASELINES, point(2, 1.0, 0.8), point(3, 2.0, 0.89)], "fp32", "fp8-hybrid", best=2)
    assert trial == 2
    assert "at 80.00 % measured accuracy" in text

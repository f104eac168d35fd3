"""The report in headless Chromium: no complaint, a choice drives every figure, and the numbers are those of the run."""

import json
from pathlib import Path

import pytest

from codesign.cli import main
from codesign.report import render
from tests.browser import Page, browser, needs_chromium

pytestmark = needs_chromium

CONFIG = """
title = "a few digits"
accelerator = "edge"
data = { name = "digits", train_images = 200, test_images = 60 }
network = { name = "vgg:8 M 8 M" }
training = { batch = 50, learning_rate = 0.05 }
schedule = { dense_epochs = 1, pruned_epochs = 1 }
space = { alphas = [0.9, 0.7], formats = ["fp32", "fp8-hybrid"], baselines = ["fp32", "int8", "fp8-hybrid"] }
search = { trainings = 8 }
"""
FIGURES = ("front", "layers", "waterfall", "parts", "roofline", "progress")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "few.toml").write_text(CONFIG)
    assert main(["search", str(folder / "few.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def page():
    with browser() as page:
        yield page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_within_the_window_without_a_complaint(run, page: Page, width, dark):
    page.open(run / "report.html", width=width, dark=dark)
    assert page.complaints == []
    assert page.js("document.documentElement.scrollWidth") <= width
    for figure in FIGURES:
        assert page.js(f"document.querySelectorAll('#{figure} svg').length") == 1, figure


def test_a_page_of_200_designs_of_16_layers_stays_below_500_kB(run):
    document = json.loads((run / "run.json").read_text())
    point, layer = document["points"][0], {"name": "stage1.block1.convolution1", "channels": 512}
    roofline = [[i, j, 123.4, 1234.0, 2048.0] for i in range(16) for j in range(3)]
    large = point | {"channels": [448] * 16, "formats": [0] * 16, "roofline": roofline}
    page = render(document | {"layers": [layer] * 16, "points": [large | {"trial": i} for i in range(200)]})
    assert len(page.encode()) < 500_000


def test_a_click_and_the_keyboard_drive_the_other_figures(run, page: Page):
    page.open(run / "report.html")
    int8 = page.js("points.find(p => p.label === 'int8').trial")
    page.click(f"#all tr[data-trial='{int8}'] button")
    assert page.js("chosen.trial") == int8
    assert page.js("document.querySelector('#waterfall').getAttribute('aria-label')").startswith("From fp32")
    assert "to int8" in page.js("document.querySelector('#waterfall').getAttribute('aria-label')")
    assert "e0m7" in page.js("document.querySelector('#layers-table').textContent")
    page.js("document.querySelector('#front .point[tabindex=\"0\"]').focus()")
    page.press("Home")
    fastest = page.js("shown[0].trial")
    assert page.js("chosen.trial") == fastest
    assert page.js("document.activeElement.dataset.trial") == str(fastest)
    page.press("ArrowRight")
    assert page.js("chosen.trial") == page.js("shown[1].trial")
    assert page.js("document.querySelectorAll('#front [aria-checked=\"true\"]').length") == 1
    assert page.complaints == []


def test_the_numbers_of_the_page_are_those_of_the_command_line(run, page: Page, capsys):
    page.open(run / "report.html")
    front = json.loads((run / "front.json").read_text())["points"]
    shown = page.js("points.filter(p => p.front).map(p => [p.trial, p.latency_s, p.accuracy])")
    assert sorted(shown) == sorted([p["trial"], p["latency_s"], p["accuracy"]] for p in front)
    assert main(["report", str(run), "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    base = next(p for p in points if p["label"] == "fp32")
    for p in points:
        row = page.js(
            f"[...document.querySelectorAll('#all tr[data-trial=\"{p['trial']}\"] td')].map(c => c.textContent)"
        )
        assert row[2] == f"{base['latency_s'] / p['latency_s']:.2f} x"
        assert row[3] == f"{100 * p['accuracy']:.2f} %"
        assert row[8] == f"{p['parameters']:,}"
        assert sum(p["gains_s"].values()) == pytest.approx(base["latency_s"] - p["latency_s"], abs=1e-12)

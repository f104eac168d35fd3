"""The report page: self-contained, and no text of a run can break out of it."""

import json
import re

import pytest

from codesign.cli import main
from codesign.report import SCHEMA, render

RUN = {"schema": SCHEMA, "title": "A </script><b>title</b> & more", "points": []}


def test_the_run_inside_the_page_is_the_run_that_was_given():
    page = render(RUN)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == RUN


def test_the_title_is_escaped():
    assert "<title>A &lt;/script&gt;&lt;b&gt;title&lt;/b&gt; &amp; more - codesign</title>" in render(RUN)


def test_the_page_asks_for_nothing_from_anywhere():
    page = render(RUN).replace("http://www.w3.org/2000/svg", "")  # the name of a namespace, not an address to load
    assert not re.search(r'https?://|<link (?!rel="icon" href="data:,")|@import|src=|fetch\(', page)


@pytest.mark.parametrize("command", [["report"], ["compare", "."]])
def test_a_run_of_another_schema_is_refused(tmp_path, capsys, command):
    (tmp_path / "run.json").write_text(json.dumps(RUN | {"schema": "codesign.run/1"}))
    assert main([command[0], str(tmp_path), *[str(tmp_path) for _ in command[1:]]]) == 5
    assert "schema 'codesign.run/1' is not 'codesign.run/2'" in capsys.readouterr().err

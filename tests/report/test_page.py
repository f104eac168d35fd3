"""The report page: self-contained, and no text of a run can break out of it."""

import json
import re

from codesign.report import render

RUN = {"schema": "codesign.run/1", "title": "A </script><b>title</b> & more", "points": []}


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

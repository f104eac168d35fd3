"""The index of the decisions is complete, and no page has been edited since it was listed."""

from tests.walls.decisions import INDEX, index, pages, supersedes


def test_the_index_is_what_the_pages_say():
    assert INDEX.read_text(encoding="utf-8") == index(), (
        "run `python -m tests.walls.decisions`; never edit a landed page"
    )


def test_a_page_supersedes_pages_that_exist():
    numbers = {page.name[:4] for page in pages()}
    assert len(numbers) == len(pages()) > 50
    for page in pages():
        assert set(supersedes(page.read_text(encoding="utf-8"))) <= numbers - {page.name[:4]}


def test_what_a_page_supersedes_is_read():
    assert supersedes("# 0099 New\n\nSupersedes 0002 and the layout of 0015.\n") == ["0002", "0015"]

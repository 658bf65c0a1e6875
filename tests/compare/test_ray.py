"""The same jobs on a Ray cluster of two nodes, which are processes of this machine."""

import dataclasses
import os
import socket

import jobs
import pytest
import standin

from foveate.compare import RayEngine, Study, compare
from foveate.compare.engine import Job
from foveate.tasks.config import RunConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(__file__).rpartition("/")[0])
        two = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
        two.add_node(num_cpus=1, num_gpus=0)
        two.wait_for_nodes()
        yield two
        ray.shutdown()
        two.shutdown()


def last(events):
    return {event.key: (event.kind, event.value) for event in events if event.kind in ("finished", "failed")}


def test_jobs_run_on_both_nodes_at_the_same_time(cluster, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    with RayEngine(cluster.address) as engine:
        assert engine.workers == 2
        events = list(engine.run([Job("a", jobs.meet, (here, there)), Job("b", jobs.meet, (there, here))]))
    assert last(events) == {"a": ("finished", True), "b": ("finished", True)}
    assert [event.kind for event in events if event.key == "a"] == ["started", "finished"]


def test_a_job_reports_has_one_thread_and_says_why_it_fails(cluster):
    asked = [
        Job(0, jobs.square, (3,)),
        Job(1, jobs.environment, ("OMP_NUM_THREADS",)),
        Job(2, jobs.fail),
    ]
    with RayEngine(cluster.address) as engine:
        events = list(engine.run(asked))
    assert ("progress", "squaring 3") in [(event.kind, event.value) for event in events]
    assert last(events) == {0: ("finished", 9), 1: ("finished", "1"), 2: ("failed", "a square takes a number; got 'x'")}


def test_a_job_that_is_killed_is_done_once_more_and_no_more(cluster, tmp_path):
    asked = [Job("once", jobs.die_once, (tmp_path / "mark",)), Job("always", jobs.die)]
    with RayEngine(cluster.address) as engine:
        ended = last(engine.run(asked))
    assert ended["once"] == ("finished", "survived")
    assert ended["always"][0] == "failed"
    assert ended["always"][1].startswith("its Ray task was lost: ")


def test_a_study_on_two_nodes_is_the_study_of_one_machine(cluster, tmp_path):
    study = Study(base=RunConfig(epochs=2, device="cpu"), arms=("none", "se", "wider"), seeds=(0, 1))
    here = compare(study, tmp_path / "here", work=standin.WORK)
    there = compare(study, tmp_path / "there", work=standin.WORK, engine=RayEngine(cluster.address))
    assert there.finished == 6
    assert dataclasses.replace(there, folder=here.folder) == here


def test_a_head_of_our_own_listens_on_this_machine_alone(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    services = pytest.importorskip("ray._private.services")
    ray.shutdown()
    monkeypatch.setenv("PYTHONPATH", str(__file__).rpartition("/")[0])
    elsewhere, notes = services.node_ip_address_from_perspective(), []
    with RayEngine("local", on_note=notes.append) as engine:
        events = list(engine.run([Job(0, jobs.square, (3,))]))
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        assert host == "127.0.0.1"
        if not elsewhere.startswith("127."):
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((elsewhere, int(port)), timeout=5)
    assert last(events) == {0: ("finished", 9)}
    told = "a Ray head was started for this comparison, which listens on 127.0.0.1 alone; it ends with it"
    assert notes == [told]
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ

"""`submit`, `logs`, `jobs`, `stop` on a real head; a minute or two."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hosts import OUTER

import orchestrator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    if subprocess.run([*OUTER, "true"], capture_output=True).returncode:
        pytest.skip("needs root and namespaces")
    place = tmp_path_factory.mktemp("jobs")
    ended = subprocess.run(
        [*OUTER, sys.executable, str(HERE / "jobs_on_a_head.py"), str(place)],
        capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr[-4000:]
    yield json.loads((place / "found.json").read_text())
    shutil.rmtree(place)


def test_a_killed_driver_comes_back_and_finishes(found):
    assert found["followed"]["code"] == 0, found["followed"]["text"]
    assert "driver: ended with -9, started again" in found["followed"]["text"]
    assert "6 trials done" in found["followed"]["text"]
    assert found["done"] == 6
    assert found["drivers_left"] == 0


def test_a_stopped_job_ends_and_the_same_submission_goes_on(found):
    assert found["stopped"]["status"] == "STOPPED"
    assert found["drivers_after_stop"] == 0
    assert 1 <= found["done_at_stop"] < 12
    assert found["logs_of_stopped"] == 1
    assert found["resumed"] == 0
    assert (found["done_in_the_end"], found["done_twice"]) == (12, 0)


@pytest.mark.parametrize(
    ("schema", "key"),
    [
        ("submit", "submitted"),
        ("stop", "stopped"),
        ("jobs", "jobs"),
        ("job_status", "status"),
    ],
)
def test_the_documents_keep_to_their_schemas(found, schema, key):
    folder = Path(orchestrator.__file__).parent / "schemas"
    jsonschema.validate(found[key], json.loads((folder / f"{schema}.json").read_text()))
    if schema == "job_status":
        status = json.loads((folder / "status.json").read_text())
        jsonschema.validate(found[key]["sweep"], status)


def test_the_status_of_a_job_is_asked_on_the_head(found):
    status = found["status"]
    assert (status["status"], status["error"]) == ("RUNNING", None)
    assert status["sweep"]["driver_running"]
    assert status["sweep"]["num_done"] >= 2
    code, text = found["status_in_the_end"]
    assert code == 0
    assert "SUCCEEDED, ~/runs/tiny on the head" in text
    assert "best fate" in text


def test_asking_is_no_job_of_anybodys(found):
    listed = [job["job"] for job in found["jobs_after_asking"]["jobs"]]
    assert len(listed) == 4
    assert all(job.startswith("tiny-") for job in listed)


def test_jobs_are_listed_newest_first(found):
    listed = found["jobs"]["jobs"]
    assert [job["status"] for job in listed] == ["SUCCEEDED", "STOPPED", "SUCCEEDED"]
    assert {job["sweep"] for job in listed} == {"tiny"}
    assert listed[0]["folder"] == "~/runs/tiny-again"


def test_run_with_the_address_of_a_head_is_a_job_that_is_watched(found):
    code, text = found["run_there"]
    assert code == 0
    assert "6 trials known already" in text
    assert "6 trials done (0 computed now" in text


def test_mistakes_are_one_line(found):
    code, text = found["unknown_job"]
    assert (code, text.count("\n")) == (2, 1)
    assert "no job no-such-job; there are: tiny-" in text
    code, text = found["status_of_unknown"]
    assert (code, text.count("\n")) == (2, 1)
    assert "no job no-such-job; there are: tiny-" in text
    code, text = found["without_token"]
    assert (code, text.count("\n")) == (2, 1)
    assert "http://127.0.0.1:8265" in text

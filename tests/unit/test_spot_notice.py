"""A spot machine's notice as the clouds give it, from a server that answers as theirs do."""

import contextlib
import http.server
import json
import threading
from datetime import UTC, datetime, timedelta

import psutil
import pytest
import ray
from fake_sweep import FakeSweep, fake_spec

from orchestrator.cluster import spot_notice
from orchestrator.running.worker import describe_loss
from orchestrator.search.schedule import Attempt
from orchestrator.search.taken_back import PREEMPTED

TOKEN = "a-token-of-the-metadata"


class Metadata(http.server.BaseHTTPRequestHandler):
    """AWS: no answer without a token. Google: none without its header, against other people's
    pages that would ask it.
    """

    aws: str | None = None
    google = "FALSE"

    def do_PUT(self):
        seconds = int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"])
        allowed = self.path == "/latest/api/token" and 1 <= seconds <= 21600
        self._answer(TOKEN if allowed else None, 400)

    def do_GET(self):
        if self.path == "/latest/meta-data/spot/instance-action":
            if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
                return self._answer(None, 401)
            return self._answer(self.aws, 404)
        if self.path == "/computeMetadata/v1/instance/preempted":
            return self._answer(
                self.google if self.headers.get("Metadata-Flavor") == "Google" else None, 403
            )
        return self._answer(None, 404)

    def _answer(self, text, otherwise):
        self.send_response(200 if text is not None else otherwise)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata(monkeypatch):
    class Own(Metadata):
        pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{host}/")
    monkeypatch.setenv("GCE_METADATA_HOST", host)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not ours to go through
    with contextlib.closing(server.socket):
        yield Own
        server.shutdown()


def test_aws_says_when(metadata):
    assert spot_notice.aws_notice() is None
    when = datetime.now(UTC) + timedelta(seconds=90)
    metadata.aws = json.dumps({"action": "terminate", "time": when.strftime("%Y-%m-%dT%H:%M:%SZ")})
    assert 80 < spot_notice.aws_notice() <= 90
    metadata.aws = json.dumps({"action": "terminate", "time": "2026-01-01T00:00:00Z"})
    assert spot_notice.aws_notice() == 0


@pytest.mark.parametrize("said", ["", "gone", "[]", "{}", '{"time": 5}', '{"time": "soon"}'])
def test_a_notice_in_other_words_is_one_all_the_same(metadata, said):
    metadata.aws = said
    assert spot_notice.aws_notice() == 0


def test_google_says_that(metadata):
    assert spot_notice.google_notice() is None
    metadata.google = "TRUE\n"
    assert spot_notice.google_notice() == 30


def test_no_metadata_is_no_notice(monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    assert spot_notice.aws_notice() is None
    assert spot_notice.google_notice() is None


def test_a_machine_without_ray_is_not_watched_for_ever(monkeypatch):
    monkeypatch.setattr(spot_notice, "nodes_here", list)
    monkeypatch.setattr(spot_notice, "START_SECONDS", 0.1)
    assert not spot_notice.watch("aws", pause=0.05)


def test_the_loss_of_a_preempted_node_has_a_name():
    lost = ray.exceptions.RayActorError(preempted=True)
    assert describe_loss(lost)["type"] == PREEMPTED
    assert describe_loss(ray.exceptions.RayActorError())["type"] == "RayActorError"


@pytest.mark.parametrize(("kind", "num_attempts"), [(PREEMPTED, 6), ("WorkerDied", 3)])
def test_notices_are_no_failures_however_many(tmp_path, kind, num_attempts):
    """The root's machine is taken back five times; a worker that dies is not started so often."""
    sweep = FakeSweep(tmp_path / "sweep")
    error = {"type": kind, "reason": "gone", "infrastructure": True}
    schedule = sweep.start(fake_spec(), None)
    begun = 0
    while isinstance(attempt := schedule.next(), Attempt) and attempt.node.trial.n == 0:
        begun += 1
        if begun == 6:
            sweep.finish(schedule, attempt)
        else:
            schedule.failed(attempt.node.key, error)
    sweep.ledger.close()
    assert begun == num_attempts
    states = {"done": kind == PREEMPTED, "failed": kind != PREEMPTED}
    for state, expected in states.items():
        assert len(sweep.events(state)) == expected


def test_a_head_that_does_not_answer_is_asked_again(metadata, monkeypatch, capsys):
    metadata.aws = json.dumps({"action": "terminate", "time": "2026-01-01T00:00:00Z"})
    answers = [RuntimeError("deadline exceeded\n  and more"), psutil.NoSuchProcess(1), None]

    def drain(node, seconds):
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(spot_notice, "drain", drain)
    assert spot_notice.watch("aws", pause=0.01, node=psutil.Process())
    assert answers == []
    assert "not drained: deadline exceeded\n" in capsys.readouterr().out

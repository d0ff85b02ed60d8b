"""`--address` that leads to no cluster: one line, at once, before Ray tries for minutes."""

import socket
import time

import pytest

from orchestrator.cluster import attach as module
from orchestrator.cluster.attach import attach
from trainables.errors import UserError


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no cluster answers at"),
        ("no-such-host.invalid:6379", "no cluster answers at no-such-host.invalid:6379"),
        ("127.0.0.1:99999", "no cluster answers at"),
        ("127.0.0.1:port", "no cluster answers at"),
        ("nonsense", "Invalid address"),
        ("", "Invalid address"),
        ("ray://head:10001", "http://HOST:8265 from elsewhere"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(address, said, capfd):
    begun = time.monotonic()
    with pytest.raises(UserError, match=said) as caught:
        attach(address)
    assert str(caught.value).startswith(f"--address {address}: ")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 20
    assert capfd.readouterr().err == ""


def test_what_listens_is_left_to_ray(monkeypatch):
    import ray

    asked = []
    monkeypatch.setattr(ray, "init", lambda **given: asked.append(given["address"]))
    monkeypatch.setattr(module, "_wait_for_machines", lambda say: None)
    with socket.create_server(("0.0.0.0", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        attach(address)
    assert asked == [address]

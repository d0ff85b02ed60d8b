"""clusters/kuberay.yaml and our lists of keys against KubeRay's own schemas.

kuberay/ has `ray-operator/config/crd/bases/ray.io_rayjobs.yaml` of two releases, unchanged but
compressed (github.com/ray-project/kuberay, Apache License 2.0). FATEFRONT_KUBERAY_CRD names that
file of another release, which is then looked at as well.
"""

import copy
import lzma
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.cluster.rules import rayjob_schema

FILE = Path(__file__).resolve().parents[2] / "clusters/kuberay.yaml"
SHIPPED = sorted((Path(__file__).parent / "kuberay").glob("rayjobs-*.yaml.xz"))
GIVEN = [Path(path) for path in [os.environ.get("FATEFRONT_KUBERAY_CRD")] if path]


@pytest.fixture(scope="module", params=[*SHIPPED, *GIVEN], ids=lambda path: path.name)
def schema(request):
    content = request.param.read_bytes()
    text = lzma.decompress(content) if request.param.suffix == ".xz" else content
    versions = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    (found,) = [v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1"]
    return found


def strict(schema):
    """Unknown keys are errors; the API server would drop them."""
    schema = copy.deepcopy(schema)
    stack = [schema]
    while stack:
        found = stack.pop()
        if found.get("properties") and not found.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
        if found.get("x-kubernetes-int-or-string"):
            found.pop("type", None)
        found.pop("format", None)
        stack += (found.get("properties") or {}).values()
        for key in ("items", "additionalProperties"):
            if isinstance(found.get(key), dict):
                stack.append(found[key])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def test_the_shipped_file_is_valid_to_the_last_key_of_its_pods(schema):
    document = yaml.safe_load(FILE.read_text())
    errors = list(jsonschema.Draft7Validator(strict(schema)).iter_errors(document))
    assert [f"{list(e.absolute_path)}: {e.message[:200]}" for e in errors] == []


def test_a_typo_in_a_pod_would_be_seen(schema):
    document = yaml.safe_load(FILE.read_text())
    group = document["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    group["template"]["spec"]["containers"][0]["imag"] = "x"
    assert list(jsonschema.Draft7Validator(strict(schema)).iter_errors(document))


def test_our_lists_of_keys_are_theirs(schema):
    job = schema["properties"]["spec"]["properties"]
    cluster = job["rayClusterSpec"]["properties"]
    head = cluster["headGroupSpec"]
    worker = cluster["workerGroupSpecs"]["items"]
    for known, theirs in (
        (rayjob_schema.JOB, set(job)),
        (rayjob_schema.CLUSTER, set(cluster)),
        (rayjob_schema.HEAD, set(head["properties"])),
        (rayjob_schema.WORKER, set(worker["properties"])),
    ):
        assert theirs - known == set()
        assert known - theirs <= rayjob_schema.SINCE_1_7
    assert set(rayjob_schema.HEAD_NEEDS) == set(head["required"])
    assert set(rayjob_schema.WORKER_NEEDS) == set(worker["required"])

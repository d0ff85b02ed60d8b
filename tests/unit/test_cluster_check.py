"""`fatefront cluster check`: the shipped files are sound; each mistake is found at its line."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cluster.check import check_cluster, check_file, read_cluster
from orchestrator.cluster.prices import SHIPPED, PriceTable
from trainables.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
AWS, OWN, GCP, KUBE = (
    "cluster.yaml", "clusters/on-prem.yaml", "clusters/gcp.yaml", "clusters/kuberay.yaml",
)  # fmt: skip
LAUNCHED = (AWS, OWN, GCP)
HEAD_POD = "spec.rayClusterSpec.headGroupSpec.template.spec"


@pytest.fixture(autouse=True)
def _at_the_top(monkeypatch):
    """Files are mounted by paths from the top level, where `ray up` is called."""
    monkeypatch.chdir(ROOT)


def changed(tmp_path, name, old, new):
    """A shipped file with one text replaced; the test is void if it is not there."""
    text = (ROOT / name).read_text()
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new))
    return path


def errors(path):
    cluster = read_cluster(path)
    return [
        (finding.rule, cluster.file.line(finding.path), finding.message)
        for finding in check_cluster(cluster)
        if finding.severity == "error"
    ]


@pytest.mark.parametrize("name", [AWS, OWN, GCP, KUBE])
def test_the_shipped_files_are_sound(name):
    assert errors(ROOT / name) == []
    result = CliRunner().invoke(app, ["cluster", "check", name])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\nok\n" in result.stdout


MISTAKES = [
    # Ray's schema, and what Ray checks beyond it
    (
        AWS,
        "idle_timeout_minutes: 5",
        "idle_timeout_minute: 5",
        "schema",
        "did you mean idle_timeout_minutes?",
    ),
    (AWS, "upscaling_speed: 4.0", "upscaling_speed: fast", "schema", "is not of type 'number'"),
    (AWS, "head_node_type: head", "head_node_type: heat", "schema", "head_node_type"),
    (AWS, "type: aws", "type: awz", "schema", "awz"),
    (KUBE, "submissionMode: K8s", "submissionMod: K8s", "schema", "did you mean submissionMode?"),
    (KUBE, "ray.io/v1", "ray.io/v1alpha1", "schema", "apiVersion must be ray.io/v1"),
    (KUBE, "        minReplicas: 0\n", "", "schema", "minReplicas is missing"),
    (KUBE, "minReplicas: 0", "minReplicas: 9", "schema", "minReplicas 9 is above maxReplicas 8"),
    # node_config
    (
        AWS,
        "InstanceType: m6i.xlarge",
        "InstanceTyp: m6i.xlarge",
        "node_config",
        "did you mean InstanceType?",
    ),
    (
        AWS,
        "InstanceType: m6i.xlarge",
        "InstanceType: m6i.xlarg",
        "node_config",
        "did you mean m6i.xlarge?",
    ),
    (AWS, "VolumeSize: 150", "VolumeSize: large", "node_config", "must be a whole number"),
    (AWS, "MarketType: spot", "MarketTyp: spot", "node_config", "did you mean MarketType?"),
    (
        GCP,
        "machineType: e2-standard-4",
        "machineTyp: e2-standard-4",
        "node_config",
        "did you mean machineType?",
    ),
    (
        GCP,
        "provisioningModel: SPOT",
        "provisioningModel: SPOTT",
        "node_config",
        "did you mean SPOT?",
    ),
    # ports
    (AWS, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "ports", "must be 127.0.0.1"),
    (OWN, "--head --port=6379", "--head --ray-client-server-port=0", "ports", "Ray refuses it"),
    (GCP, "--host 127.0.0.1", "--host 0.0.0.0", "ports", "server listens on 0.0.0.0"),
    (
        OWN,
        "export RAY_USAGE_STATS_ENABLED=0",
        "export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0",
        "ports",
        "no other node could join",
    ),
    (
        AWS,
        "    GroupName: fatefront",
        "    IpPermissions:\n"
        "      - {FromPort: 8265, ToPort: 8265, IpRanges: [{CidrIp: 0.0.0.0/0}]}\n"
        "    GroupName: fatefront",
        "ports",
        "only ssh",
    ),
    (KUBE, "serviceType: ClusterIP", "serviceType: LoadBalancer", "ports", "use ClusterIP"),
    # pins
    (AWS, "ray:2.60.0-py311-gpu", "ray:2.59.0-py311-gpu", "pins", "the project runs Ray"),
    (AWS, "ray:2.60.0-py311-gpu", "ray:latest", "pins", "moves"),
    (AWS, "ray:2.60.0-py311-gpu", "ray:2.60.0-py312-gpu", "pins", "on other nodes"),
    (AWS, ".whl)[aws]", ".whl)[awz]", "pins", "did you mean aws?"),
    (OWN, " --constraint ~/fatefront/dist/constraints.txt", "", "pins", "add -c constraints.txt"),
    (
        OWN,
        "~/fatefront/dist/fatefront-*.whl",
        "~/fatefront/dist/fatefront-0.0.9-py3-none-any.whl",
        "pins",
        "installs fatefront 0.0.9",
    ),
    (OWN, "~/fatefront/dist/fatefront-*.whl", "-e ~/fatefront", "pins", "from a checkout"),
    (KUBE, 'rayVersion: "2.60.0"', 'rayVersion: "2.59.0"', "pins", "rayVersion 2.59.0"),
    (
        KUBE,
        "fatefront:0.1.0-ray2.60.0-py311 #",
        "fatefront:0.1.0-ray2.6.0-py311 #",
        "pins",
        "the project runs Ray",
    ),
    (
        AWS,
        "ImageId: &ami resolve",
        "ImageId: &ami latest_dlami\n      UserData: resolve",
        "pins",
        "Ubuntu 18.04",
    ),
    # token
    (OWN, "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "token", "must be token"),
    (GCP, "    export RAY_AUTH_MODE=token\n", "", "token", "without authentication"),
    (AWS, '  "~/.ray/auth_token": ~/.ray/auth_token\n', "", "token", "not brought to the nodes"),
    (KUBE, "{mode: token}", "{mode: disabled}", "token", "must be token"),
    # credentials
    (
        AWS,
        "export RAY_USAGE_STATS_ENABLED=0",
        "export AWS_ACCESS_KEY_ID=AKIAABCDEFGHIJKLMNOP",
        "credentials",
        "AWS access key",
    ),
    (
        AWS,
        "export RAY_USAGE_STATS_ENABLED=0",
        "export AWS_SECRET_ACCESS_KEY=abcdefgh12345678",
        "credentials",
        "a secret",
    ),
    (
        GCP,
        "--folder ~/mlflow",
        "--backend-store-uri postgresql://me:hunter2@db/mlflow",
        "credentials",
        "a password in a URI",
    ),
    (
        KUBE,
        '{name: RAY_USAGE_STATS_ENABLED, value: "0"}',
        '{name: RAY_AUTH_TOKEN, value: "abcdef123"}',
        "credentials",
        "RAY_AUTH_TOKEN holds a value",
    ),
    # storage
    (AWS, "s3://YOUR-BUCKET/fatefront", "/tmp/store", "storage", "local to each node"),
    (OWN, "/srv/fatefront/store", "store", "storage", "another folder of that name"),
    (OWN, "/srv/fatefront/store", "/home/you/store", "storage", "nothing says that head sees it"),
    (
        OWN,
        "/srv/fatefront/store",
        "file:///home/you/store",
        "storage",
        "nothing says that head sees it",
    ),
    (
        OWN,
        "    export FATEFRONT_STORE=/srv/fatefront/store # CHANGE: below a shared folder\n",
        "",
        "storage",
        "does not say where results go",
    ),
    (
        AWS,
        "      IamInstanceProfile: {Name: fatefront-worker}\n"
        "      BlockDeviceMappings: *disk\n      InstanceMarket",
        "      BlockDeviceMappings: *disk\n      InstanceMarket",
        "storage",
        "gpu.spot has no IamInstanceProfile",
    ),
    (KUBE, "s3://YOUR-BUCKET/fatefront", "/data/store", "storage", "persistent volume claim"),
    # scaling
    (
        OWN,
        "export RAY_enable_autoscaler_v2=0; ",
        "",
        "scaling",
        "autoscaler v2 starts only one worker",
    ),
    (
        OWN,
        "    export PATH=$HOME/fatefront/venv/bin:$PATH\n",
        "",
        "scaling",
        "is on no login shell's PATH",
    ),
    (KUBE, "  shutdownAfterJobFinishes: true\n", "", "scaling", "the pods stay"),
    (
        KUBE,
        "enableInTreeAutoscaling: true",
        "enableInTreeAutoscaling: false",
        "scaling",
        "mean nothing",
    ),
    (
        AWS,
        "      InstanceType: m6i.xlarge",
        "      InstanceType: m6i.xlarge\n      InstanceMarketOptions: {MarketType: spot}",
        "scaling",
        "the head is a spot machine",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "rule", "message"), MISTAKES)
def test_a_mistake_is_found_at_its_line(tmp_path, name, old, new, rule, message):
    path = changed(tmp_path, name, old, new)
    found = errors(path)
    assert [text for kind, _, text in found if kind == rule and message in text], found
    assert {kind for kind, _, _ in found} <= {rule, "schema"}, found


def test_the_line_is_that_of_the_mistake(tmp_path):
    path = changed(tmp_path, AWS, "InstanceType: m6i.xlarge", "InstanceTyp: m6i.xlarge")
    number = path.read_text().splitlines().index("      InstanceTyp: m6i.xlarge") + 1
    assert ("node_config", number) in [(rule, line) for rule, line, _ in errors(path)]
    result = CliRunner().invoke(app, ["cluster", "check", str(path)])
    assert result.exit_code == 2
    assert f"{path}:{number} available_node_types.head.node_config.InstanceTyp: " in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not hold a mapping"),
        ("a: [1", ":1 is not YAML"),
        ("a: 1\nb: 2\na: 3\n", ":3 a stands there twice, first in line 1"),
        ("a: 1\n", "is no cluster file"),
        ("kind: RayCluster\n", ":1 kind must be RayJob but is RayCluster"),
    ],
)
def test_what_is_no_cluster_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        check_file(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    result = CliRunner().invoke(app, ["cluster", "check", str(tmp_path / "no.yaml"), "--json"])
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error == f"cluster file: no such file {str(tmp_path / 'no.yaml')!r}"


def test_the_cost_adds_up(tmp_path):
    """Head and disk and address; then the dearest workers that max_workers allows."""
    own = tmp_path / "prices.csv"
    own.write_text(
        "provider,region,machine,market,usd_per_hour,as_of\n"
        "aws,us-west-2,m6i.xlarge,on_demand,1,2026-01\n"
        "aws,us-west-2,g6.xlarge,spot,10,2026-01\n"
        "# a comment\n"
        "aws,us-west-2,g6.xlarge,on_demand,100,2026-01\n"
        "aws,us-west-2,disk_gb,on_demand,0.01,2026-01\n"
        "aws,*,public_ip,on_demand,0.5,2026-01\n"
        "aws,us-west-2,public_ip,on_demand,0.25,2026-01\n"
    )
    path = changed(tmp_path, AWS, "max_workers: 8 # CHANGE: 0", "max_workers: 2 # CHANGE: 0")
    cost = check_file(path, own)["cost"]
    assert cost["usd_per_hour_idle"] == pytest.approx(1 + 1.5 + 0.25)
    # two on demand, six on spot: eight workers, as the first max_workers says
    assert cost["usd_per_hour_maximum"] == pytest.approx(9 * 1.75 + 1 + 200 + 60)
    assert cost["as_of"] == "2026-01"
    assert cost["prices"] == ["prices.csv", str(own)]


def test_what_nobody_looked_up_is_said():
    assert check_file(ROOT / AWS)["cost"]["as_of"] == "2026-11"
    assert check_file(ROOT / GCP)["cost"]["as_of"] == "2026-11, some unchecked"


def test_a_key_of_a_newer_operator_is_a_note(tmp_path):
    path = changed(
        tmp_path, KUBE, "      - groupName: gpu", "      - priority: 1\n        groupName: gpu"
    )
    found = [f for f in check_file(path)["findings"] if f["rule"] == "schema"]
    assert [f["severity"] for f in found] == ["note"]
    assert found[0]["message"] == "priority needs KubeRay 1.7: an older operator drops it"


def test_what_has_no_price_is_said_and_not_added(tmp_path):
    path = changed(tmp_path, AWS, "region: us-west-2", "region: eu-central-1")
    cost = check_file(path)["cost"]
    assert cost["usd_per_hour_idle"] is None
    assert (
        "m6i.xlarge on demand in eu-central-1: no such row in the price table"
        in cost["not_priced"]
    )
    own = tmp_path / "prices.csv"
    header = "provider,region,machine,market,usd_per_hour,as_of\n"
    own.write_text(header + "local,*,host,on_demand,0.1,2026\n")
    assert check_file(ROOT / OWN, own)["cost"]["usd_per_hour_maximum"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("aws,us-west-2,x,on_demand,free,2026", ":2: usd_per_hour is no price: 'free'"),
        ("aws,us-west-2,x,on_demand,-1,2026", ":2: usd_per_hour is no price: '-1'"),
        ("aws,us-west-2,x,weekly,1,2026", ":2: market must be one of on_demand, spot"),
        ("aws,us-west-2,x", ":2: 6 values are needed"),
    ],
)
def test_a_bad_price_table_is_one_line(tmp_path, line, message):
    own = tmp_path / "prices.csv"
    own.write_text(f"provider,region,machine,market,usd_per_hour,as_of\n{line}\n")
    with pytest.raises(UserError) as caught:
        PriceTable(own)
    assert message in str(caught.value)


def test_the_price_table_is_in_the_package():
    assert SHIPPED.exists()
    assert PriceTable().find("aws", "us-west-2", "g6.xlarge") is not None


def test_versions_are_those_of_the_constraints():
    """The files name versions; the check holds them to the installation, this to the pins."""
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={metadata.version('ray')}" in pinned


@pytest.mark.parametrize(
    ("name", "left"),
    [
        (AWS, []),  # but for the bucket, of which the rule of storage speaks
        (OWN, [("auth.ssh_user", "you")]),
        (GCP, [("provider.project_id", "YOUR-PROJECT")]),
        (KUBE, [(f"{HEAD_POD}.containers[0].image", "REGISTRY")]),
    ],
)
def test_what_is_left_to_fill_in_is_said_once(tmp_path, name, left):
    found = check_file(ROOT / name)["findings"]
    said = [(f["key"], f["message"], f["severity"]) for f in found if f["rule"] == "placeholder"]
    assert said == [(key, f"{text}: put your own here", "note") for key, text in left]


def test_somebody_listens_for_the_notice_of_a_spot_machine(tmp_path):
    listening = "python -m orchestrator.cluster.spot_notice aws"
    path = changed(tmp_path, AWS, listening, "true")
    document = check_file(path)
    notes = [f for f in document["findings"] if "the notice of a spot machine" in f["message"]]
    assert [(note["rule"], note["severity"]) for note in notes] == [("scaling", "note")]
    path = changed(tmp_path, AWS, listening, listening.replace("aws", "gcp"))
    (found,) = errors(path)
    assert found[0] == "scaling"
    assert found[1] == path.read_text().splitlines().index(
        next(line for line in path.read_text().splitlines() if "spot_notice gcp >" in line)
    ) + 1  # fmt: skip
    path = changed(tmp_path, AWS, "MarketType: spot", "MarketType: capacity-block")
    assert not [f for f in check_file(path)["findings"] if "spot machine" in f["message"]]


def test_spot_comes_first_and_on_demand_when_there_is_none():
    """Ray's own scheduler, with the priorities of cluster.yaml."""
    scheduler = pytest.importorskip("ray.autoscaler.v2.scheduler")
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    file = read_cluster(ROOT / AWS).file
    configs = {}
    for name, given in file.get("available_node_types").items():
        maximum = given.get("max_workers", 0) + (name == "head")
        configs[name] = NodeTypeConfig(
            name=name, min_worker_nodes=0, max_worker_nodes=maximum,
            priority=given.get("priority", 0), resources=given["resources"], labels={},
        )  # fmt: skip

    def launched(unavailable):
        request = scheduler.SchedulingRequest(
            node_type_configs=configs, max_num_nodes=9, disable_launch_config_check=True,
            resource_requests=ResourceRequestUtil.group_by_count(
                [ResourceRequestUtil.make({"CPU": 1, "GPU": 1})] * 3
            ),
            recoverable_resource_availabilities=dict.fromkeys(unavailable, 0.0),
        )  # fmt: skip
        reply = scheduler.ResourceDemandScheduler(None).schedule(request)
        return {r.instance_type: r.count for r in reply.to_launch}

    assert launched([]) == {"gpu.spot": 3}
    assert launched(["gpu.spot"]) == {"gpu.on_demand": 3}

"""Machines on one machine: each has its own network, process, mount and host names, a home, and
an ssh server, on a bridge that nothing else can reach.

Everything lives below one process in its own namespaces and goes with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NETWORK = "198.18.77"
"""Reserved for tests between networks (RFC 2544)."""
SHARED = "/srv/fatefront"
OUTER = [
    "unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--mount-proc", "--kill-child",
]  # fmt: skip


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """A command that must not fail."""
    return subprocess.run(list(map(str, command)), check=True, text=True, **options)  # type: ignore


@dataclass(frozen=True)
class Host:
    """One machine; ``pid`` is its first process, seen from outside."""

    name: str
    address: str
    home: Path
    pid: int

    def inside(self, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command there, as a person at its keyboard would."""
        nsenter = ["nsenter", "--target", str(self.pid), "--net", "--pid", "--mount", "--uts"]
        return subprocess.run([*nsenter, *command], text=True, capture_output=True, **options)  # type: ignore

    def processes(self) -> list[str]:
        """Command lines of all that runs there."""
        listed = self.inside("ps", "-e", "-o", "pid=,args=").stdout.splitlines()
        return [line.strip() for line in listed]

    def cut_off(self) -> None:
        """Pull the network cable."""
        run("ip", "link", "set", f"to-{self.name}", "down")

    def plug_in(self) -> None:
        """Put it back."""
        run("ip", "link", "set", f"to-{self.name}", "up")


class Site:
    """A bridge, a shared folder, a key for ssh, and hosts. For a process in ``OUTER``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.hosts: dict[str, Host] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "site", "type", "bridge")
        run("ip", "address", "add", f"{NETWORK}.1/24", "dev", "site")
        run("ip", "link", "set", "site", "up")
        run("mount", "-t", "tmpfs", "tmpfs", "/srv")
        (place / "shared").mkdir()
        Path(SHARED).mkdir()
        run("mount", "--bind", place / "shared", SHARED)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "key")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "host_key")
        (place / "sshd_config").write_text(
            f"HostKey {place}/host_key\nPermitRootLogin yes\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nAuthorizedKeysFile .ssh/authorized_keys\n"
            "Subsystem sftp internal-sftp\nPidFile none\nMaxStartups 50:30:100\n"
        )

    def add(self, name: str, number: int) -> Host:
        """Start a machine at address ``NETWORK.number``."""
        home = self.place / name
        (home / ".ssh").mkdir(parents=True)
        shutil.copy(self.place / "key.pub", home / ".ssh" / "authorized_keys")
        (home / ".bashrc").write_text("")
        (home / ".profile").write_text('if [ -n "$BASH" ]; then . ~/.bashrc; fi\n')
        python = Path(sys.base_prefix)
        keep = ":"
        if python.is_relative_to("/root"):  # the home hides it
            inside = home / python.relative_to("/root")
            inside.mkdir(parents=True)
            keep = f"mount --bind {python} {inside}"
        script = (
            f"hostname {name}; {keep}; mount --rbind {home} /root; mount -t tmpfs tmpfs /dev/shm; "
            "mount -t tmpfs tmpfs /run; mkdir -p /run/sshd; mkdir -p /tmp/ray; "
            "mount -t tmpfs tmpfs /tmp/ray; ip link set lo up; "
            f"exec /usr/sbin/sshd -D -e -f {self.place}/sshd_config"
        )
        log = (self.place / f"{name}.sshd").open("wb")
        child = subprocess.Popen(
            ["unshare", "--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--mount-proc",
             "--kill-child", "bash", "-c", script],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_bare_environment(),
        )  # fmt: skip
        self._children.append(child)
        host = Host(name, f"{NETWORK}.{number}", home, _first_process(child.pid))
        link = f"to-{name}"
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host.pid)
        run("ip", "link", "set", link, "master", "site", "up")
        for command in (
            ("ip", "address", "add", f"{host.address}/24", "dev", "eth0"),
            ("ip", "link", "set", "eth0", "up"),
            ("ip", "route", "add", "default", "via", f"{NETWORK}.1"),  # which leads nowhere
        ):
            assert host.inside(*command).returncode == 0, command
        self.hosts[name] = host
        self._wait_for_ssh(host)
        return host

    def _wait_for_ssh(self, host: Host) -> None:
        for _ in range(100):
            asked = subprocess.run(
                ["ssh", "-i", self.place / "key", "-o", "StrictHostKeyChecking=no", "-o",
                 "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=2",
                 f"root@{host.address}", "hostname"],
                capture_output=True, text=True,
            )  # fmt: skip
            if asked.stdout.strip() == host.name:
                return
            time.sleep(0.1)
        raise RuntimeError(f"no ssh to {host.name}: {asked.stderr}")


def _first_process(unshare: int) -> int:
    """The child of ``unshare --fork`` is the first process of the new PID namespace."""
    for _ in range(100):
        listed = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        if listed:
            return int(listed[0])
        time.sleep(0.05)
    raise RuntimeError("unshare started nothing")


def _bare_environment() -> Mapping[str, str]:
    """What a machine that just started has: nothing of ours."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
    }


def make_environment(folder: Path, packages: Path) -> None:
    """A virtual environment that already has everything but fatefront, from the one that runs
    this: the cluster file then installs the wheel, and nothing is fetched.

    ``packages`` becomes a folder of links to the installed packages, the same for all hosts.
    """
    site = Path(sysconfig.get_path("purelib"))
    if not packages.exists():
        packages.mkdir()
        for entry in site.iterdir():
            if "fatefront" not in entry.name and entry.suffix != ".pth":
                (packages / entry.name).symlink_to(entry)
    base = Path(sys.base_prefix) / "bin" / "python3"
    run(base, "-m", "venv", "--without-pip", folder)
    own = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    (own / "site-packages" / "everything_else.pth").write_text(f"{packages}\n")
    for name in ("ray", "mlflow", "pip"):
        script = (Path(sys.executable).parent / name).read_text().splitlines()
        script[0] = "#!/root/fatefront/venv/bin/python"
        target = folder / "bin" / name
        target.write_text("\n".join(script) + "\n")
        target.chmod(0o755)


def build_wheel(root: Path, place: Path) -> Path:
    """`make wheel` without touching the checkout: ``place/dist``."""
    copy = place / "source"
    ignore = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.egg-info", "runs", "tests"
    )
    shutil.copytree(root, copy, ignore=ignore)
    dist = place / "dist"
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w",
        dist, copy, env=os.environ | {"PIP_NO_INDEX": "1"})  # fmt: skip
    shutil.copy(root / "constraints.txt", dist)
    shutil.rmtree(copy)
    return dist

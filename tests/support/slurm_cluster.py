"""A SLURM cluster of two nodes on this machine, in a temporary folder: munge, slurmctld and two slurmd.

Needs Debian's or Ubuntu's `slurm-wlm` and `munge`, and root; no systemd, containers or cgroups.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MODELS = Path(__file__).parent  # user_models.py
NODES = ("node1", "node2")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol")
STARTS = 5  # a port that was free when it was checked may be taken a moment later
BUSY = 3  # times as long as on an idle machine

# cred_expire: by default a requeued job waits 121 s, until the credential of its first start expires.
# SlurmdTimeout: seconds until a silent node counts as lost; KillWait: seconds between SIGTERM and SIGKILL.
# proctrack/linuxproc needs no cgroups; `Cluster.processes` looks for processes that left its process tree.
CONF = """\
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=cred_expire=5,socket={folder}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
KillOnBadExit=1
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=5
MinJobAge=300
InactiveLimit=0
SlurmdTimeout=10
SlurmctldTimeout=30
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=low Nodes=node[1-2] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 MaxTime=60
PartitionName=lowgrace Nodes=node[1-2] PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 MaxTime=60
PartitionName=high Nodes=node[1-2] PriorityTier=10 PreemptMode=OFF MaxTime=60
"""
NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=8000 "
    "Gres=gpu:fake:4 State=UNKNOWN"
)


def missing_programs() -> list[str]:
    """What a cluster needs and this machine lacks."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return missing or ([] if os.geteuid() == 0 else ["root"])


class PortTakenError(RuntimeError):
    """Another process listens on one of the cluster's ports."""


class Cluster:
    """A running cluster; its client commands run with `environ`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        # The tests use their own models; a cluster's users would have installed theirs.
        path = os.pathsep.join([str(MODELS), *filter(None, [os.environ.get("PYTHONPATH")])])
        # Nor do they share this process's wandb.
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        self.environ = {**own, "SLURM_CONF": str(self.conf), "PYTHONPATH": path}

    def start(self) -> None:
        """Starts the daemons; tries other ports if one is taken.

        Raises:
            RuntimeError: the cluster did not start; the message ends with its logs.
        """
        for attempt in range(STARTS):
            try:
                self._start_once(random.randrange(20000, 28000, 4))
                return
            except PortTakenError:
                self.stop()
                if attempt == STARTS - 1:
                    raise

    def _start_once(self, port: int) -> None:
        for name in ("state", "log", "run", "munge", "dev", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        ports = range(port, port + 3)
        for number in ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    raise PortTakenError(f"port {number} is taken")
        nodes = [NODE.format(name=name, port=port) for name, port in zip(NODES, ports[1:], strict=True)]
        host = socket.gethostname().partition(".")[0]
        self.conf.write_text(CONF.format(folder=self.folder, host=host, port=port, nodes="\n".join(nodes)))
        self._fake_gpus()
        munge = self.folder / "munge"
        paths = [f"--{name}={munge / name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        self._daemon("munged", f"--key-file={key}", *paths, "--num-threads=2", "--force")
        self._daemon("slurmctld", "-i", "-c", "-L", str(self.folder / "log" / "slurmctld.log"))
        for node in NODES:
            self.start_node(node)
        try:
            self.wait(lambda: self.node_states() == dict.fromkeys(NODES, "idle"), 20, "two idle nodes")
        except TimeoutError as error:
            logs = self.logs()
            if "ddress already in use" in logs:
                raise PortTakenError(logs) from error
            raise RuntimeError(f"{error}\n{logs}") from error

    def _fake_gpus(self) -> None:
        """Creates character devices: with plain files SLURM would not set CUDA_VISIBLE_DEVICES."""
        for number in range(4):
            path = self.folder / "dev" / f"gpu{number}"
            if not path.exists():
                os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(
            f"NodeName=node[1-2] Name=gpu Type=fake File={self.folder}/dev/gpu[0-3]\n"
        )
        # Points at no real cgroup; slurmd reads the file even if no plugin uses cgroups.
        (self.folder / "cgroup.conf").write_text(
            f"CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint={self.folder}/no-cgroup\n"
        )

    def _daemon(self, *words: str) -> None:
        output = self.folder / "log" / f"{words[0]}.out"
        with output.open("a") as file:
            result = subprocess.run(
                words, env=self.environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=20
            )
        if result.returncode != 0:
            text = output.read_text() + self.logs()
            error = PortTakenError if "ddress already in use" in text else RuntimeError
            raise error(f"{words[0]} exited with {result.returncode}: {text}")

    def start_node(self, node: str) -> None:
        """Starts a node's slurmd."""
        self._daemon("slurmd", "-N", node, "-L", str(self.folder / "log" / f"slurmd.{node}.log"))

    def stop_node(self, node: str) -> None:
        """Kills a node's slurmd, like a crash; the processes on the node continue."""
        self._end(self._pid(f"run/slurmd.{node}.pid"), signal.SIGKILL)

    def stop(self) -> None:
        """Stops all jobs, then the daemons, then any process of this cluster that is left."""
        if self._pid("run/slurmctld.pid"):
            with contextlib.suppress(subprocess.TimeoutExpired, TimeoutError):
                self.run("scancel", "--full", "--user=root", timeout=10, check=False)
                self.wait(lambda: not self.run("squeue", "--noheader", check=False), 10, "an empty queue")
        for name in (*(f"run/slurmd.{node}.pid" for node in NODES), "run/slurmctld.pid", "munge/pid-file"):
            self._end(self._pid(name), signal.SIGTERM)
        for pid in [*self.processes(), *self.processes("slurmstepd")]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _pid(self, name: str) -> int:
        """The process id in a pid file; 0 if there is no file or the process is gone."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / name).read_text())
            return pid if is_alive(pid) else 0
        return 0

    def _end(self, pid: int, number: signal.Signals) -> None:
        if not pid:
            return
        os.kill(pid, number)
        with contextlib.suppress(TimeoutError):
            self.wait(lambda: not is_alive(pid), 5, f"the end of {pid}")
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)

    def logs(self) -> str:
        """The end of every log."""
        files = sorted((self.folder / "log").iterdir())
        return "\n".join(f"--- {file.name}\n{file.read_text()[-2000:]}" for file in files)

    def run(self, *words: str, timeout: float = 60, check: bool = True, cwd: Path | None = None) -> str:
        """Runs a client command; returns its output, stripped."""
        result = subprocess.run(
            words, env=self.environ, cwd=cwd, capture_output=True, text=True, timeout=timeout
        )
        if check and result.returncode != 0:
            raise RuntimeError(f"{words}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout.strip()

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Polls a condition ten times a second; `sbatch --wait` polls every half minute.

        Args:
            condition: what is waited for.
            seconds: the limit on an idle machine; it waits `BUSY` times as long.
            what: names it in the error.

        Raises:
            TimeoutError: it did not become true.
        """
        deadline = time.monotonic() + BUSY * seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} after {BUSY * seconds} s")
            time.sleep(0.1)

    def node_states(self) -> dict[str, str]:
        """Node name → its state, such as 'idle'."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %t", check=False).splitlines()
        return dict(line.split() for line in lines)

    def job(self, job: str) -> dict[str, str]:
        """The output of `scontrol show job`: name → value."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def processes(self, name: str = "", job: str = "") -> list[int]:
        """Live processes of this cluster's jobs, or its processes with a name such as 'slurmstepd'."""
        wanted = f"SLURM_CONF={self.conf}"
        pids: list[int] = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environ = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                comm = (entry / "comm").read_text().strip()
            except OSError:
                continue  # it has ended
            ids = [word.partition("=")[2] for word in environ if word.startswith("SLURM_JOB_ID=")]
            is_ours = comm == name if name else bool(ids) and job in ("", *ids)
            if wanted in environ and is_ours and is_alive(int(entry.name)):
                pids.append(int(entry.name))
        return pids


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return re.search(r"^State:\s+Z", status, re.MULTILINE) is None


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Runs a cluster in a folder; leaves no process behind."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()

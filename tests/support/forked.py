"""Runs Python programs as forks of one process that has imported torch: real processes without the imports.

`Popen` is subprocess.Popen, except that the programs that tests start most are not run by a new interpreter.
The fork server (fork_server.py; one per test session, started when first needed) forks, and the fork runs the
program with the words, variables, folder, files, session and signals that were asked for. It becomes a child
of the process that asked, so signals and exit codes are those of any child. Launchers start their workers in
the same way. Where a fork could differ from a new interpreter, a new interpreter runs: see `forkable`.

What a fork cannot show: mistakes of imports, a different order of sets in each process, and the end of the
interpreter after its exit handlers. Pass `popen=subprocess.Popen` to `processes.run` where these matter.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
PROGRAMS = ("accelerate", "lockstep", "torchrun")
MODULES = ("lockstep", "lockstep.launch.network", "accelerate.commands.launch", "torch.distributed.run")
LAUNCHERS = ("accelerate", "torchrun", "accelerate.commands.launch", "torch.distributed.run")
INTERPRETERS = (str(BIN / "python"), str(BIN / "python3"), sys.executable)
READ_LATE = (
    *("ACCELERATE_", "GROUP_", "LOCAL_", "LOCKSTEP_", "MASTER_", "PYTEST_", "ROLE_", "SLURM_", "WANDB_"),
    *("COLUMNS", "GOMP_SPINCOUNT", "NETRC", "PATH", "PYTHONPATH", "PYTHONSAFEPATH", "RANK", "TMPDIR"),
    *("PIP_", "http_proxy", "https_proxy"),
    *(
        "TORCHELASTIC_",
        "TORCHINDUCTOR_CACHE_DIR",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING",
        "WORLD_SIZE",
    ),  # torch sets them
)
"""How the names of the variables begin that nothing reads while it is imported."""
AT_START = {"CUDA_VISIBLE_DEVICES": "", "GOMP_SPINCOUNT": "10000"}
"""Variables of the fork server itself; the second is what `lockstep` sets before it imports torch."""
PADDING = 16_384
"""Bytes of a command line that a fork can show as its own."""
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Server:
    """A fork server: its process, its socket, and the variables that it was started with."""

    pid: int
    address: str
    variables: dict[str, str]


_server: Server | None = None
"""This process's own, or that of a launcher's fork, whose processes are to be its own children."""
_lock = threading.Lock()
_new_interpreter = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_parameters = inspect.signature(_new_interpreter)


class Popen(subprocess.Popen):
    """subprocess.Popen, but Python programs are forks of the fork server where possible."""

    def _execute_child(self, *given: Any, **named: Any) -> None:
        execute_child(self, *given, **named)


def execute_child(process: subprocess.Popen, *given: Any, **named: Any) -> None:
    """In place of subprocess.Popen._execute_child, whose arguments it takes."""
    options = _parameters.bind(process, *given, **named).arguments
    request = forkable(options)
    if request is None:
        _new_interpreter(process, *given, **named)
        return
    ends = [options[name] for name in ("p2cread", "c2pwrite", "errwrite")]
    process.pid = fork(request, [end if end != -1 else number for number, end in enumerate(ends)])
    process.is_forked = True  # type: ignore[attr-defined]
    process._child_created = True  # type: ignore[attr-defined]
    names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
    process._close_pipe_fds(*(options[name] for name in names))  # type: ignore[attr-defined]


def forkable(options: dict[str, Any]) -> dict[str, Any] | None:
    """What to ask the fork server for; None if a new interpreter must run.

    It must for options of Python itself, for variables that may be read during an import, for another copy
    of Lockstep, and for what a fork cannot share with the process that asks, such as its session.
    """
    if not isinstance(options["args"], list | tuple) or options["shell"] or options["executable"]:
        return None
    variables = dict(os.environ if options["env"] is None else options["env"])
    program = parsed([os.fspath(word) for word in options["args"]], variables)
    special = [options[name] for name in ("preexec_fn", "pass_fds", "gid", "gids", "uid")]
    if program is None or any(special) or options["umask"] >= 0 or not options["close_fds"]:
        return None
    server = the_server()
    if not options["start_new_session"] and (
        options["process_group"] != -1 or os.getsid(0) != os.getsid(server.pid)
    ):
        return None
    changed = {name for name, _ in variables.items() ^ server.variables.items()}
    if not all(name.startswith(READ_LATE) for name in changed):
        return None
    known, places = (set(path_of(each)) for each in (server.variables, variables))
    if known - places or any((Path(place) / "lockstep").is_dir() for place in places - known):
        return None
    folder = os.path.abspath(options["cwd"] or os.curdir)
    if not os.path.isdir(folder):
        return None
    return {
        **program,
        "folder": folder,
        "variables": variables,
        "leads_session": options["start_new_session"],
        "group": os.getpgid(0),
        "ignored": [each for each in signal.valid_signals() if signal.getsignal(each) == signal.SIG_IGN],
    }


def path_of(variables: dict[str, str]) -> list[str]:
    """The folders of PYTHONPATH."""
    return [place for place in variables.get("PYTHONPATH", "").split(os.pathsep) if place]


def parsed(words: list[str], variables: dict[str, str]) -> dict[str, Any] | None:
    """The Python program that the words start: how it is found, its sys.argv, and how `ps` shows it."""
    path = shutil.which(words[0], path=variables.get("PATH")) or words[0]
    shown, is_unbuffered = words, words[1:2] == ["-u"]
    program: dict[str, str]
    if path in {str(BIN / name) for name in PROGRAMS}:
        program, argv = {"script": path}, [path, *words[1:]]
        shown, is_unbuffered = [sys.executable, *argv], False
    elif path in INTERPRETERS:
        match words[2 if is_unbuffered else 1 :]:
            case ["-m", module, *rest] if module in MODULES:
                program, argv = {"module": module}, [module, *rest]
            case ["-c", code, *rest]:
                program, argv = {"code": code}, ["-c", *rest]
            case [script, *rest] if script.endswith(".py"):
                program, argv = {"script": script}, [script, *rest]
            case _:
                return None
    else:
        return None
    starts_processes = any(word.startswith("--processes") for word in argv)
    return {
        **program,
        "argv": argv,
        "shown": shown,
        "short_name": Path(path).name,
        "is_unbuffered": is_unbuffered,
        "is_launcher": Path(argv[0]).name in LAUNCHERS or starts_processes,
    }


def fork(request: dict[str, Any], files: list[int]) -> int:
    """Has the fork server start a program with the given stdin, stdout and stderr; its process id.

    The fork's first parent ends at once. In that moment this process is the one to which orphans of the fork
    server, its descendant, come (prctl(2), PR_SET_CHILD_SUBREAPER), and so it becomes the parent.
    """
    libc = ctypes.CDLL(None)
    with _lock, socket.socket(socket.AF_UNIX) as connection:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            connection.settimeout(600)  # a busy machine imports slowly
            connection.connect(the_server().address)
            body = json.dumps({**request, "mask": sorted(mask)}).encode()
            socket.send_fds(connection, [struct.pack("I", len(body))], files)
            connection.sendall(body)
            answer = connection.recv(4)
        finally:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if len(answer) != 4:
        raise RuntimeError(f"the fork server started nothing: see {the_server().address}.log")
    return struct.unpack("I", answer)[0]


def the_server() -> Server:
    """The fork server, started now if there is none yet; it ends with this process."""
    global _server
    if _server is None:
        folder = tempfile.mkdtemp(prefix="lockstep-forks-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        address = f"{folder}/socket"
        variables = {name: value for name, value in os.environ.items() if not name.startswith(READ_LATE)}
        variables |= AT_START | {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ
        }
        program = str(Path(__file__).parent / "fork_server.py")
        with listen(address) as listener, open(f"{address}.log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, program, str(listener.fileno()), address, " " * PADDING],
                env=variables,
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,  # closes when this process ends
                stdout=log,
                stderr=log,
            )
        _server = Server(process.pid, address, variables)
        atexit.register(process.kill)
    return _server


def listen(address: str) -> socket.socket:
    """A socket in the file system, which programs in other network namespaces reach too."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    return listener


def inherit(server: Server) -> None:
    """Makes every subprocess.Popen of this process, a launcher, one that asks the server."""
    global _server
    _server = server
    subprocess.Popen._execute_child = execute_child  # type: ignore[attr-defined]

"""A W&B server on loopback: the package `openwandb` in its own environment, behind a proxy (the front).

The front adds what W&B has and openwandb lacks: it tells a resumed run how many history lines the server has,
which it keeps by line number, and it stores artifacts. While openwandb is stopped, it answers 500.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from processes import free_port
from wandb_artifacts import ArtifactStore

PACKAGE = "openwandb==0.5.25"  # its licence is non-commercial: for tests only, never a dependency
KEY = "key0" * 10
"""openwandb takes any, and hashes those that begin as one of its own does: 0.2 s of each request."""


def install(folder: Path) -> Path:
    """Creates the environment; returns the path of its `openwandb`.

    Raises:
        OSError, subprocess.SubprocessError: the package could not be installed.
    """
    python = folder / "bin" / "python"
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]  # `make setup` installs it there
    uv = shutil.which("uv", path=os.pathsep.join(places))
    if uv:
        commands = [[uv, "venv", "-q", str(folder)], [uv, "pip", "install", "-q", "--python", str(python)]]
    else:
        commands = [[sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q"]]
    commands[1].append(PACKAGE)
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return folder / "bin" / "openwandb"


class WandbServer:
    """openwandb and the front."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.history: dict[str, dict[int, dict[str, Any]]] = {}
        """Run id → line number → what was logged."""
        self.ends: dict[str, list[int]] = {}
        """Run id → exit code of each of its starts, in order."""
        self.summaries: dict[str, dict[str, Any]] = {}
        """Run id → its newest summary."""
        self.preempted: set[str] = set()
        """Ids of runs that reported being preempted."""
        self.artifacts = ArtifactStore()
        self.delay_seconds = 0.0
        """Delay of each response."""
        self._program, self._folder, self._upstream_port = program, folder, free_port()
        self._front = Front(("127.0.0.1", 0), _front_handler(self))
        Thread(target=self._front.serve_forever, daemon=True).start()
        self.artifacts.url = f"http://127.0.0.1:{self._front.server_port}"
        self.env = {
            "WANDB_BASE_URL": self.artifacts.url,
            "WANDB_API_KEY": KEY,
        }
        self.start()

    def start(self) -> None:
        words = [str(self._program), "serve", "--host", "127.0.0.1", "-p", str(self._upstream_port)]
        words += ["--data-dir", str(self._folder / "data")]
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.upstream("/login"), timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        """Stops openwandb: the front answers 500 until the next start."""
        self._process.terminate()
        self._process.wait()

    def close(self) -> None:
        self.stop()
        self._front.shutdown()
        self._front.server_close()

    def upstream(self, path: str) -> str:
        return f"http://127.0.0.1:{self._upstream_port}{path}"

    def steps(self, run_id: str) -> list[int]:
        """The steps of a run's history, in the order of its lines."""
        lines = self.history.get(run_id, {})
        return [lines[number]["_step"] for number in sorted(lines)]

    def note_stream(self, run_id: str, sent: dict[str, Any]) -> None:
        """Stores what a run sends. Lines are stored by number, so that a line sent twice is kept once."""
        history = sent.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, line in enumerate(history["content"], start=history["offset"]):
            self.history.setdefault(run_id, {})[number] = json.loads(line)
        summary = sent.get("files", {}).get("wandb-summary.json")
        if summary:
            self.summaries[run_id] = json.loads(summary["content"][-1])
        if sent.get("preempting"):
            self.preempted.add(run_id)
        if sent.get("complete"):
            self.ends.setdefault(run_id, []).append(sent["exitcode"])

    def complete_answer(self, body: bytes, answer: bytes) -> bytes:
        """Adds to openwandb's GraphQL response what W&B tells a run that resumes."""
        if b"RunResumeStatus" not in body:
            return answer
        response = json.loads(answer)
        bucket = response["data"]["model"] and response["data"]["model"]["bucket"]
        lines = self.history.get(bucket["name"], {}) if bucket else {}
        if bucket:
            bucket |= {
                "historyLineCount": len(lines),
                "wandbConfig": json.dumps({"t": {}}),
                "eventsTail": "[]",
            }
            bucket["historyTail"] = json.dumps([json.dumps(lines[max(lines)])] if lines else [])
        return json.dumps(response).encode()


class Front(ThreadingHTTPServer):
    """A server that ignores clients that disconnect early."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _front_handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            time.sleep(server.delay_seconds)
            try:
                self._answer(*self._ask(body))
            except OSError:  # openwandb is stopped
                self._answer(500, b"")

        def _ask(self, body: bytes) -> tuple[int, bytes]:
            if self.path.startswith("/stored/"):
                if self.command == "PUT":
                    server.artifacts.put(self.path, body)
                    return 200, b""
                return 200, server.artifacts.get(self.path)
            if self.path.startswith("/artifactsV2/"):  # one file of an artifact, without wandb's cache
                return 200, server.artifacts.get_entry(self.path)
            if self.path == "/graphql":
                question = json.loads(body)
                variables = question.get("variables") or {}
                data = server.artifacts.answer(question["query"], variables)
                if data is not None:
                    return 200, json.dumps({"data": data}).encode()
                if not question.get("operationName"):  # openwandb would search for an operation named ""
                    body = json.dumps({"query": question["query"], "variables": variables}).encode()
            request = urllib.request.Request(server.upstream(self.path), body or None, method=self.command)
            for name in ("Authorization", "Content-Type"):
                if name in self.headers:
                    request.add_header(name, self.headers[name])
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    status, content = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()
            if self.path.endswith("/file_stream"):
                server.note_stream(self.path.split("/")[-2], json.loads(body))
            return status, server.complete_answer(body, content)

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _handle

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Front

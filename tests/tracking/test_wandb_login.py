"""The server and the key that W&B would use here."""

import ssl
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.error import URLError

import pytest
import wandb
from wandb.sdk import wandb_setup

from lockstep.errors import ConfigError
from lockstep.tracking import ask_server, has_key, server_url, wandb_mode
from lockstep.tracking.wandb_login import follow_environment


def write_key(home, machine):
    (home / ".netrc").write_text(f"machine {machine} login user password {'k' * 40}\n")


def test_a_key_is_found_where_wandb_finds_it(home, monkeypatch):
    assert not has_key()
    write_key(home, "wandb.example:8443")
    (home / ".netrc").chmod(0o644)  # Python's netrc refuses it, if it is not told the file's name
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8443")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert not has_key()
    write_key(home, "wandb.example")
    assert has_key()


def test_the_server_in_wandbs_settings_file_is_used(home):
    assert server_url() == wandb.Settings().base_url
    wandb.teardown()
    (home / "wandb" / "settings").write_text("[default]\nbase_url = https://wandb.example:1\n")
    assert server_url() == "https://wandb.example:1"
    assert not has_key()
    write_key(home, "wandb.example:1")
    assert has_key()
    assert wandb_mode("auto") == "online"


def test_a_run_folder_does_not_say_where_the_key_goes(home, monkeypatch):
    run = home / "run"
    (run / "wandb").mkdir(parents=True)
    for name in ("config.yaml", "starts.jsonl", "wandb/settings"):
        (run / name).write_text("")
    monkeypatch.chdir(run)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    for action in (has_key, ask_server, lambda: wandb_mode("auto")):
        with pytest.raises(ConfigError, match=r"wandb/settings': is in a run folder, and would tell wandb"):
            action()


def test_a_later_run_of_the_process_follows_a_changed_environment(home, monkeypatch):
    settings = []
    for url in ("https://one.example", "https://two.example", "https://two.example"):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        follow_environment()
        settings.append(wandb_setup.singleton().settings)
    assert [each.base_url for each in settings] == [
        f"https://{name}.example" for name in ("one", "two", "two")
    ]
    assert settings[1] is settings[2]  # read once per environment


def test_wandb_is_not_imported_where_the_environment_says_it_all(home):
    program = (
        "import sys, os\nfrom lockstep.tracking import has_key, wandb_mode\n"
        "assert not has_key()\nos.environ['WANDB_API_KEY'] = 'k' * 40\nassert has_key()\n"
        "assert wandb_mode('auto') == 'online'\nassert 'wandb' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


@contextmanager
def answering(status):
    """The address of a server that answers every request with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_any_answer_will_do_unless_it_says_that_the_server_is_broken(monkeypatch):
    with answering(404) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        ask_server()
    with answering(500) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(OSError, match="500"):
            ask_server()
    with pytest.raises(OSError, match="refused"):  # the server has gone
        ask_server()
    monkeypatch.setenv("WANDB_BASE_URL", "not an address")
    with pytest.raises(OSError, match="not an address: ValueError"):
        ask_server()


def test_a_certificate_of_an_unknown_authority_is_an_answer(monkeypatch):
    def fail(*_, **__):
        raise URLError(ssl.SSLCertVerificationError("unable to get local issuer certificate"))

    monkeypatch.setattr("lockstep.tracking.wandb_login.urlopen", fail)
    ask_server()

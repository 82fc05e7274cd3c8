"""Whether W&B is online, offline or disabled, and whether its server answers."""

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from lockstep.errors import ConfigError
from lockstep.tracking import ask_server, has_key, server_url, wandb_mode


def test_mode_follows_the_key(monkeypatch):
    assert wandb_mode("auto") == "offline"
    assert wandb_mode("disabled") == "disabled"
    with pytest.raises(ConfigError, match=r"tracking\.mode = 'online': no W&B key"):
        wandb_mode("online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode("auto") == wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode("auto") == "disabled"
    assert wandb_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "shared")
    with pytest.raises(ConfigError, match="WANDB_MODE = 'shared': must be online, offline, disabled, or not"):
        wandb_mode("auto")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(ConfigError, match="WANDB_MODE = 'online': no W&B key"):
        wandb_mode("auto")


def test_a_key_in_the_netrc_file_is_found(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine wandb.example login user password " + "k" * 40 + "\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert has_key()


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


def test_the_server_is_wandbs_own_unless_the_user_names_one(monkeypatch):
    assert server_url() == "https://api.wandb.ai"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert server_url() == "https://wandb.example"

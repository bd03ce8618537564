"""Flags and port: each mistake is one sentence."""

from __future__ import annotations

import socket

import pytest

from grounding.errors import SettingsError
from grounding.ui.serving import check_port_free, choose_port, launch_options, read_flags
from grounding.ui.theme import FAVICON, STYLESHEETS, build_theme
from grounding.workspace import Workspace


def test_the_defaults() -> None:
    flags = read_flags([], {})
    assert (flags.model, flags.quantize, flags.host, flags.port) == ("demo", "none", "127.0.0.1", 7860)
    assert flags.demo
    assert flags.log_in is None


@pytest.mark.parametrize(
    ("given", "environment", "port"),
    [
        ("8000", {"PORT": "9000"}, 8000),
        (None, {"PORT": "9000", "GRADIO_SERVER_PORT": "9001"}, 9000),
        (None, {"GRADIO_SERVER_PORT": "9001"}, 9001),
        (None, {"PORT": ""}, 7860),
    ],
)
def test_where_the_port_comes_from(given: str | None, environment: dict[str, str], port: int) -> None:
    assert choose_port(given, environment) == port


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "7860.0", "٣"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(SettingsError, match="port number from 1 to 65535"):
        choose_port(port, {})
    with pytest.raises(SettingsError, match="PORT is"):
        choose_port(None, {"PORT": port})


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"Port {port} on 127.0.0.1 .*--port"):
            check_port_free("127.0.0.1", port)
    check_port_free("127.0.0.1", port)


def test_a_host_that_is_none() -> None:
    with pytest.raises(SettingsError, match="can't be used"):
        check_port_free("203.0.113.7", 7860)


@pytest.mark.parametrize("arguments", [["--quantize", "3bit"], ["--unknown"], ["extra"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        read_flags(arguments, {})
    assert left.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_launch_shares_nothing_and_blocks_the_workspace(workspace: Workspace) -> None:
    options = launch_options(workspace)
    assert options["share"] is False
    assert options["blocked_paths"] == [str(workspace.root)]
    assert options["run_history"] is False


def test_nothing_of_the_looks_comes_from_the_network() -> None:
    theme = build_theme()
    assert theme._stylesheets == []
    assert "http" not in theme._get_theme_css().replace("http://www.w3.org/2000/svg", "")
    css = "".join(path.read_text(encoding="utf-8") for path in STYLESHEETS)
    assert "url(" not in css
    assert "@import" not in css
    assert FAVICON.is_file()

"""Flags and port of the app: what stands between the page and the network."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from grounding.errors import SettingsError
from grounding.ui.further import parse_also
from grounding.ui.log_in import LogIn, read_log_in
from grounding.ui.origin import SameOriginOnly
from grounding.ui.pictures import picture_route
from grounding.ui.theme import FAVICON, STYLESHEETS, build_theme
from grounding.workspace import Workspace

DEFAULT_PORT = 7860
LARGEST_UPLOAD = "64mb"
_PORT_VARIABLES = ("PORT", "GRADIO_SERVER_PORT")


@dataclass(frozen=True)
class Flags:
    """What `python app.py` was asked for. `also`: (model, quantize) of further models."""

    workspace: str | None
    model: str
    quantize: str
    also: tuple[tuple[str, str], ...]
    host: str
    port: int
    demo: bool
    log_in: LogIn | None


def read_flags(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Flags:
    """Read the command line. Raises `SettingsError` for a bad port, a further model without a name or a bad log-in
    file, `SystemExit` 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="See where a vision-language model puts the box for a phrase, fix the phrases, retrain, see again.",
    )
    parser.add_argument(
        "--workspace", metavar="DIR", help="where the work is kept (BOXWRIGHT_WORKSPACE, data/workspace)"
    )
    parser.add_argument("--model", metavar="ID", default="demo", help='"demo", a model folder, or a Hub id')
    parser.add_argument("--quantize", choices=("4bit", "8bit", "none"), default="none", help="smaller weights")
    parser.add_argument(
        "--also",
        metavar="MODEL[:4bit]",
        action="append",
        default=[],
        help="a further model that Compare offers beside it, for this start; may be given several times",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for the whole network")
    parser.add_argument("--port", metavar="N", help=f"port to listen on (PORT, GRADIO_SERVER_PORT, {DEFAULT_PORT})")
    parser.add_argument(
        "--auth", metavar="FILE", help="ask for a log-in; python -m annotate password FILE NAME makes the file"
    )
    parser.add_argument("--no-demo", action="store_true", help="begin with an empty workspace instead of the demo data")
    given = parser.parse_args(arguments)
    log_in = read_log_in(Path(given.auth)) if given.auth else None
    port = choose_port(given.port, environment)
    also = tuple(map(parse_also, given.also))
    return Flags(given.workspace, given.model, given.quantize, also, given.host, port, not given.no_demo, log_in)


def choose_port(given: str | None, environment: Mapping[str, str]) -> int:
    """The port from the flag, else $PORT, else $GRADIO_SERVER_PORT, else 7860. Raises `SettingsError`."""
    named = [("--port", given)] + [(name, environment.get(name)) for name in _PORT_VARIABLES]
    name, text = next(((name, text) for name, text in named if text), ("", str(DEFAULT_PORT)))
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SettingsError(f"{name} is {text!r}: expected a port number from 1 to 65535.")
    return int(text)


def check_port_free(host: str, port: int) -> None:
    """Raises `SettingsError` when the address can't be listened on, with the way out."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise SettingsError(
                f"Port {port} on {host} can't be used ({error.strerror or error}). "
                "Close the program that has it, or choose another with --port."
            ) from error


def serve(
    demo: gr.Blocks,
    workspace: Workspace,
    *,
    host: str,
    port: int,
    log_in: LogIn | None = None,
    stylesheets: Sequence[Path] = (),
) -> str:
    """Launch without waiting; returns the address. Raises `SettingsError` when the port can't be used."""
    check_port_free(host, port)
    options = launch_options(workspace, stylesheets)
    # Gradio awaits a coroutine function, though its own hint doesn't say so.
    _, url, _ = demo.launch(**options, server_name=host, server_port=port, auth=log_in)  # type: ignore[arg-type]
    return url


def launch_options(workspace: Workspace, stylesheets: Sequence[Path] = ()) -> dict[str, Any]:
    """What every launch of the page shares: its looks (`stylesheets` come after its own), the picture route, and
    what it must not do."""
    return {
        "theme": build_theme(),
        "css_paths": [*STYLESHEETS, *stylesheets],
        "favicon_path": FAVICON,
        "app_kwargs": {"routes": [picture_route(workspace)], "middleware": [Middleware(SameOriginOnly)]},
        # Pictures go out by their id alone: gradio itself must never hand out a file of the workspace.
        "blocked_paths": [str(workspace.root)],
        "max_file_size": LARGEST_UPLOAD,
        "show_error": True,
        "share": False,
        "run_history": False,
        # Without it gradio shows no page about the endpoints (?view=api); the footer itself is hidden.
        "footer_links": ["api"],
        "ssr_mode": False,
        "mcp_server": False,
        "enable_monitoring": False,
        "prevent_thread_lock": True,
        "quiet": True,
        "inline": False,
    }

"""Serves the page of a run on this machine until it is stopped."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import sys
from threading import Event

import gradio as gr

from segma_fast.trainer.explore.explorer import Explorer
from segma_fast.trainer.explore.page import CSS, build_page

LARGEST_FILE = "20mb"
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # nothing loaded


def start(
    explorer: Explorer, host: str = "127.0.0.1", port: int = 7860, browser: bool = False
) -> tuple[gr.Blocks, str]:  # fmt: skip
    """Start serving in threads of their own.

    Returns:
        The page, whose ``close()`` ends it, and its address.
    """
    for name in ("NO_PROXY", "no_proxy"):  # the page is asked for once, to see that it is there
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), host]))
    page = build_page(explorer)
    host = f"[{host}]" if ":" in host else host
    _, address, _ = page.launch(
        server_name=host, server_port=port, inbrowser=browser, share=False, quiet=True, prevent_thread_lock=True,
        ssr_mode=False, enable_monitoring=False, run_history=False, footer_links=[], max_file_size=LARGEST_FILE,
        theme=THEME, css=CSS,
    )  # fmt: skip
    return page, address


def check_address(host: str, port: int) -> None:
    """Check that a page can be served there.

    Raises:
        ValueError: for a port that there is not.
        OSError: if the port is taken or the host is none of this machine's.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"port must be from 1 to 65535, got {port}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            hint = "--port names another" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host names another"
            raise OSError(f"cannot serve on {host}, port {port} ({error.strerror}); {hint}") from error


def is_local(host: str) -> bool:
    """Whether only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(explorer: Explorer, host: str, port: int, browser: bool) -> None:
    """Serve until Ctrl-C."""
    if not is_local(host):
        print(f"warning: whoever reaches {host}, port {port} can use the page without a password", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that pictures of visitors are deleted
    page, address = start(explorer, host, port, browser)
    try:
        print(f"the page is at {address} · Ctrl-C ends it", flush=True)
        Event().wait()
    except KeyboardInterrupt:
        print("\nended")
    finally:
        page.close(verbose=False)

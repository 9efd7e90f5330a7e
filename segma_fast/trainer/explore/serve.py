"""Serves the page of a run on this machine until it is stopped."""

from __future__ import annotations

import ipaddress
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

    Raises:
        OSError: if the port is taken or the host is none of this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"cannot serve on {host}, port {port} ({error.strerror}); --port names another") from error
    page = build_page(explorer)
    _, address, _ = page.launch(
        server_name=host, server_port=port, inbrowser=browser, share=False, quiet=True, prevent_thread_lock=True,
        ssr_mode=False, enable_monitoring=False, run_history=False, footer_links=[], max_file_size=LARGEST_FILE,
        theme=THEME, css=CSS,
    )  # fmt: skip
    return page, address


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
    page, address = start(explorer, host, port, browser)
    try:
        print(f"the page is at {address} · Ctrl-C ends it", flush=True)
        Event().wait()
    except KeyboardInterrupt:
        print("\nended")
    finally:
        page.close(verbose=False)

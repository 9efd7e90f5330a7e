"""What the server of the page gives away, and how the command starts and ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from explored import SECRET

from segma_fast.trainer.explore import serve


@pytest.mark.parametrize("prefix", ["/gradio_api/file=", "/file=", "/gradio_api/proxy=file://", "/static/", "/assets/"])
def test_no_other_file_can_be_read(address: str, run_dir: Path, prefix: str) -> None:
    secret = run_dir / "secret.txt"
    for path in (str(secret), f"../../../../../../..{secret}", "/etc/passwd", str(run_dir / "config.json")):
        for form in (path, path.replace("/", "%2F"), path.replace("..", "%2e%2e")):
            try:
                with urllib.request.urlopen(address.rstrip("/") + prefix + form, timeout=10) as answer:
                    text = answer.read().decode(errors="replace")
            except urllib.error.HTTPError as error:
                text = error.read().decode(errors="replace")
            assert SECRET not in text and "root:" not in text and "latent_dim" not in text


def said_of(address: str, file: str, session: str) -> str:
    """What the page answers to a request of one's own that names a file of the server as the uploaded one."""
    with urllib.request.urlopen(address + "config", timeout=10) as answer:
        config = json.load(answer)
    button = next(c["id"] for c in config["components"] if c["type"] == "uploadbutton")
    entry = next(e for e in config["dependencies"] if button in e["inputs"])
    given = {"path": file, "meta": {"_type": "gradio.FileData"}}
    data = [given if number == button else None for number in entry["inputs"]]
    asked = json.dumps({"data": data, "fn_index": entry["id"], "session_hash": session}).encode()
    request = urllib.request.Request(address + "gradio_api/queue/join", asked, {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=10).read()
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    said = ""
    with urllib.request.urlopen(address + f"gradio_api/queue/data?session_hash={session}", timeout=10) as answer:
        while "process_completed" not in said:
            said += answer.readline().decode()
    return said


def test_no_other_file_can_be_named_as_input(address: str, run_dir: Path) -> None:
    boundary, own = "xyz", (run_dir / "own.png").read_bytes()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head.encode() + own + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(address + "gradio_api/upload", body, kind)
    with urllib.request.urlopen(request, timeout=10) as answer:
        uploaded = json.load(answer)[0]
    assert '"success":true' in said_of(address, uploaded, "a")
    for number, path in enumerate((run_dir / "own.png", run_dir / "secret.txt", Path("/etc/passwd"))):
        said = said_of(address, str(path), f"b{number}")
        assert '"success":true' not in said and SECRET not in said and "root:" not in said


@pytest.mark.slow
def test_command_starts_and_ends(run_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "segma_fast", "explore", "--run-dir", str(run_dir), "--no-browser", "--port"]
        refused = subprocess.run([*command, str(taken.getsockname()[1])], capture_output=True, text=True, timeout=120)
        assert refused.returncode == 2 and "--port names another" in refused.stderr
        port = str(taken.getsockname()[1])
    running = subprocess.Popen([*command, port], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert running.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = running.stdout.readline()
        assert line, said
        said += line
    assert f"http://127.0.0.1:{port}/" in said
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=30)
    assert running.returncode == 0 and "ended" in rest and "Traceback" not in rest


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("me", False)]
)
def test_hosts(host: str, local: bool) -> None:
    assert serve.is_local(host) == local


@pytest.mark.parametrize(
    ("host", "port", "said"), [("127.0.0.1", 0, "port must be"), ("nowhere.invalid", 80, "--host")]
)
def test_addresses_that_there_are_not(host: str, port: int, said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        serve.check_address(host, port)

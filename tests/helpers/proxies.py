"""Runs nginx with the configuration that configs/serving/ has, in front of replicas of a test."""

import grp
import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CONFIG = Path(__file__).parents[2] / "configs" / "serving" / "nginx.conf"
CHANGE = "# CHANGE"
START_SECONDS = 10


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def changed_config(port: int, replicas: Sequence[int], folder: Path) -> str:
    """The configuration with the lines that end with CHANGE changed, and no others."""
    places = iter(replicas)
    lines = []
    for line in CONFIG.read_text(encoding="utf-8").splitlines():
        setting, is_to_change = line.split("#")[0].strip(), line.endswith(CHANGE)
        if is_to_change:
            name, value, *rest = setting.rstrip(";").split()
            if name == "listen":
                value = f"127.0.0.1:{port}"
            elif name == "server":
                value = f"127.0.0.1:{next(places)}"
            else:
                assert value.startswith("/"), line
                value = str(folder / f"{name}{Path(value).suffix}")
            line = f"{' '.join([name, value, *rest])};"
        lines.append(line)
    assert next(places, None) is None, "the file has fewer replicas"
    return "\n".join(lines) + "\n"


@contextmanager
def nginx(replicas: Sequence[int], folder: Path) -> Iterator[int]:
    """The port of nginx in front of services on these ports, as long as the context lasts."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nginx.conf"
    file.write_text(changed_config(port, replicas, folder), encoding="utf-8")
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    options = f"daemon off; user {user} {group};"  # the folders belong to this user
    with (folder / "stderr.log").open("wb") as log:
        process = subprocess.Popen(["nginx", "-c", file, "-g", options], stdout=log, stderr=log)
    try:
        wait_for_port(process, port, folder / "stderr.log")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"did not start: {log.read_text(encoding='utf-8', errors='replace')}")

"""Our service, PaddleX 3.7.2's service, and LitServe around our predictor, in one run.

    python benchmarks/serving.py [--paddlex PYTHON] [--litserve PYTHON] [--ours SETTINGS...]
        [--models NAME...] [--exports FOLDER] [--image FILE] [--rounds 5] [--seconds 15] [--requests 30]
        [--figures FILE.json]

Each model is exported once, with weights by rule as in file_to_rle.py, and with a certified ``network.onnx``.
All sides serve that folder on the CPU: ours and LitServe with OpenVINO, PaddleX with Paddle, as it does by
default. The sides take turns, in another order in each round. A side that does not have its turn is stopped
(SIGSTOP) and uses no processor. A turn is ``--requests`` requests by one client (fewer, but at least 5, if
they take longer than ``--seconds``), then ``--seconds`` seconds with ``--clients`` clients. All send the same
body: the image in base64, and no drawing is wanted.

The table has the medians of all rounds: images per second with all clients; the processor time of the side
for each of these images, which other work on the machine changes little; the 50th and 95th percentile of the
time of a request with one client; and the peak memory. Time and memory are the sums of all processes of a
side. Each side has the threshold that leaves about ``--objects`` objects. The clients are threads of this
process and share the processors with the servers.

PaddleX needs an environment with ``paddlex[serving]==3.7.2``, LitServe one with litserve==0.2.19 and what
this toolkit requires. A side whose Python is not given is left out.
"""

import argparse
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from file_to_rle import drawn_photograph, exported, threshold_for
from sides import NUM_CORES, PROJECT, machine_and_date

MODELS = ("PP-YOLOE_seg-S", "Mask-RT-DETR-S")
PATH = "/instance-segmentation"
START_SECONDS = 180
WARM_UP = 5
LEAST_REQUESTS = 5
OURS, PADDLEX = "ours", "PaddleX"


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    print(*machine_and_date(), sep=", ", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        work = options.exports or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        image = base64.b64encode((options.image or drawn_photograph(work)).read_bytes()).decode()
        # Whoever ends this run, the servers end too. Paddle, which drew the image, has its own handler.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
        for name in options.models:
            model_dir = certified(exported(name, work))
            with ExitStack() as stack, tempfile.TemporaryDirectory() as logs:
                servers = start_all(name, model_dir, options, Path(logs), stack)
                rows.append(compare(name, servers, image, options))
            print(table(rows[-1]), flush=True)
    if options.figures:
        options.figures.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def certified(model_dir: Path) -> Path:
    """The folder, with a certificate of its ONNX file: without one, the service does not use the file."""
    if not (model_dir / "certificate.json").exists():
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-m", "paddlex_seg", "--paddle2onnx", "--paddle_model_dir", str(model_dir)]
        subprocess.run(command, check=True, env=environment)
    return model_dir


@dataclass
class Server:
    """A running service, in a process group of its own, and what was measured of it."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    body: bytes = b""
    objects: int = 0
    rates: list[float] = field(default_factory=list)  # images per second, all clients
    p95: list[float] = field(default_factory=list)  # seconds, one client
    p50: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # seconds of processors for an image, all clients

    def let_run(self, wanted: bool) -> None:
        """Let it run, or stop it until it is let run again."""
        os.killpg(self.process.pid, signal.SIGCONT if wanted else signal.SIGSTOP)

    def close(self) -> None:
        """End all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_all(
    name: str, model_dir: Path, options: argparse.Namespace, logs: Path, stack: ExitStack
) -> list[Server]:
    """All servers, ready and stopped."""
    own = {**os.environ, "PYTHONPATH": str(PROJECT)}
    other = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        "PADDLE_PDX_CPU_NUM_THREADS": str(NUM_CORES),  # PaddleX would use 10, whatever the machine has
        "PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK": "True",
    }
    servers = []

    def start(title: str, environment: dict[str, str], port: int, *command: str | Path) -> None:
        log = logs / f"{title}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env=environment, cwd=logs, start_new_session=True
            )
        server = Server(title, process, port)
        stack.callback(server.close)
        wait_until_ready(server, log)
        server.let_run(False)
        servers.append(server)

    def serve(port: int, **more: str) -> tuple[str, ...]:
        file = pipeline_file(name, model_dir, logs / f"{port}.yaml", **more)
        return "--serve", "--pipeline", str(file), "--host", "127.0.0.1", "--port", str(port)

    for overrides in map(str.split, options.ours):
        port, title = free_port(), ", ".join([OURS, *overrides])
        arguments = *serve(port, backend="openvino"), *(["-o", *overrides] if overrides else [])
        start(title, own, port, sys.executable, "-m", "paddlex_seg", *arguments)
    if options.paddlex:
        port = free_port()
        start(PADDLEX, other, port, options.paddlex, "-m", "paddlex", *serve(port))
    for workers in options.litserve_workers if options.litserve else ():
        port, script = free_port(), Path(__file__).with_name("serving_litserve.py")
        arguments = str(model_dir.resolve()), str(port), str(workers)
        start(f"LitServe, {workers} worker(s)", own, port, options.litserve, script, *arguments)
    return servers


def pipeline_file(name: str, model_dir: Path, file: Path, **more: str) -> Path:
    """A pipeline YAML that both toolkits read. more: keys of the model that are ours."""
    model = {
        "module_name": "instance_segmentation",
        "model_name": name,
        "model_dir": str(model_dir.resolve()),
        "batch_size": 1,
        "threshold": 0.5,
        **more,
    }
    settings = {"pipeline_name": "instance_segmentation", "SubModules": {"InstanceSegmentation": model}}
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    return file


def wait_until_ready(server: Server, log: Path) -> None:
    """Return once it answers; ends this run with its log if it does not."""
    end = time.monotonic() + START_SECONDS
    path = "/ready" if server.name.startswith(OURS) else "/health"
    while time.monotonic() < end and server.process.poll() is None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    sys.exit(f"{server.name} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def compare(name: str, servers: Sequence[Server], image: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of all servers for one model."""
    for server in servers:
        server.let_run(True)
        set_threshold(server, image, options.objects)
        for _ in range(WARM_UP):
            one_client(server, 1, options.seconds)
        many_clients(server, options.clients, 1)
        server.let_run(False)
    for number in range(options.rounds):
        turn = number % len(servers)
        for server in (*servers[turn:], *servers[:turn]):
            server.let_run(True)
            seconds = one_client(server, options.requests, options.seconds)
            server.p50.append(float(np.percentile(seconds, 50)))
            server.p95.append(float(np.percentile(seconds, 95)))
            before = cpu_seconds_of_group(server.process.pid)
            images, seconds_of_all = many_clients(server, options.clients, options.seconds)
            server.rates.append(images / seconds_of_all)
            server.cpu.append((cpu_seconds_of_group(server.process.pid) - before) / images)
            server.let_run(False)
    return {
        "model": name,
        "clients": options.clients,
        "sides": {
            server.name: {
                "images_per_second": median(server.rates),
                "cpu_seconds": median(server.cpu),
                "p50": median(server.p50),
                "p95": median(server.p95),
                "peak_memory_mb": peak_memory_of_group_mb(server.process.pid),
                "objects": server.objects,
                "all_images_per_second": server.rates,
                "all_p95": server.p95,
            }
            for server in servers
        },
    }


def set_threshold(server: Server, image: str, objects: int) -> None:
    """Choose the threshold that leaves about so many objects of this side, whose scores may be its own."""

    def found(threshold: float) -> list[float]:
        server.body = json.dumps({"image": image, "visualize": False, "threshold": threshold}).encode()
        reply = json.loads(post(connect(server), server))
        assert reply["errorCode"] == 0, reply
        return [one["score"] for one in reply["result"]["instances"]]

    server.objects = len(found(threshold_for({"scores": found(1e-6)}, objects)))


def connect(server: Server) -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def post(connection: HTTPConnection, server: Server) -> bytes:
    """The reply to one request. Ends this run if it is not 200: a refused request is no fast request."""
    connection.request("POST", PATH, server.body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        sys.exit(f"{server.name} answered {response.status}: {body[:500]!r}")
    return body


def one_client(server: Server, requests: int, most_seconds: float) -> list[float]:
    """Seconds of each request, one after the other over one connection.

    After most_seconds, `LEAST_REQUESTS` are enough.
    """
    connection, seconds = connect(server), list[float]()
    while len(seconds) < requests and (sum(seconds) < most_seconds or len(seconds) < LEAST_REQUESTS):
        start = time.perf_counter()
        post(connection, server)
        seconds.append(time.perf_counter() - start)
    connection.close()
    return seconds


def many_clients(server: Server, clients: int, seconds: float) -> tuple[int, float]:
    """Images, and the seconds that they took, of clients that send their next request after the reply.

    Counts until the last reply, so that requests that begin before the end are not cut off.
    """
    start = time.perf_counter()
    ends: list[float] = []

    def work() -> None:
        connection = connect(server)
        while time.perf_counter() < start + seconds:
            post(connection, server)
            ends.append(time.perf_counter())
        connection.close()

    with ThreadPoolExecutor(clients) as threads:
        for client in [threads.submit(work) for _ in range(clients)]:
            client.result()  # a refused request ends this run
    return len(ends), max(ends) - start


def peak_memory_of_group_mb(group: int) -> float:
    """The sum of the peak memory of all processes of a group, in 10^6 bytes. Linux only."""
    lines = [line for folder in processes_of(group) for line in read(folder / "status").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def cpu_seconds_of_group(group: int) -> float:
    """The time that all processes of a group have used processors. Linux only."""
    ticks = 0
    for folder in processes_of(group):
        after_name = read(folder / "stat").rpartition(")")[2].split()
        ticks += sum(map(int, after_name[11:13]))  # in user and in system mode
    return ticks / os.sysconf("SC_CLK_TCK")


def processes_of(group: int) -> list[Path]:
    """The folders in /proc of all processes of a group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if os.getpgid(int(folder.name)) == group:
                found.append(folder)
    return found


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def table(row: Mapping[str, Any]) -> str:
    sides = row["sides"]
    lines = [
        "",
        f"{row['model']}",
        "",
        f"| service | images/s, {row['clients']} clients | lowest..highest | ours / this "
        "| CPU ms for an image | p50 ms, 1 client | p95 ms, 1 client | ours / this | peak MB | objects |",
        "|---" * 10 + "|",
    ]
    ours = next((one for name, one in sides.items() if name.startswith(OURS)), None)
    for name, one in sides.items():
        rates = one["all_images_per_second"]
        cells = [
            name,
            f"{one['images_per_second']:.2f}",
            f"{min(rates):.2f}..{max(rates):.2f}",
            f"{ours['images_per_second'] / one['images_per_second']:.2f}" if ours else "",
            f"{1000 * one['cpu_seconds']:.0f}",
            f"{1000 * one['p50']:.1f}",
            f"{1000 * one['p95']:.1f}",
            f"{ours['p95'] / one['p95']:.2f}" if ours else "",
            f"{one['peak_memory_mb']:.0f}",
            str(one["objects"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare services around the same exported model.")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--exports", type=Path, help="folder of the exported models")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--requests", type=int, default=30, help="of the one client, in each round")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--paddlex", type=Path, metavar="PYTHON")
    parser.add_argument("--litserve", type=Path, metavar="PYTHON")
    parser.add_argument("--litserve_workers", type=int, nargs="+", default=(1, 2))
    parser.add_argument(
        "--ours",
        nargs="*",
        default=[""],
        metavar="SETTINGS",
        help="our service once with each of these settings, such as '' 'Serving.workers=2'",
    )
    parser.add_argument("--figures", type=Path, help="file to write the figures to, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())

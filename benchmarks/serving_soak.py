"""Memory and open files of the service during thousands of mixed requests, with a model of 20 ms.

20 % of the requests are mistakes, and 10 % of the clients close the connection without waiting. Run:
``python benchmarks/serving_soak.py --requests 3000``. The service is a process of its own. With
``--command``, it is a command instead, such as ``--command --serve --pipeline my.yaml``.
"""

import argparse
import asyncio
import base64
import os
import random
import sys
import time
from pathlib import Path

import httpx
import numpy as np

HELPERS = Path(__file__).parent.parent / "tests" / "helpers"
sys.path.insert(0, str(HELPERS))
from serve_command import serve_command  # noqa: E402
from served_model import TwentyMsModel, coded_image  # noqa: E402

from paddlex_seg.config.schema import ServingConfig  # noqa: E402
from paddlex_seg.runtime.log import start_log  # noqa: E402
from paddlex_seg.serving.server import serve  # noqa: E402

PATH = "/instance-segmentation"
CLIENTS = 8
EVERY = 100  # requests between two looks at the memory
WARM_UP = 0.2  # part of the requests that is left out of the slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--toy", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--command", nargs=argparse.REMAINDER, help="options of our command line")
    options = parser.parse_args()
    if options.toy:
        start_log()
        serve(lambda device: TwentyMsModel(), ["cpu"], ServingConfig(port=0))
        return
    own = [__file__, "--toy"]
    command = ["-m", "paddlex_seg", *options.command, "--port", "0"] if options.command else own
    with serve_command(*command, starter=[]) as running:
        rows = asyncio.run(send_all(running.url, running.process.pid, options.requests))
        assert running.stop() == 0
    kept = np.array([row for row in rows if row[0] >= WARM_UP * options.requests])
    slope = np.polyfit(kept[:, 0] / 1000, kept[:, 1], 1)[0]
    print("memory in MB:", *(f"{row[1]:.0f}" for row in rows[:: max(1, len(rows) // 20)]))
    print(f"memory {kept[0, 1]:.1f} to {kept[-1, 1]:.1f} MB, slope {slope:+.2f} MB per 1,000 requests")
    print(f"open files {kept[0, 2]:.0f} to {kept[-1, 2]:.0f}, at most {kept[:, 2].max():.0f}")
    print(f"threads {kept[0, 3]:.0f} to {kept[-1, 3]:.0f}")


async def send_all(url: str, pid: int, requests: int) -> list[tuple[int, float, int, int]]:
    """Rows of the requests so far, memory in MB, open files and threads."""
    rng, statuses, rows = random.Random(0), dict[str, int](), []
    todo = iter(range(requests))
    start = time.monotonic()

    async def client() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
            for number in todo:
                kind = rng.random()
                status = await (abort(url, number) if kind < 0.1 else send(http, number, kind < 0.3, rng))
                statuses[status] = statuses.get(status, 0) + 1
                if number % EVERY == 0:
                    rows.append((number, *state(pid)))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    print(f"{requests} requests in {time.monotonic() - start:.0f} s: {dict(sorted(statuses.items()))}")
    return sorted(rows)


async def send(http: httpx.AsyncClient, number: int, is_bad: bool, rng: random.Random) -> str:
    """The status of a request. Images have 6,000 to 2,000,000 pixels."""
    if is_bad:
        bad = [b"text", b"", coded_image(number)[:100], b"{", b"\x89PNG\r\n\x1a\n" + bytes(100)]
        headers = {"Content-Type": rng.choice(["image/png", "application/json", "multipart/form-data"])}
        return str((await http.post(PATH, content=rng.choice(bad), headers=headers)).status_code)
    width, height = rng.randint(96, 1600), rng.randint(64, 1200)
    image = coded_image(number, width, height)
    if rng.random() < 0.5:
        body = {"image": base64.b64encode(image).decode(), "visualize": rng.random() < 0.3}
        return str((await http.post(PATH, json=body)).status_code)
    return str((await http.post(PATH, files={"image": image}, data={"visualize": "false"})).status_code)


async def abort(url: str, number: int) -> str:
    """Send a request, or a part of it, and close the connection."""
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    image = coded_image(number, 640, 480)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(image)}\r\n\r\n"
    )
    writer.write(head.encode() + (image if number % 2 else image[: len(image) // 2]))
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.close()
    return "closed"


def state(pid: int) -> tuple[float, int, int]:
    """Memory in MB (2**20), open files and threads of a process."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    )
    memory = int(fields["VmRSS"].split()[0]) / 1024
    return memory, len(os.listdir(f"/proc/{pid}/fd")), int(fields["Threads"])


if __name__ == "__main__":
    main()

"""Starting and supervising the processes of a distributed run, from the command that a person started.

    command -> paddle.distributed.launch -> a guard per rank (rank_guard.py) -> the same command as a rank

Paddle's launcher brings machines together and sets up what ranks need to find each other on any kind of
device. All else is done here, since it ends ranks the moment it is told to end, notices a dead one late, and
does not say of which signal: log lines, signals, and the end of all ranks when one has died. The processes
tell each other by small files in the log folder (rank_notes.py). Whoever is killed, whatever stands behind it
ends by itself.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from paddlex_seg.config.schema import Config
from paddlex_seg.errors import BackendError, ConfigError
from paddlex_seg.runtime.environment import end_with_parent, launcher_environment, visible_devices
from paddlex_seg.runtime.rank_notes import (
    LAUNCHER_LOG,
    TERMINAL_LOG,
    Failure,
    clear_notes,
    read_failures,
    read_workers,
)

LOGGER = logging.getLogger(__name__)
DISTRIBUTED_MODES = ("train", "evaluate")
MASTER_PORT = 6070  # of Train.dist_ips; the one that Paddle's launcher starts from
POLL_SECONDS = 0.1
FAILURE_SECONDS = 3.0  # for the other ranks to end by themselves when one has failed
STOP_SECONDS = 12.0  # for all of them to finish a step and save when the command is told to end
LAUNCHER_SECONDS = 5.0  # for the launcher to end when no rank is left
PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Not "-m": when main.py of a checkout runs from elsewhere, only it has the checkout on its import path.
RUN_GUARD = (
    f"import sys; sys.path.append({PACKAGE_ROOT!r}); "
    "from paddlex_seg.runtime.rank_guard import main; sys.exit(main())"
)


@dataclass(frozen=True)
class LaunchPlan:
    """What is to be started on this machine."""

    kind: str  # of device, as in Global.device
    devices: tuple[int, ...]  # one for each process; empty on the CPU
    num_processes: int  # on this machine
    nnodes: int
    master: str | None  # host:port, when there are several machines


def launch_plan(cfg: Config) -> LaunchPlan | None:
    """What a configuration asks for; None for a run of one process.

    Raises ConfigError for settings that contradict each other.
    """
    if cfg.Global.mode not in DISTRIBUTED_MODES:
        return None
    nnodes, master = _machines(cfg)
    kind, _, ids = cfg.Global.device.partition(":")
    devices = tuple(int(index) for index in ids.split(",")) if ids else ()
    if len(set(devices)) < len(devices):
        raise ConfigError(f"Global.device is {cfg.Global.device}: name each device once.")
    num_processes = cfg.Train.num_processes
    if num_processes > 1 and kind != "cpu":
        raise ConfigError(
            f"Train.num_processes is {num_processes}, but Global.device is {cfg.Global.device}. It is meant "
            f"for Global.device=cpu; on other devices name one for each process, such as gpu:0,1."
        )
    if nnodes > 1 and kind == "auto":
        raise ConfigError(
            "Global.device is auto; on several machines name the devices, such as gpu:0,1 or cpu."
        )
    if kind not in ("auto", "cpu"):
        devices = devices or (0,)
        num_processes = len(devices)
    if num_processes * nnodes == 1:
        return None
    return LaunchPlan(kind, devices, num_processes, nnodes, master)


def run_ranks(plan: LaunchPlan, command: Sequence[str], log_dir: Path) -> Failure | None:
    """Run ``command`` as every rank of the plan, wait for all, and return how the run failed, if it did.

    While it runs, the log lines of rank 0 are printed. SIGINT and SIGTERM are passed on to each rank once;
    what does not end within 12 seconds is killed. When one rank fails, the others are ended within a few
    seconds. Raises BackendError when machines could not find each other. For the main thread.
    """
    if plan.master is not None:
        plan = replace(plan, master=reachable_master(plan.master))
    clear_notes(log_dir)
    LOGGER.info(
        "Starting %d process(es)%s; logs are in %s.",
        plan.num_processes,
        f" on this machine; the run begins when all {plan.nnodes} have" if plan.nnodes > 1 else "",
        log_dir,
    )
    with received_signals() as received, (log_dir / LAUNCHER_LOG).open("wb") as log:
        launcher = subprocess.Popen(
            launch_command(plan, command, log_dir),
            env=launcher_environment(plan.kind, plan.num_processes),
            stdout=subprocess.DEVNULL,  # repeats the log of rank 0
            stderr=log,
            start_new_session=True,  # out of reach of Ctrl-C
            preexec_fn=end_with_parent,
        )
        supervision = Supervision(launcher, plan, log_dir, received)
        try:
            while launcher.poll() is None:
                supervision.look()
                time.sleep(POLL_SECONDS)
        finally:
            supervision.end_all()
        return supervision.outcome()


class Supervision:
    """What the command knows of its processes while they run."""

    def __init__(
        self, launcher: subprocess.Popen, plan: LaunchPlan, log_dir: Path, received: list[int]
    ) -> None:
        self.launcher, self.plan, self.log_dir, self.received = launcher, plan, log_dir, received
        self.begun = False  # once all ranks have started
        self.passed_on = 0  # of the received signals
        self.stopped: float | None = None  # when the first signal came, in seconds since 1970
        self.deadline: float | None = None  # when ranks are killed
        self.killed = False
        self.shown = 0  # bytes of the terminal log

    def look(self) -> None:
        """One look at everything; called several times a second."""
        self.show_log_lines()
        self.begun = self.begun or len(read_workers(self.log_dir)) == self.plan.num_processes
        if len(self.received) > self.passed_on:
            self._pass_on()
        if self.deadline is None and read_failures(self.log_dir):
            self.deadline = time.monotonic() + FAILURE_SECONDS
        if self.deadline is None or time.monotonic() < self.deadline:
            return
        if self.killed:
            self.launcher.kill()
            return
        _signal_all(read_workers(self.log_dir).values(), signal.SIGKILL)
        self.killed, self.deadline = True, time.monotonic() + LAUNCHER_SECONDS

    def show_log_lines(self) -> None:
        """Print the complete lines that rank 0 has logged since the last call."""
        with suppress(FileNotFoundError), (self.log_dir / TERMINAL_LOG).open("rb") as file:
            file.seek(self.shown)
            lines, newline, _ = file.read().rpartition(b"\n")
            self.shown += len(lines) + len(newline)
            sys.stdout.write((lines + newline).decode("utf-8"))
            sys.stdout.flush()

    def end_all(self) -> None:
        """Leave no process behind, however the launcher ended."""
        self.launcher.kill()
        self.launcher.wait()
        _signal_all(read_workers(self.log_dir).values(), signal.SIGKILL)
        self.show_log_lines()

    def outcome(self) -> Failure | None:
        """How the run failed, if it did: by the first failure, unless it was told to end before that."""
        noted = read_failures(self.log_dir)
        failures = [note for note in noted if self.stopped is None or note.time < self.stopped]
        if failures and self.plan.nnodes > 1:
            hint = "If the connection is gone, the reason is on another machine of the run."
            return replace(failures[0], message=f"{failures[0].message}\n{hint}")
        if failures:
            return failures[0]
        code = self.launcher.returncode
        if code == 0:
            return None
        if self.stopped is not None:
            orderly = [note for note in noted if "KeyboardInterrupt" in note.err_type and note.err_msg]
            return orderly[0] if orderly else Failure.of(KeyboardInterrupt(), "interrupted", 1)
        error = BackendError(
            f"The launcher of the processes ended with code {code}. Its log is {self.log_dir / LAUNCHER_LOG}."
        )
        return Failure.of(error, f"Error: {error}", error.exit_code)

    def _pass_on(self) -> None:
        """Pass the first signal on to all ranks; the second one, or one before all ranks run, ends them."""
        number = self.received[self.passed_on]
        self.passed_on += 1
        if self.stopped is not None or not self.begun:
            self.stopped = self.stopped or time.time()
            self.launcher.kill()  # the guards see it, and end the ranks
            return
        self.stopped = time.time()
        self.deadline = self.deadline or time.monotonic() + STOP_SECONDS
        _signal_all(read_workers(self.log_dir).values(), number)


@contextmanager
def received_signals() -> Iterator[list[int]]:
    """Inside, SIGINT and SIGTERM do nothing but be listed, in the order in which they came."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launch_command(plan: LaunchPlan, command: Sequence[str], log_dir: Path) -> list[str]:
    """The command line of Paddle's launcher for a plan."""
    options = ["--log_dir", str(log_dir), "--max_restart", "0", "--enable_gpu_log", "false"]
    if plan.devices:
        options += ["--devices", ",".join(_labels(plan))]
    else:
        options += ["--nproc_per_node", str(plan.num_processes)]
    if plan.master is not None:
        options += ["--nnodes", str(plan.nnodes), "--master", plan.master]
    guard = [sys.executable, "-u", "-c", RUN_GUARD]
    return [sys.executable, "-m", "paddle.distributed.launch", *options, *guard, *command]


def log_folder(cfg: Config) -> Path:
    """Where the processes of a distributed run leave their logs; each machine has a folder of its own."""
    folder = Path(cfg.Global.output).resolve() / f"distributed_{cfg.Global.mode}_logs"
    several_machines = cfg.Train.nnodes > 1 or len(cfg.Train.dist_ips or ()) > 1
    return folder / socket.gethostname() if several_machines else folder


def reachable_master(master: str) -> str:
    """``host:port`` with the host as a number, once it is sure that Paddle's launcher can work with it.

    The launcher is the master if the name of its machine stands for the master's address, and else waits for
    ever. Raises BackendError when the names of the machines are not set up for that.
    """
    host, _, port = master.partition(":")
    name = socket.gethostname()
    try:
        address, own_address = socket.gethostbyname(host), socket.gethostbyname(socket.getfqdn(name))
    except OSError as error:
        raise BackendError(
            f"{host} or {name}, the name of this machine, is no known host: {error}."
        ) from error
    is_loopback = own_address.startswith("127.") and not address.startswith("127.")
    if is_loopback or (address != "127.0.0.1" and address != own_address and _is_here(address)):
        raise BackendError(
            f"This machine is called {name}, which stands for {own_address}; the others of the run must be "
            f"able to reach it by that, and {address} is the master. Correct that in /etc/hosts."
        )
    return f"{address}:{port}"


def _is_here(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _machines(cfg: Config) -> tuple[int, str | None]:
    """How many machines take part, and the host:port at which they meet."""
    nnodes, master, addresses = cfg.Train.nnodes, cfg.Train.master, cfg.Train.dist_ips
    if addresses is not None:
        if nnodes not in (1, len(addresses)):
            raise ConfigError(
                f"Train.nnodes is {nnodes}, but Train.dist_ips lists {len(addresses)} machines. Leave "
                "nnodes out."
            )
        if master is not None:
            raise ConfigError(
                "Train.master and Train.dist_ips are both set. Leave one out; the first of dist_ips is the "
                "master."
            )
        if len(set(addresses)) < len(addresses):
            raise ConfigError(f"Train.dist_ips lists a machine twice: {', '.join(addresses)}.")
        nnodes, master = len(addresses), f"{addresses[0]}:{MASTER_PORT}"
    elif (nnodes > 1) != (master is not None):
        raise ConfigError(
            f"Train.nnodes is {nnodes} and Train.master is {master}. For several machines set both, such as "
            "Train.nnodes=2 and Train.master=10.0.0.1:6070; for one machine leave both out."
        )
    return (nnodes, master) if nnodes > 1 else (1, None)


def _labels(plan: LaunchPlan) -> list[str]:
    """The devices as the launcher names them: by what the environment calls them where it shows only some."""
    visible = visible_devices(plan.kind)
    if visible is None:
        return [str(index) for index in plan.devices]
    if max(plan.devices) >= len(visible):
        raise ConfigError(
            f"Global.device names {plan.kind}:{max(plan.devices)}, but the environment lets {len(visible)} "
            "devices be seen, numbered from 0."
        )
    return [visible[index] for index in plan.devices]


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

"""Start and supervise the processes of a distributed run, in the command that the user started.

    command -> paddle.distributed.launch -> a guard per rank (rank_guard.py) -> the same command as a rank

Paddle's launcher connects machines and sets up what ranks need to find each other on any kind of device. But
it ends ranks at once when it is told to end, notices a dead rank late, and does not report the signal that
killed it. Therefore log lines, signals, and ending all ranks when one has died are handled here. The
processes communicate through small files in the log folder (rank_notes.py). When a process in this chain is
killed, all processes after it end too.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

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
from paddlex_seg.runtime.stop_signals import STOP_SIGNALS, catch, give_back

LOGGER = logging.getLogger(__name__)
DISTRIBUTED_MODES = ("train", "evaluate")
MASTER_PORT = 6070  # used with Train.dist_ips; the first port that Paddle's launcher tries
POLL_SECONDS = 0.1
FAILURE_SECONDS = 3.0  # time for the other ranks to end on their own after one rank has failed
STOP_SECONDS = 12.0  # time for all ranks to finish a step and save after a stop signal
REPORT_SECONDS = 10.0  # time for the guards to report, after all ranks were killed
PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Not "-m": when main.py of a checkout is run from another folder, a new process cannot import the checkout.
RUN_GUARD = (
    f"import sys; sys.path.append({PACKAGE_ROOT!r}); "
    "from paddlex_seg.runtime.rank_guard import main; sys.exit(main())"
)


@dataclass(frozen=True)
class LaunchPlan:
    """The processes to start on this machine."""

    kind: str  # of device, as in Global.device
    devices: tuple[int, ...]  # one for each process; empty on the CPU
    num_processes: int  # on this machine
    nnodes: int
    master: str | None  # host:port for several machines, else None


def launch_plan(cfg: Config) -> LaunchPlan | None:
    """The processes that a configuration requires; None for a run of one process.

    Raises ConfigError for contradictory settings.
    """
    if cfg.Global.mode not in DISTRIBUTED_MODES or (
        cfg.Global.mode == "evaluate" and cfg.Evaluate.predictions is not None
    ):
        return None
    nnodes, master = _machines(cfg)
    kind, _, ids = cfg.Global.device.partition(":")
    devices = tuple(int(index) for index in ids.split(",")) if ids else ()
    if len(set(devices)) < len(devices):
        raise ConfigError(f"Global.device is {cfg.Global.device}: name each device once.")
    num_processes = cfg.Train.num_processes
    if num_processes > 1 and kind != "cpu":
        raise ConfigError(
            f"Train.num_processes is {num_processes}, but Global.device is {cfg.Global.device}. "
            f"Train.num_processes is for Global.device=cpu. For other devices, list one device per process, "
            f"such as gpu:0,1."
        )
    if nnodes > 1 and kind == "auto":
        raise ConfigError(
            "Global.device is auto. On several machines, name the devices, such as gpu:0,1 or cpu."
        )
    if kind not in ("auto", "cpu"):
        devices = devices or (0,)
        num_processes = len(devices)
    if num_processes * nnodes == 1:
        return None
    return LaunchPlan(kind, devices, num_processes, nnodes, master)


def run_ranks(plan: LaunchPlan, command: Sequence[str], log_dir: Path) -> Failure | None:
    """Run ``command`` as every rank of the plan, wait for all ranks, and return the failure, if any.

    The log lines of rank 0 are printed while it runs. The first stop signal is passed on to each rank; ranks
    that do not end within 12 seconds are killed. When one rank fails, the other ranks are ended within
    a few seconds. Raises BackendError when the machines cannot find each other. Must be called in the main
    thread.
    """
    if plan.master is not None:
        plan = replace(plan, master=reachable_master(plan.master))
    clear_notes(log_dir)
    LOGGER.info(
        "Starting %d process(es)%s; logs are in %s.",
        plan.num_processes,
        f" on this machine. The run starts when all {plan.nnodes} machines are ready"
        if plan.nnodes > 1
        else "",
        log_dir,
    )
    with received_signals() as received, (log_dir / LAUNCHER_LOG).open("wb") as log:
        launcher = subprocess.Popen(
            launch_command(plan, command, log_dir),
            env=launcher_environment(plan.kind, plan.num_processes),
            stdout=subprocess.DEVNULL,  # it only repeats the log of rank 0
            stderr=log,
            start_new_session=True,  # so that Ctrl-C does not reach it
            preexec_fn=begin_launcher,
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
    """The state of a distributed run, as the command observes it."""

    def __init__(
        self, launcher: subprocess.Popen, plan: LaunchPlan, log_dir: Path, received: list[int]
    ) -> None:
        self.launcher, self.plan, self.log_dir, self.received = launcher, plan, log_dir, received
        self.begun = False  # whether all ranks have started
        self.passed_on = 0  # number of received signals that were passed on
        self.stopped: float | None = None  # time of the first signal, in seconds since 1970
        self.deadline: float | None = None  # time.monotonic() at which ranks are killed
        self.is_late = False  # whether the deadline has passed once, and ranks were killed
        self.killed: set[int] = set()  # their process ids
        self.shown = 0  # bytes of the terminal log that were printed

    def look(self) -> None:
        """Check log lines, signals, failures and deadlines once. Called several times a second."""
        self.show_log_lines()
        self.begun = self.begun or len(read_workers(self.log_dir)) == self.plan.num_processes
        if len(self.received) > self.passed_on:
            self._pass_on()
        if read_failures(self.log_dir):
            self.deadline = self.deadline or time.monotonic() + FAILURE_SECONDS
            self._wait_for_reports()
        if self.deadline is None or time.monotonic() < self.deadline:
            return
        if self.is_late:
            self.launcher.kill()
            return
        self._kill_ranks()
        self.is_late, self.deadline = True, time.monotonic() + REPORT_SECONDS

    def _wait_for_reports(self) -> None:
        """After a failure: end the launcher when all guards have reported how their ranks ended."""
        if self.begun:
            self.launcher.send_signal(signal.SIGSTOP)  # it would end guards that have not yet reported
            if not read_workers(self.log_dir):
                self.launcher.kill()

    def show_log_lines(self) -> None:
        """Print the complete lines that rank 0 has logged since the last call."""
        with suppress(FileNotFoundError), (self.log_dir / TERMINAL_LOG).open("rb") as file:
            file.seek(self.shown)
            lines, newline, _ = file.read().rpartition(b"\n")
            self.shown += len(lines) + len(newline)
            sys.stdout.write((lines + newline).decode("utf-8", "replace"))
            sys.stdout.flush()

    def end_all(self) -> None:
        """End all processes, however the launcher ended."""
        self.launcher.kill()
        self.launcher.wait()
        self._kill_ranks()
        self.show_log_lines()

    def outcome(self) -> Failure | None:
        """The failure of the run, if any, unless a stop signal came before it.

        A rank that ended without a message is the cause, whenever that was noted: its end breaks the
        connections of the other ranks, and these may report it earlier. Otherwise the first failure is.
        """
        noted = [note for note in read_failures(self.log_dir) if note.ended_pid not in self.killed]
        noted.sort(key=lambda note: note.ended_pid is None)
        failures = [note for note in noted if self.stopped is None or note.time < self.stopped]
        if failures and self.plan.nnodes > 1:
            hint = (
                "If this is a lost connection, see the logs of the other machines of the run for the cause."
            )
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
            f"The launcher of the processes ended with exit code {code}. See its log, "
            f"{self.log_dir / LAUNCHER_LOG}."
        )
        return Failure.of(error, f"Error: {error}", error.exit_code)

    def _kill_ranks(self) -> None:
        """Kill the ranks that still run. One that had ended before is not counted as killed."""
        for pid in read_workers(self.log_dir).values():
            if _is_running(pid):
                self.killed.add(pid)
                _signal(pid, signal.SIGKILL)

    def _pass_on(self) -> None:
        """Pass the first signal on to all ranks. A second one, or one before all ranks run, kills them."""
        number = self.received[self.passed_on]
        self.passed_on += 1
        if self.stopped is not None or not self.begun:
            self.stopped = self.stopped or time.time()
            self.launcher.kill()  # the guards notice this and kill the ranks
            return
        self.stopped = time.time()
        self.deadline = self.deadline or time.monotonic() + STOP_SECONDS
        for pid in read_workers(self.log_dir).values():
            _signal(pid, number)


@contextmanager
def received_signals() -> Iterator[list[int]]:
    """Inside the context, stop signals are only appended to the yielded list."""
    received: list[int] = []

    before = catch(received.append)
    try:
        yield received
    finally:
        give_back(before)


def begin_launcher() -> None:
    """Set up the process of the launcher. Stop signals do not reach it, only those that the command sends."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


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
    """The log folder of a distributed run. With several machines, each has its own folder."""
    folder = Path(cfg.Global.output).resolve() / f"distributed_{cfg.Global.mode}_logs"
    several_machines = cfg.Train.nnodes > 1 or len(cfg.Train.dist_ips or ()) > 1
    return folder / socket.gethostname() if several_machines else folder


def on_several_machines(nnodes: object, dist_ips: object) -> bool:
    """Whether ``Train.nnodes`` or ``Train.dist_ips``, checked or not, asks for several machines."""
    return str(nnodes).strip() not in ("None", "1") or dist_ips is not None


def reachable_master(master: str) -> str:
    """``host:port`` with the host as an IP address, checked so that Paddle's launcher can work with it.

    The launcher acts as the master when the name of its machine resolves to the master's address. If no
    launcher does, all of them wait forever. Raises BackendError when the name of this machine does not
    resolve as needed.
    """
    host, _, port = master.partition(":")
    name = socket.gethostname()
    try:
        address, own_address = socket.gethostbyname(host), socket.gethostbyname(socket.getfqdn(name))
    except OSError as error:
        raise BackendError(
            f"{host} or {name} (the name of this machine) cannot be resolved to an address: {error}. "
            "Correct the name, or add it to /etc/hosts."
        ) from error
    is_loopback = own_address.startswith("127.") and not address.startswith("127.")
    if is_loopback or (address != "127.0.0.1" and address != own_address and _is_here(address)):
        raise BackendError(
            f"The name of this machine, {name}, resolves to {own_address}. The other machines of the run, "
            f"with the master {address}, must be able to reach it there. Correct it in /etc/hosts."
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
    """The number of machines, and host:port of the master."""
    nnodes, master, addresses = cfg.Train.nnodes, cfg.Train.master, cfg.Train.dist_ips
    if addresses is not None:
        if nnodes not in (1, len(addresses)):
            raise ConfigError(
                f"Train.nnodes is {nnodes}, but Train.dist_ips lists {len(addresses)} machines. Do not set "
                "nnodes."
            )
        if master is not None:
            raise ConfigError(
                "Train.master and Train.dist_ips are both set. Set only one of them; the first machine of "
                "dist_ips is the master."
            )
        if len(set(addresses)) < len(addresses):
            raise ConfigError(f"Train.dist_ips lists a machine twice: {', '.join(addresses)}.")
        nnodes, master = len(addresses), f"{addresses[0]}:{MASTER_PORT}"
    elif (nnodes > 1) != (master is not None):
        raise ConfigError(
            f"Train.nnodes is {nnodes} and Train.master is {master}. For several machines, set both, such as "
            "Train.nnodes=2 and Train.master=10.0.0.1:6070. For one machine, set neither."
        )
    return (nnodes, master) if nnodes > 1 else (1, None)


def _labels(plan: LaunchPlan) -> list[str]:
    """The devices as the launcher names them: by their labels in CUDA_VISIBLE_DEVICES or the like, if set."""
    visible = visible_devices(plan.kind)
    if visible is None:
        return [str(index) for index in plan.devices]
    if max(plan.devices) >= len(visible):
        raise ConfigError(
            f"Global.device names {plan.kind}:{max(plan.devices)}, but the environment makes only "
            f"{len(visible)} device(s) visible, numbered from 0."
        )
    return [visible[index] for index in plan.devices]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_running(pid: int) -> bool:
    """Whether a process has not ended. One that has ended stays in the list of processes until it is read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"

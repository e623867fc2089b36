"""The command line: options -> configuration -> the mode's function -> result file and exit code.

``--pipeline`` and ``--get_pipeline_config`` have no configuration and write no result file.

Exit codes: 0 success; 2 wrong options or configuration; 3 data set error; 1 any other error.
"""

import shlex
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlex_seg.errors import DatasetError, ForeignDataset, PaddlexSegError
from paddlex_seg.options import install_answers, notes, print_help, read_options
from paddlex_seg.streams import make_standard_streams_last

if TYPE_CHECKING:
    from paddlex_seg.config.schema import Config
    from paddlex_seg.runtime.environment import Launched
    from paddlex_seg.runtime.rank_notes import Failure
    from paddlex_seg.runtime.supervisor import LaunchPlan


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code. A failure prints one message to stderr.

    When the output folder of a mode is known, its failure also writes ``<output>/<mode>_result.json`` with
    ``done_flag`` false.
    """
    make_standard_streams_last()
    command, options = read_options(sys.argv[1:] if argv is None else argv)
    if command != "config":
        return other_command(command, options)
    # Slow imports are here, so that --help answers at once.
    from paddlex_seg.config.read import find_config, read_config, validate_config
    from paddlex_seg.data.images import limit_pixels
    from paddlex_seg.modes.result_file import clear_result, open_output, write_result
    from paddlex_seg.runtime.environment import launched, use_writable_folders
    from paddlex_seg.runtime.stop_signals import StopSignals, held
    from paddlex_seg.runtime.supervisor import launch_plan

    place = launched()
    ending = Ending(place)
    with StopSignals() as stop, ExitStack() as owned:  # until a failure is in the result file
        with ending.noted():
            path = find_config(options.config)
            data = read_config(path, options.override)
            ending.mode, folder = _mode_and_output(data)
            if folder is not None and place is None:
                open_output(folder)
                owned.enter_context(own_output(ending.mode, folder, data))
                clear_result(folder, ending.mode)
                use_writable_folders(folder)
            ending.output = folder
            with stop.interruptible():  # from here on, a result file can tell it
                cfg = validate_config(data, path, options.override)
                plan = launch_plan(cfg) if place is None else None
                if plan is not None:
                    ending.failure = run_distributed(cfg, plan, _own_command(argv))
                else:
                    with held():
                        run = mode_function(ending.mode)
                    limit_pixels(cfg.Global.max_image_pixels)
                    with console_log(cfg, place), naming_conversion(cfg):
                        result = run(cfg)
                    if place is None or place.rank == 0:
                        write_result(Path(cfg.Global.output), ending.mode, {"done_flag": True, **result})
        return ending.tell()


def other_command(command: str | None, options: Namespace) -> int:
    """Run a command without a configuration, see `options.COMMANDS`; None prints the help."""
    if command is None:
        print_help()
        return 2
    for line in notes(options):
        print(line, file=sys.stderr)
    if command == "install":
        print("\n".join(install_answers(options.install)))
        return 0
    return run_command(command, options)


def run_command(command: str, options: Namespace) -> int:
    """Run a command of `options.COMMANDS` that has no configuration. No file tells of a failure."""
    from paddlex_seg.runtime.log import start_log
    from paddlex_seg.runtime.stop_signals import StopSignals, held

    ending = Ending(None)
    with StopSignals() as stop:
        with ending.noted(), stop.interruptible():
            with held():
                run = command_function(command)
            start_log()
            run(options)
        return ending.tell()


def command_function(command: str) -> Callable[[Namespace], None]:
    """The function of a command without a configuration. Of these, the backend of a pipeline loads Paddle."""
    name = "serve_pipeline" if command == "serve" else command  # there is a mode of the same name
    function: Callable[[Namespace], None] = import_module(f"paddlex_seg.modes.{name}").run
    return function


@dataclass
class Ending:
    """How a command ends: its failure, if any, and where to write it."""

    place: "Launched | None"
    mode: str = "config"
    output: Path | None = None  # once it may be written
    failure: "Failure | None" = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep the exception that ends the context as the failure."""
        from paddlex_seg.runtime.rank_notes import Failure

        try:
            yield
        except KeyboardInterrupt as interrupt:
            self.failure = Failure.of(interrupt, str(interrupt) or "interrupted", 1)
        except PaddlexSegError as error:
            self.failure = Failure.of(error, f"Error: {error}", error.exit_code)
        except Exception as error:
            self.failure = Failure.of(error, _unexpected(error), 1)

    def tell(self) -> int:
        """Print and write the failure, if any. Returns the exit code."""
        from paddlex_seg.runtime.rank_notes import note_failure

        if self.failure is None:
            return 0
        if self.place is not None:
            note_failure(self.place.log_dir, self.place.rank, self.failure)
        return _fail(self.failure, mode=self.mode, output=self.output if self.place is None else None)


@contextmanager
def own_output(mode: str, output: Path, data: Mapping[str, Any]) -> Iterator[None]:
    """Let no other training use the output folder of a training. Raises ConfigError when one does.

    On several machines, the commands may share a folder. They only look; the first rank of the run takes it.
    """
    from paddlex_seg.files.lock import held, require_free
    from paddlex_seg.runtime.supervisor import on_several_machines

    train = data.get("Train")
    shared = isinstance(train, dict) and on_several_machines(train.get("nnodes"), train.get("dist_ips"))
    if mode != "train":
        yield
    elif shared:
        require_free(output)
        yield
    else:
        with held(output):
            yield


@contextmanager
def console_log(cfg: "Config", place: "Launched | None") -> Iterator[None]:
    """Show log lines on the console while a mode runs.

    ``place``: the place of this process in a distributed run. Rank 0 writes its log lines to a file, from
    which the command prints them. Other ranks log only warnings, to their own log files.
    """
    from paddlex_seg.runtime.log import ROOT, log_file, start_log
    from paddlex_seg.runtime.rank_notes import TERMINAL_LOG

    start_log()
    if place is not None and place.rank != 0:
        ROOT.setLevel("WARNING")
    with nullcontext() if place is None or place.rank != 0 else log_file(place.log_dir / TERMINAL_LOG):
        yield


@contextmanager
def naming_conversion(cfg: "Config") -> Iterator[None]:
    """Add the command that converts the data set to the message about one that another tool wrote."""
    try:
        yield
    except ForeignDataset as error:
        options = {
            "Global.mode": "check_dataset",
            "Global.dataset_dir": cfg.Global.dataset_dir,
            "CheckDataset.convert.enable": "True",
            "CheckDataset.convert.src_dataset_type": error.source,
        }
        words = ["python", "main.py", "-c", f"{cfg.Global.model}.yaml"]
        for key, value in options.items():
            words += ["-o", f"{key}={value}"]
        raise DatasetError(f"{error}\n  {shlex.join(words)}") from error


def run_distributed(cfg: "Config", plan: "LaunchPlan", command: Sequence[str]) -> "Failure | None":
    """Run ``command`` as each process of a plan. Returns the failure, if any."""
    from paddlex_seg.runtime.log import start_log
    from paddlex_seg.runtime.supervisor import log_folder, run_ranks

    _require_paddle()
    if plan.devices:
        from paddlex_seg.runtime.device import find_devices

        find_devices(cfg.Global.device)
    start_log()
    return run_ranks(plan, command, log_folder(cfg))


def _own_command(argv: Sequence[str] | None) -> list[str]:
    """The command that runs the same command line again."""
    if argv is None:
        return [sys.executable, "-u", *sys.orig_argv[1:]]
    return [sys.executable, "-u", "-m", "paddlex_seg", *argv]


def mode_function(mode: str) -> Callable[["Config"], dict[str, Any]]:
    """The function of a mode. It returns the content of the mode's result file.

    It is imported only here, because some modes do not need Paddle: check_dataset, and predict and benchmark
    with other backends. Evaluate and compare need it for models, not for files of detections.
    """
    from paddlex_seg.runtime.environment import writable_home

    if mode in ("train", "export", "folds"):
        _require_paddle()
    with writable_home():
        function: Callable[[Config], dict[str, Any]] = import_module(f"paddlex_seg.modes.{mode}").run
    return function


def _require_paddle() -> None:
    from paddlex_seg.runtime.environment import require_paddle

    require_paddle()


def _mode_and_output(data: Mapping[str, Any]) -> tuple[str, Path | None]:
    """Mode and output folder for reporting a failure, read from a configuration that may be invalid.

    The folder is None when it cannot be read.
    """
    from pydantic import TypeAdapter, ValidationError

    from paddlex_seg.config.schema import GlobalConfig
    from paddlex_seg.config.values import PathText

    section = data.get("Global")
    section = section if isinstance(section, dict) else {}
    mode = section.get("mode", GlobalConfig.model_fields["mode"].default)
    output: Path | None = None
    try:
        output = Path(TypeAdapter(PathText).validate_python(section.get("output", "output")))
    except ValidationError:
        pass  # the check of the configuration tells it
    return mode if isinstance(mode, str) and mode.isidentifier() else "config", output


def _unexpected(error: Exception) -> str:
    """The message for an error of no class of ours: a problem of the system, or a bug with its traceback."""
    from paddlex_seg.files.problems import problem_of_the_system

    problem = problem_of_the_system(error)
    if problem is not None:
        return f"Error: {problem}"
    name = type(error).__name__
    return f"{traceback.format_exc()}Error: {name}: {error} (unexpected error; see the traceback above)"


def _fail(failure: "Failure", *, mode: str, output: Path | None) -> int:
    """Print a failure, add it to the result file if there is an output folder, and return the exit code."""
    from paddlex_seg.modes.result_file import add_to_result

    print(failure.message, file=sys.stderr)
    if output is not None:
        entry = {"done_flag": False, "err_type": failure.err_type, "err_msg": failure.err_msg}
        try:
            add_to_result(output, mode, entry)
        except (OSError, ValueError) as problem:
            print(f"The result file could not be written: {problem}", file=sys.stderr)
    return failure.exit_code

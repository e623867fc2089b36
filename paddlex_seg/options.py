"""The options of the command line. Loads nothing else, so that ``--help`` answers at once."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from paddlex_seg import __version__

PIPELINE = "instance_segmentation"
USAGE = """\
%(prog)s -c CONFIG [-o KEY=VALUE ...]
       %(prog)s --pipeline NAME|FILE --input INPUT [--save_path FOLDER] [--device DEVICE]
       %(prog)s --serve [--pipeline NAME|FILE] [--host HOST] [--port N] [-o KEY=VALUE ...]
       %(prog)s --get_pipeline_config [NAME] [--save_path FOLDER|FILE]
       %(prog)s --paddle2onnx --paddle_model_dir FOLDER [--onnx_model_dir FOLDER]\
"""
EPILOG = """\
examples:
  %(prog)s -c PP-YOLOE_seg-S.yaml -o Global.mode=check_dataset -o Global.dataset_dir=path/to/data
  %(prog)s -c PP-YOLOE_seg-S.yaml -o Global.mode=train -o Train.epochs_iters=20 -o Train.image_size=320
  %(prog)s -c PP-YOLOE_seg-S.yaml -o Global.mode=predict -o Predict.input=photos/
  %(prog)s --pipeline instance_segmentation --input photos/ --save_path results --device cpu

exit codes: 0 success, 2 wrong options or configuration, 3 data set error, 1 any other error
"""
# What each option that begins a command does, for messages. --serve may stand beside --pipeline.
COMMANDS = {
    "config": "-c",
    "pipeline": "--pipeline",
    "get_pipeline_config": "--get_pipeline_config",
    "serve": "--serve",
    "paddle2onnx": "--paddle2onnx",
    "install": "--install",
}
# The commands that each other option goes with.
GOES_WITH = {
    "override": ("config", "serve"),
    "input": ("pipeline",),
    "save_path": ("pipeline", "get_pipeline_config"),
    "config_save_path": ("get_pipeline_config",),
    "device": ("pipeline", "serve"),
    "threshold": ("pipeline",),
    "batch_size": ("pipeline",),
    "backend": ("pipeline", "serve"),
    "precision": ("pipeline", "serve"),
    "use_hpip": ("pipeline", "serve"),
    "hpi_config": ("pipeline", "serve"),
    "hpi_params": ("pipeline", "serve"),
    "engine": ("pipeline", "serve"),
    "serial_number": ("pipeline", "serve"),
    "update_license": ("pipeline", "serve"),
    "host": ("serve",),
    "port": ("serve",),
    "paddle_model_dir": ("paddle2onnx",),
    "onnx_model_dir": ("paddle2onnx",),
    "opset_version": ("paddle2onnx",),
    "yes": ("install",),
    "platform": ("install",),
    "use_local_repos": ("install",),
    "no_deps": ("install",),
    "deps_to_replace": ("install",),
}
# Options of PaddleX without an effect: what there is instead.
REPLACED = {
    "serial_number": "--serial_number is not used: nothing here needs a licence.",
    "update_license": "--update_license is not used: nothing here needs a licence.",
}
# What `--install` answers for each plugin of PaddleX.
PLUGINS = {
    "PaddleDetection": "nothing to install, training, evaluation and export are part of this package.",
    "serving": "pip install paddlex_seg[serving]",
    "paddle2onnx": "pip install paddlex_seg[convert]",
    "hpi-cpu": "pip install paddlex_seg[openvino], or paddlex_seg[onnx]; then --use_hpip uses it.",
}


def notes(options: argparse.Namespace) -> list[str]:
    """A line for each option that has no effect."""
    return [line for name, line in REPLACED.items() if _is_given(options, name)]


def install_answers(plugins: Sequence[str]) -> list[str]:
    """A line for each plugin of PaddleX: what installs the same here, or that nothing is needed."""
    answers = []
    for name in plugins or ["PaddleDetection"]:
        there_is_none = "Paddle Inference is used" if name.startswith("hpi") else "there are no plugins"
        answers.append(f"{name}: {PLUGINS.get(name, f'nothing to install, {there_is_none}.')}")
    return answers


def read_options(argv: Sequence[str]) -> tuple[str | None, argparse.Namespace]:
    """The command (a key of `COMMANDS`) and the options. The command is None without any option.

    Ends the program with exit code 2 and a message when options are wrong or contradict each other.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if rest:
        parser.error(
            f"unknown: {' '.join(rest)}. Keys are set with -o, such as -o Train.batch_size=4; a value with "
            "spaces needs quotes."
        )
    if not argv:
        return None, options
    command = _command(parser, options)
    for name, commands in GOES_WITH.items():
        if _is_given(options, name) and command not in commands:
            _refuse(parser, name, command)
    if command == "paddle2onnx" and options.paddle_model_dir is None:
        parser.error("--paddle2onnx needs --paddle_model_dir: the folder that mode export wrote.")
    if command == "pipeline" and not options.input:
        parser.error(
            "--pipeline needs --input: an image file, a folder, a pattern such as 'photos/*.jpg', or a URL."
        )
    return command, options


def print_help() -> None:
    """Print what ``--help`` prints."""
    _parser().print_help()


def _command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    given = [name for name in COMMANDS if _is_given(options, name)]
    if "serve" in given and "pipeline" in given:
        given.remove("pipeline")
    if len(given) > 1:
        first, second = (COMMANDS[name] for name in given[:2])
        parser.error(f"{first} and {second} are two commands. Give one of them.")
    if not given:
        stray = next((name for name in GOES_WITH if _is_given(options, name)), None)
        if stray is not None:
            _refuse(parser, stray, None)
        parser.error("the command is missing: -c CONFIG for a mode, or --pipeline NAME to predict.")
    return given[0]


def _refuse(parser: argparse.ArgumentParser, name: str, command: str | None) -> NoReturn:
    """End the program because an option does not go with the command."""
    option = {"override": "-o", "yes": "-y"}.get(name, f"--{name}")
    wanted = " or ".join(COMMANDS[one] for one in GOES_WITH[name])
    hint = ""
    if command == "config" and name in ("input", "threshold", "batch_size"):
        hint = f" With -c, write -o Predict.{name}=..."
    elif command == "config" and name in ("device", "save_path"):
        hint = f" With -c, write -o Global.{'device' if name == 'device' else 'output'}=..."
    elif command == "pipeline" and name == "override":
        hint = " Settings of a pipeline stand in its file, see --get_pipeline_config."
    found = "" if command is None else f", not with {COMMANDS[command]}"
    parser.error(f"{option} goes with {wanted}{found}.{hint}")


def _is_given(options: argparse.Namespace, name: str) -> bool:
    return getattr(options, name) not in (None, False) and (name == "install" or getattr(options, name) != [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="paddlex_seg",
        usage=USAGE,
        description="Instance segmentation: check data, train, evaluate, export and predict.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_modes(parser.add_argument_group("run a mode"))
    _add_pipeline(parser.add_argument_group("predict with a pipeline"))
    _add_pipeline_config(parser.add_argument_group("get the file of a pipeline"))
    _add_conversion(parser.add_argument_group("convert an exported model to ONNX"))
    _add_service(parser.add_argument_group("serve a pipeline over HTTP"))
    _add_replaced(parser.add_argument_group("of PaddleX, accepted without an effect"))
    return parser


def _add_modes(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-c", "--config", help="configuration: a path, or the name of an included file")
    group.add_argument(
        "-o",
        "--override",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override values of the configuration, such as Train.batch_size=4; may be repeated",
    )


def _add_pipeline(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--pipeline", metavar="NAME|FILE", help=f"{PIPELINE}, or a YAML file of a pipeline")
    group.add_argument(
        "--input",
        action="extend",
        nargs="+",
        default=[],
        metavar="INPUT",
        help="images: files, folders, patterns, URLs, text files with one of these a line",
    )
    group.add_argument(
        "--save_path",
        metavar="PATH",
        help="folder for drawings and JSON files; without it, results are only printed",
    )
    group.add_argument("--device", help="such as cpu, gpu, gpu:0; default: that of the pipeline, or auto")
    group.add_argument(
        "--threshold",
        metavar="T",
        help="lowest score to keep, from 0 to 1; for some classes: '{bolt: 0.3, washer: 0.6}'",
    )
    group.add_argument("--batch_size", metavar="N", help="images at once; does not change the results")
    group.add_argument(
        "--backend", metavar="B", help="paddle, onnxruntime, openvino, or auto for the fastest"
    )
    group.add_argument("--precision", metavar="P", help="f32; bf16 or int8 with openvino, at a cost of AP")
    group.add_argument("--use_hpip", action="store_true", help="PaddleX's name of --backend auto")
    group.add_argument("--hpi_config", metavar="{...}", help="of PaddleX; {'backend': B} is --backend B")


def _add_pipeline_config(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--get_pipeline_config",
        nargs="?",
        const=PIPELINE,
        metavar="NAME",
        help="copy the YAML file of a pipeline to --save_path (a folder or .yaml file), or into this folder",
    )
    group.add_argument("--config_save_path", metavar="PATH", help="older spelling of --save_path")


def _add_conversion(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--paddle2onnx", action="store_true", help="write network.onnx, which ONNX Runtime and OpenVINO run"
    )
    group.add_argument("--paddle_model_dir", metavar="FOLDER", help="folder that mode export wrote")
    group.add_argument("--onnx_model_dir", metavar="FOLDER", help="folder of the result; default: the same")
    group.add_argument("--opset_version", metavar="N", help="opset of the ONNX file; default: 16")


def _add_service(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--serve",
        action="store_true",
        help="start the service of --pipeline; -o Serving.KEY=VALUE sets it up",
    )
    group.add_argument("--host", help="address to listen on; default: 127.0.0.1, for this machine only")
    group.add_argument("--port", metavar="N", help="port to listen on; default: 8080")


def _add_replaced(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--install", nargs="*", metavar="PLUGIN", help="there are no plugins; all is installed"
    )
    group.add_argument("-y", "--yes", action="store_true", help=argparse.SUPPRESS)
    group.add_argument("--platform", help=argparse.SUPPRESS)
    for name in ("use_local_repos", "no_deps"):
        group.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    group.add_argument("--deps_to_replace", nargs="*", default=[], help=argparse.SUPPRESS)
    group.add_argument("--engine", help="paddle_static is the only one")
    group.add_argument("--serial_number", metavar="X", help="no licence is needed")
    group.add_argument("--update_license", nargs="?", const="True", metavar="X", help="no licence is needed")
    group.add_argument("--hpi_params", metavar="{...}", help="the older name of --hpi_config")

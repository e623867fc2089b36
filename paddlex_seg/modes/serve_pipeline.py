"""``--serve``: an HTTP service for a pipeline, until it is told to stop."""

from argparse import Namespace
from pathlib import Path

from paddlex_seg.config.pipeline import PIPELINE, read_service
from paddlex_seg.config.values import Port, Text
from paddlex_seg.modes.pipeline import model_options, read_option
from paddlex_seg.modes.serve import require_packages
from paddlex_seg.pipelines.model import Pipeline
from paddlex_seg.runtime.environment import use_writable_folders


def run(options: Namespace) -> None:
    """Serve ``--pipeline``. Raises ConfigError for a wrong option or setting."""
    given = {"host": read_option(options, "host", Text), "port": read_option(options, "port", Port)}
    settings, serving = read_service(
        options.pipeline or PIPELINE,
        options.override,
        **model_options(options),
    )
    require_packages()
    from paddlex_seg.serving.server import serve

    use_writable_folders(Path())
    serve(
        lambda device: Pipeline(settings.on_device(device)),
        settings.devices,
        serving.model_copy(update={name: value for name, value in given.items() if value is not None}),
    )

"""Mode serve: an HTTP service for an exported model, until it is told to stop."""

import importlib.util
from pathlib import Path
from typing import Any

from paddlex_seg.config.schema import Config
from paddlex_seg.errors import ConfigError
from paddlex_seg.files.run_folder import best_of_run
from paddlex_seg.modes.predict import describe_exported, exported_settings
from paddlex_seg.pipelines.model import Pipeline

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
NOT_INSTALLED = "Packages of the service are missing: pip install paddlex_seg[serving]"


def run(cfg: Config) -> dict[str, Any]:
    """Serve the model in ``Predict.model_dir`` with the settings of ``Serving`` and ``Predict``.

    Raises ConfigError when the packages of the service are missing or a setting cannot be used.
    """
    require_packages()
    from paddlex_seg.serving.server import serve

    output = Path(cfg.Global.output)
    model_dir = Path(cfg.Predict.model_dir or best_of_run(output, "inference", key="Predict.model_dir"))
    settings = exported_settings(cfg, model_dir)
    served: list[Pipeline] = []

    def open_model(device: str) -> Pipeline:
        served.append(Pipeline(settings.on_device(device)))
        return served[-1]

    serve(open_model, settings.devices, cfg.Serving)
    return describe_exported(served[0].model_dir, served[0].backend, served[0].precision)


def require_packages() -> None:
    """Raise ConfigError unless the packages of the service are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{NOT_INSTALLED} (not found: {', '.join(missing)}).")

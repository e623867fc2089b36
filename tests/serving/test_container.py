"""configs/serving/: the Containerfile, whose steps run in an empty environment, and kubernetes.yaml."""

import json
import os
import re
import shutil
import subprocess
import venv
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from proxies import free_port
from replica import wait_until_ready
from toy_model import export_onnx_toy, image_with

from paddlex_seg.config.pipeline import PIPELINE, read_service
from paddlex_seg.config.schema import ServingConfig
from paddlex_seg.options import read_options

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "configs" / "serving"


def steps() -> list[tuple[str, str]]:
    """The instructions of the Containerfile with what follows them, in order."""
    text = (SERVING / "Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line)]


def arguments() -> list[str]:
    """What the container runs, after ``python -m paddlex_seg``."""
    found = dict(steps())
    python, module, package, *fixed = json.loads(found["ENTRYPOINT"])
    assert (python, module, package) == ("python", "-m", "paddlex_seg")
    return [*fixed, *json.loads(found["CMD"])]


def manifest() -> dict[str, Any]:
    """The objects of kubernetes.yaml by kind."""
    with (SERVING / "kubernetes.yaml").open(encoding="utf-8") as file:
        return {one["kind"]: one for one in yaml.safe_load_all(file)}


def settings_of(options: list[str]) -> ServingConfig:
    """The settings of the service with these options of the command line, which must be valid."""
    command, given = read_options(options)
    assert command == "serve"
    model, settings = read_service(given.pipeline or PIPELINE, given.override, backend=given.backend)
    assert (model.model_name, str(model.model_dir)) == (None, "/model")
    changed = {"host": given.host} if given.host else {}
    return settings.model_copy(update={**changed, **({"port": int(given.port)} if given.port else {})})


def test_the_container_listens_where_its_port_is_published() -> None:
    settings, found = settings_of(arguments()), dict(steps())
    assert (settings.host, str(settings.port)) == ("0.0.0.0", found["EXPOSE"])
    assert f"http://127.0.0.1:{settings.port}/ready" in found["HEALTHCHECK"]
    assert found["STOPSIGNAL"] == "SIGTERM"


def test_the_container_has_no_rights() -> None:
    names = [name for name, _ in steps()]
    assert dict(steps())["USER"] not in ("0", "root")
    assert max(index for index, name in enumerate(names) if name == "RUN") < names.index("USER")
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_kubernetes_runs_the_container_as_the_service_is_set() -> None:
    pod = manifest()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = settings_of(json.loads(dict(steps())["ENTRYPOINT"])[3:] + container["args"])
    (port,) = container["ports"]
    assert port["containerPort"] == settings.port
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert sleep + settings.drain < pod["terminationGracePeriodSeconds"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounts["model"] == "/model"
    assert settings.api_key_file is not None and Path(settings.api_key_file).parent == Path(mounts["key"])
    (secret,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "key")
    text = (SERVING / "kubernetes.yaml").read_text(encoding="utf-8")
    name = Path(settings.api_key_file).name
    assert f"secret generic {secret['secretName']} --from-literal={name}=" in text
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) == dict(steps())["USER"]
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert mounts["tmp"] == dict(steps())["WORKDIR"] == "/tmp"


def test_kubernetes_asks_paths_that_need_no_key_and_never_has_no_replica() -> None:
    objects = manifest()
    deployment = objects["Deployment"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/ready",
        "readiness": "/ready",
        "liveness": "/health",
    }
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == objects["Service"]["spec"]["selector"]
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    budget = objects["PodDisruptionBudget"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert 1 <= budget["minAvailable"] < deployment["replicas"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.slow  # installs 600 MB of packages
def test_the_steps_of_the_container_serve_a_model_in_an_empty_environment(tmp_path: Path) -> None:
    source, environment = tmp_path / "src", tmp_path / "environment"
    python = environment / "bin" / "python"
    source.mkdir()
    venv.create(environment, with_pip=True)
    for name, rest in steps():
        if name == "COPY":
            copy(rest.split()[:-1], source / rest.split()[-1])
        if name == "RUN" and "install.sh" in rest:
            command = rest.partition(" && ")[0].replace(" python", f" {python}")
            install(command, source)
    shutil.rmtree(source)
    model = export_onnx_toy(tmp_path / "model")
    port = free_port()
    changed = [option.replace("/model", str(model)) for option in arguments()]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "paddlex_seg", *changed, f"Serving.port={port}", "Serving.host=127.0.0.1"],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "MPLCONFIGDIR": str(tmp_path)},
        )
    try:
        wait_until_ready(process, port, tmp_path / "log")
        image = BytesIO()
        pixels = image_with((120, 200), red=(slice(10, 50), slice(20, 90)))
        Image.fromarray(pixels).save(image, "PNG")
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Content-Type": "image/png"}
        connection.request("POST", "/instance-segmentation", image.getvalue(), headers)
        reply = json.load(connection.getresponse())
        (found,) = reply["result"]["instances"]
        assert (found["categoryName"], reply["errorCode"]) == ("red thing", 0)
        assert reply["result"]["image"]
        connection.request("GET", "/info")
        assert json.load(connection.getresponse())["backend"] == "openvino"
        for path in ("/", "/docs", *page_files()):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.read() and response.status == 200, path
        connection.close()
    finally:
        process.terminate()
        code = process.wait(timeout=60)
    assert code == 0
    assert subprocess.run([python, "-c", "import paddle"], capture_output=True).returncode != 0


def page_files() -> list[str]:
    """The paths of the files of the page."""
    return [f"/static/{path.name}" for path in (ROOT / "paddlex_seg" / "serving" / "static").iterdir()]


def copy(names: list[str], target: Path) -> None:
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)


def install(command: str, folder: Path) -> None:
    """Run a step. Skips the test where packages cannot be downloaded."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("packages cannot be downloaded")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

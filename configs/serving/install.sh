#!/bin/sh
# What configs/serving/Containerfile runs to install the service, as a script of its own, so that a test can run the
# same steps in an empty environment: tests/serving/test_container.py.
#
#     sh configs/serving/install.sh [PYTHON [EXTRAS]]        in the folder of the project
#
# PYTHON gets the packages. EXTRAS: "serving,openvino" runs exported models that have a network.onnx, without
# PaddlePaddle. "serving,cpu" brings PaddlePaddle, for exported models that have none.
set -eu

python=${1:-python3}
extras=${2:-serving,openvino}

"$python" -m pip install --no-cache-dir --disable-pip-version-check ".[$extras]"
# Fails here, and not at the first request, if a package is missing. -P: of what was installed, not of this folder.
"$python" -P -c "import fastapi, uvicorn, paddlex_seg"
"$python" -P -m paddlex_seg --help >/dev/null

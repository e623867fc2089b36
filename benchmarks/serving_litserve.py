"""LitServe around our predictor: the side of serving.py that another server library answers.

Runs in an environment with litserve==0.2.19 and what this toolkit requires. It takes the request of our
service and gives the same reply, but has none of its limits: it decodes any image, and has no deadline and no
bound of the queue.

    python benchmarks/serving_litserve.py MODEL_DIR PORT WORKERS
"""

import base64
import sys
from typing import Any

import litserve
import numpy as np


class Segmentation(litserve.LitAPI):
    """One model in each worker, one image at a time."""

    def __init__(self, model_dir: str) -> None:
        super().__init__(api_path="/instance-segmentation")
        self.model_dir = model_dir

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        from paddlex_seg import create_model

        self.model = create_model(model_dir=self.model_dir, backend="openvino", device="cpu")

    def decode_request(self, request: dict[str, Any]) -> tuple[np.ndarray, float | None]:
        """The image as the predictor takes it, BGR, and the threshold."""
        import cv2

        data = np.frombuffer(base64.b64decode(request["image"]), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR), request.get("threshold")

    def predict(self, request: tuple[np.ndarray, float | None]) -> Any:
        """The result of the one image."""
        image, threshold = request
        (result,) = self.model.predict(image, threshold=threshold)
        return result

    def encode_response(self, result: Any) -> dict[str, Any]:
        """The reply in PaddleX's envelope. Masks are RLEs of the whole image."""
        instances = [
            {
                "bbox": box["coordinate"],
                "categoryId": box["cls_id"],
                "categoryName": box["label"],
                "score": box["score"],
                "mask": {"rleResult": mask["counts"], "size": mask["size"], "offset": [0, 0]},
            }
            for box, mask in zip(result["boxes"], result["masks"], strict=True)
        ]
        return {"logId": "", "errorCode": 0, "errorMsg": "Success", "result": {"instances": instances}}


if __name__ == "__main__":
    folder, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    server = litserve.LitServer(
        Segmentation(folder), accelerator="cpu", devices=1, workers_per_device=workers, timeout=120
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")

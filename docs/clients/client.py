"""Send an image to the service, print the objects, and write the drawing.

    pip install numpy pycocotools
    python client.py http://127.0.0.1:8080 photo.jpg drawing.jpg

The request needs the standard library only. NumPy and pycocotools turn the masks into pixels.
The API key, if the service has one, is read from the environment variable API_KEY.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request

import numpy as np
from pycocotools import mask as coco_mask

TRIES = 5


def main() -> None:
    """Send, print and write."""
    url, image, drawing = sys.argv[1:]
    with open(image, "rb") as file:
        text = base64.b64encode(file.read()).decode("ascii")
    reply = post(url + "/instance-segmentation", {"image": text, "visualize": True})
    if reply["errorCode"] != 0:
        sys.exit(f"{reply['errorCode']}: {reply['errorMsg']}")
    result = reply["result"]
    for one in result["instances"]:
        box = " ".join(f"{edge:.1f}" for edge in one["bbox"])
        area = int(whole_mask(one["mask"], result["size"]).sum())
        print(f"{one['categoryName']}\t{one['score']:.3f}\t{box}\t{area}")
    with open(drawing, "wb") as file:
        file.write(base64.b64decode(result["image"]))


def post(url: str, request: dict) -> dict:
    """The reply. Tries again when the service is full or restarts; it says when, in Retry-After."""
    headers = {"Content-Type": "application/json"}
    if "API_KEY" in os.environ:
        headers["X-API-Key"] = os.environ["API_KEY"]
    message = urllib.request.Request(url, json.dumps(request).encode(), headers)
    for attempt in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(message, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in (429, 503) and attempt < TRIES:
                time.sleep(float(error.headers.get("Retry-After", 1)))
                continue
            return json.load(error)  # the same envelope, with the reason
    raise AssertionError("the last attempt returns")


def whole_mask(mask: dict, size: list) -> np.ndarray:
    """The mask of one object in the whole image: uint8 [H, W], 1 where the object is.

    ``mask`` is the rectangle of the box. Its top left corner belongs at ``offset``.
    """
    part = coco_mask.decode({"size": mask["size"], "counts": mask["rleResult"]})  # [h, w]
    (height, width), (x, y) = part.shape, mask["offset"]
    whole = np.zeros(size, np.uint8)  # [H, W]
    whole[y : y + height, x : x + width] = part
    return whole


if __name__ == "__main__":
    main()

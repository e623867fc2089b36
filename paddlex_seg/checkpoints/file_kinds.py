"""Says what a file is that was given as weights but holds none, by its first bytes."""

from pathlib import Path

USE_WEIGHTS = "Give a .pdparams or .safetensors file of this model."
USE_CHECKPOINT = (
    "Give the .pdparams file of the checkpoint from which the model was exported. Exported folders are for "
    "mode predict, as Predict.model_dir."
)
GET_WEIGHTS = (
    "The weights themselves were not downloaded. Get them from their source, for example by git lfs pull."
)
CONVERT = "Only weights of PaddlePaddle can be used: a .pdparams or .safetensors file of this model."

# Beginning of the file -> what it is, and what to give instead. The first one that fits is taken.
KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer", GET_WEIGHTS),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P", "weights of an old version of PyTorch", CONVERT),
    (b"PK\x03\x04", "a zip archive, perhaps weights of PyTorch", CONVERT),
    (b"\x89HDF", "an HDF5 file, perhaps weights of Keras", CONVERT),
    (b"\x93NUMPY", "a NumPy array", CONVERT),
    (b"\x89PNG", "an image", USE_WEIGHTS),
    (b"\xff\xd8\xff", "an image", USE_WEIGHTS),
    (b"GIF8", "an image", USE_WEIGHTS),
    (b"BM", "an image", USE_WEIGHTS),
    (b"II*\x00", "an image", USE_WEIGHTS),
    (b"MM\x00*", "an image", USE_WEIGHTS),
    (b"RIFF", "an image or a video", USE_WEIGHTS),
    (b"%PDF", "a PDF file", USE_WEIGHTS),
    (b"\x1f\x8b", "a compressed archive", "Unpack it, and give the .pdparams or .safetensors file in it."),
    (b"7z\xbc\xaf", "a compressed archive", "Unpack it, and give the .pdparams or .safetensors file in it."),
    (b"Rar!", "a compressed archive", "Unpack it, and give the .pdparams or .safetensors file in it."),
)


def what_it_is(path: Path) -> str:
    """Two sentences: what a file looks like that could not be read as weights, and what to give instead."""
    with open(path, "rb") as file:
        head = file.read(4096)
    kind, advice = _kind(path, head)
    return f"It looks like {kind}. {advice}"


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: with the length of a JSON text, and the text."""
    with open(path, "rb") as file:
        head = file.read(9)
    return (
        len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8
    )


def _kind(path: Path, head: bytes) -> tuple[str, str]:
    if path.suffix == ".onnx":
        return "an ONNX model", USE_CHECKPOINT
    # Head of a tensor: two versions and a count, all of them 0, then the length of its description.
    if len(head) > 20 and not any(head[:16]) and 0 < head[16] < 128 and head[17:21] == b"\0\0\0\x08":
        return "the parameters of an exported model (inference.pdiparams)", USE_CHECKPOINT
    if path.suffix == ".pdmodel":
        return "the graph of an exported model (inference.pdmodel)", USE_CHECKPOINT
    for start, kind, advice in KINDS:
        if head.startswith(start):
            return kind, advice
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return (
            "a web page, perhaps a server's error message saved under this name",
            "Check the address of the weights. The page opened in a browser may say what is wrong.",
        )
    if text.startswith((b"{", b"[")):
        if b'"base_code"' in head:
            return "the graph of an exported model (inference.json)", USE_CHECKPOINT
        return "a JSON file", USE_WEIGHTS
    if head.startswith(b"\x80") or path.suffix == ".safetensors":
        return (
            "a weight file of which a part is missing or damaged",
            "Compare its size with that of its source, and copy it from there under another name.",
        )
    if b"\0" not in head and _is_text(head):
        return "a text file", USE_WEIGHTS
    return "something else than weights", USE_WEIGHTS


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) == 4096  # a character that is cut at the end
    return True

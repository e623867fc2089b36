"""Checks an exported folder before Paddle loads it: is each file whole, and do they belong together?"""

import re
from collections.abc import Sequence
from pathlib import Path

from paddlex_seg.errors import BackendError
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.inference.backends.exported_files import ExportedFiles
from paddlex_seg.inference.backends.graph_file import ADVICE, GraphFile, class_counts, read_graph
from paddlex_seg.inference.backends.parameter_file import check_parameters
from paddlex_seg.inference.backends.trial import require_no_crash
from paddlex_seg.inference.export_spec import NAME_PARTS, ExportedSpec, name_fits_arch


def check_graph(files: ExportedFiles, spec: ExportedSpec) -> None:
    """Raise BackendError unless the graph is whole and agrees with its parameters and its description.

    No operator of it may read or write files, call functions or use the network: a graph is data. Files whose
    SHA-256 is in ``inference.yml`` are whole. For those of PaddleX, of PaddleDetection and of earlier
    versions, the structure of both files is read, and a process of its own loads them first.
    """
    graph, params = files.graph, files.params
    is_ours = all(path.name in spec.sha256 for path in (graph, params))
    if is_ours:
        for path in (graph, params):
            require_sha256(path, spec.sha256[path.name])
    content = read_graph(graph)
    _require_no_side_effects(graph, content)
    if problems := _disagreements(content, spec):
        raise BackendError(
            f"{files.description} does not belong to {graph.name}: {'; '.join(problems)}. {ADVICE}"
        )
    if not is_ours:
        check_parameters(params, content, graph.name)
        require_no_crash(graph, params)


# Operators of Paddle that reach beyond the tensors of a graph: to files, to functions of the process, to code
# for other runtimes, to other processes.
_SIDE_EFFECTS = re.compile(
    r"(save|load)(_combine)?|read_file|py_func|run_program|print|\w*_engine|create_\w*reader"
    r"|(fetch_|send_)?barrier|(partial_|p_)?(send|recv)(_\w+)?|(c_)?gen_\w+|\w*listen_and_serv"
)


def _require_no_side_effects(path: Path, graph: GraphFile) -> None:
    if found := sorted({one.name for one in graph.operators if _SIDE_EFFECTS.fullmatch(one.name.strip("_"))}):
        raise BackendError(
            f"{path}: the graph uses {', '.join(found)}, which reaches beyond the graph, such as to files or "
            "functions. A network needs only its inputs and parameters. Do not use this file, unless you "
            "know who made it; export the model again without this operator."
        )


def require_sha256(path: Path, expected: str) -> None:
    """Raise BackendError unless a file has the SHA-256 that its ``inference.yml`` states."""
    if (found := sha256_of(path)) != expected:
        raise BackendError(
            f"{path} is damaged, or does not belong to this inference.yml: its SHA-256 is {found}, and "
            f"inference.yml has {expected}. {ADVICE}"
        )


def _disagreements(graph: GraphFile, spec: ExportedSpec) -> list[str]:
    problems = []
    if spec.arch not in (possible := _architectures(graph)) and spec.arch in NAME_PARTS:
        problems.append(f"arch is {spec.arch}, and the graph is of {' or '.join(possible)}")
    elif (counts := class_counts(graph, spec.arch)) and len(spec.labels) not in counts:
        numbers = " or ".join(map(str, sorted(counts)))
        problems.append(f"label_list has {len(spec.labels)} names, and the graph has {numbers} classes")
    if spec.model_name and not name_fits_arch(spec.model_name, spec.arch):
        problems.append(f"Global.model_name is {spec.model_name}, and arch is {spec.arch}")
    size = tuple(graph.inputs.get("image", ())[2:])
    if not spec.preprocess.keep_ratio and min(size, default=-1) > 0 and size != spec.preprocess.size_hw:
        wanted = list(spec.preprocess.size_hw)
        problems.append(f"Resize.target_size is {wanted}, and the graph takes {list(size)} (height, width)")
    return problems


def _architectures(graph: GraphFile) -> Sequence[str]:
    """The values of arch that a graph can have, by operators that only some architectures use."""
    used = {operator.name for operator in graph.operators}
    if "roi_align" in used:
        return ("RCNN",)
    if any(re.match(r"multiclass_nms\d?$", name) for name in used):
        return ("PPYOLOE",)
    return ("DETR", "PPYOLOE") if "softmax" in used else ("SOLOv2", "PPYOLOE")

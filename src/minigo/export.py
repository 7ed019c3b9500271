"""A network in files that other programs read: ONNX, or OpenVINO's own form."""

import io
import warnings
from pathlib import Path

from ._board import NUM_PLANES
from .architecture import Network, fold
from .machine import write_whole
from .openvino_backend import make_model


def export(network: Network, out: Path, size: int) -> None:
    """Write a network for one board size and any batch: X.onnx, or X.xml with X.bin beside it."""
    if out.suffix not in (".onnx", ".xml") or not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: not a .onnx or .xml in a folder that exists")
    network = fold(network, size)
    if out.suffix == ".xml":
        from openvino import save_model

        return save_model(make_model(network, size, -1), out, compress_to_fp16=False)
    import torch

    from .network import as_module

    names = ["planes", "policy", "value", "score", "ownership", "reply"]
    how = {"input_names": names[:1], "output_names": names[1:], "dynamo": False}
    how["dynamic_axes"], file = dict.fromkeys(names, {0: "batch"}), io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # the newer exporter takes another package
        torch.onnx.export(as_module(network), torch.zeros(1, NUM_PLANES, size, size), file, **how)
    write_whole(out, file.getvalue())

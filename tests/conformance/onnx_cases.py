"""The BatchNormalization cases among the backend test data of the onnx wheel."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
INPUTS = ("x", "scale", "shift", "running_mean", "running_var")


@dataclass(frozen=True)
class Case:
    """One node with one set of data, in bnorm's words."""

    name: str
    inputs: dict[str, np.ndarray]
    outputs: list[np.ndarray]  # y, and in training running_mean, running_var
    training: bool
    epsilon: float
    average_factor: float


@functools.cache
def collect() -> list[Case]:
    """Every data set whose model is a single BatchNormalization node."""
    cases = []
    for path in sorted(DATA.glob("*/*/model.onnx")):
        # The operator's name is plain text in the file: parse only the few models that can match.
        if b"BatchNormalization" not in path.read_bytes():
            continue
        model = onnx.load(path)
        if [node.op_type for node in model.graph.node] == ["BatchNormalization"]:
            cases += [_case(path.parent, model, folder) for folder in sorted(path.parent.glob("test_data_set_*"))]
    return cases


def _case(folder: Path, model: onnx.ModelProto, data: Path) -> Case:
    node = model.graph.node[0]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    fed = [value.name for value in model.graph.input if value.name not in values]
    values.update({name: _tensor(data / f"input_{index}.pb") for index, name in enumerate(fed)})
    outputs = [_tensor(data / f"output_{index}.pb") for index in range(len(model.graph.output))]
    return Case(
        name=f"{folder.parent.name}/{folder.name}/{data.name}",
        inputs={ours: values[theirs] for ours, theirs in zip(INPUTS, node.input, strict=True)},
        outputs=outputs,
        training=bool(attributes.get("training_mode", 0)),
        epsilon=attributes.get("epsilon", 1e-5),
        # The standard's momentum is the weight of the old value, its default 0.9.
        average_factor=1 - attributes.get("momentum", 0.9),
    )


def _tensor(path: Path) -> np.ndarray:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)

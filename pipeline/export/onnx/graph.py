"""Builds an ONNX graph: nodes, weights, names, and arithmetic on values.

graph = Graph()
x = graph.input("x", "float32", ["batch", 4])
graph.output("y", graph.linear(x, module).relu())
model = graph.model("example")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pipeline import __version__

OPSET = 17
"""Version of the operators: the first that has LayerNormalization."""
IR_VERSION = 8
"""Version of the file format that belongs to this opset, so that older runtimes read the file."""
SMALLEST = float(np.finfo(np.float32).min)
"""Used instead of minus infinity, for which some runtimes compute NaN."""


@dataclass(frozen=True)
class Value:
    """The result of a node, a weight or an input, by its name in a graph."""

    graph: Graph
    name: str

    def __add__(self, other: Any) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Any) -> Value:
        return self.graph.op("Sub", self, other)

    def __mul__(self, other: Any) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Any) -> Value:
        return self.graph.op("Div", self, other)

    def __matmul__(self, other: Any) -> Value:
        return self.graph.op("MatMul", self, other)

    def abs(self) -> Value:
        return self.graph.op("Abs", self)

    def relu(self) -> Value:
        return self.graph.op("Relu", self)

    def sign(self) -> Value:
        return self.graph.op("Sign", self)

    def sigmoid(self) -> Value:
        return self.graph.op("Sigmoid", self)

    def tanh(self) -> Value:
        return self.graph.op("Tanh", self)

    def cast(self, dtype: str) -> Value:
        return self.graph.op("Cast", self, to=_element_type(dtype))

    def transpose(self, *axes: int) -> Value:
        return self.graph.op("Transpose", self, perm=axes)

    def reshape(self, *shape: int) -> Value:
        """Reshape; 0 keeps the size of an axis, -1 infers it."""
        return self.graph.op("Reshape", self, np.array(shape))

    def squeeze(self, axis: int) -> Value:
        return self.graph.op("Squeeze", self, np.array([axis]))

    def unsqueeze(self, *axes: int) -> Value:
        return self.graph.op("Unsqueeze", self, np.array(axes))

    def slice(self, start: int, stop: int, axis: int) -> Value:
        return self.graph.op("Slice", self, *(np.array([n]) for n in (start, stop, axis)))

    def split(self, parts: int, axis: int = -1) -> list[Value]:
        """Split into equal parts."""
        return self.graph.ops("Split", self, outputs=parts, axis=axis)

    def sum(self, axis: int) -> Value:
        return self.graph.op("ReduceSum", self, np.array([axis]), keepdims=0)

    def softmax(self, axis: int) -> Value:
        return self.graph.op("Softmax", self, axis=axis)

    def log_softmax(self) -> Value:
        return self.graph.op("LogSoftmax", self, axis=-1)

    def lerp(self, other: Value, weight: Any) -> Value:
        """self + weight * (other - self), as torch.lerp."""
        return self + (other - self) * weight

    def size(self, axis: int) -> Value:
        """The length of an axis, as a vector of one int64."""
        return self.graph.op("Shape", self, start=axis, end=axis + 1)


class Graph:
    """An ONNX graph under construction.

    Weights are stored once, however often they are used. A nested graph, the body of a loop, uses
    the weights and values of the graph around it.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self._root: Graph = outer._root if outer else self
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._weights: dict[tuple[Any, ...], onnx.TensorProto] = {}  # of the root only
        self._names = 0  # of the root only

    def input(self, name: str, dtype: str, shape: Sequence[str | int]) -> Value:
        """Declare an input. Axes of type text have any length."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))
        return Value(self, name)

    def output(
        self, name: str, value: Value, shape: Sequence[str | int], dtype: str = "float32"
    ) -> None:
        """Declare a value as an output."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), shape))

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> Value:
        """Add a node with one output. None leaves out an optional input."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Any, outputs: int, **attributes: Any) -> list[Value]:
        """Add a node with several outputs."""
        given = ["" if x is None else self.value(x).name for x in inputs]
        names = [self._new_name(kind) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, given, names, **attributes))
        return [Value(self, name) for name in names]

    def value(self, operand: Any) -> Value:
        """Return a value as it is, and a tensor, array or number as a constant.

        Tensors and numbers become float32; arrays of integers or Booleans keep their type.
        """
        if isinstance(operand, Value):
            return Value(self, operand.name)
        if isinstance(operand, Tensor):
            operand = operand.detach().float().cpu().numpy()
        array = np.asarray(operand)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = array.dtype.str, array.shape, sha256(array.tobytes()).digest()
        known = self._root._weights
        if key not in known:
            known[key] = numpy_helper.from_array(array, self._new_name("weight"))
        return Value(self, known[key].name)

    def linear(self, x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
        """Return x W^T + b, for the weight [outputs, inputs] of torch's linear layer."""
        product = x @ weight.detach().t()
        return product if bias is None else product + bias

    def module(self, x: Value, module: nn.Module) -> Value:
        """Apply a linear layer, a layer normalization or an identity."""
        if isinstance(module, nn.Linear):
            return self.linear(x, module.weight, module.bias)
        if isinstance(module, nn.LayerNorm):
            weights = module.weight, module.bias
            return self.op("LayerNormalization", x, *weights, axis=-1, epsilon=module.eps)
        assert isinstance(module, nn.Identity), f"no operator for {type(module).__name__}"
        return x

    def embed(self, ids: Value, embedding: nn.Embedding) -> Value:
        """Look up the rows of an embedding: [...] -> [..., E]."""
        return self.op("Gather", embedding.weight, ids, axis=0)

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        return self.op("Where", condition, x, y)

    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def arange(self, size: Value) -> Value:
        """Return 0, 1, ... below a size, which is a vector of one int64."""
        return self.op("Range", np.array(0), size.squeeze(0), np.array(1))

    def scan(
        self,
        body: Graph,
        states: Sequence[Value],
        inputs: Sequence[Value],
        *,
        outputs: int,
        reverse: bool = False,
    ) -> list[Value]:
        """Run `body` once per item of the first axis of `inputs`.

        The body's inputs are the states and an item of each input; its outputs are the new states
        and an item of each of `outputs` outputs. Returns the final states, then the outputs.
        """
        given, count = [*states, *inputs], len(states) + outputs
        return self.ops(
            "Scan", *given, outputs=count, body=body._proto("body"),
            num_scan_inputs=len(inputs), scan_input_directions=[int(reverse)] * len(inputs),
            scan_output_directions=[int(reverse)] * outputs,
        )  # fmt: skip

    def model(self, name: str) -> onnx.ModelProto:
        """Return the complete model. Raises an error of onnx if it is not valid."""
        model = helper.make_model(
            self._proto(name),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="headrace",
            producer_version=__version__,
        )
        onnx.checker.check_model(model)
        return model

    def _proto(self, name: str) -> onnx.GraphProto:
        weights = list(self._weights.values())
        return helper.make_graph(self._nodes, name, self._inputs, self._outputs, weights)

    def _new_name(self, kind: str) -> str:
        self._root._names += 1
        return f"{kind}_{self._root._names}"


def _element_type(dtype: str) -> int:
    """Return ONNX's number of a NumPy data type."""
    if dtype == "bool":
        return int(TensorProto.BOOL)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

"""An ONNX model is one file: what it says to read from others is neither in its fingerprint nor beside it, so it is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from streaming.errors import ModelError


def check(uri: str, content: bytes) -> None:
    """ModelError when a tensor of the model lies in another file, wherever in the model it stands, or when `content` is no ONNX model."""
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RecursionError) as broken:
        raise ModelError(
            f"{uri}: not an ONNX model: {str(broken).splitlines()[0] if str(broken) else 'it cannot be parsed'}; export it again"
        ) from broken
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(f"{uri}: the tensor {tensor.name!r} lies in another file, which would be read from wherever the model says; save the model "
                             "whole: onnx.save(onnx.load(path), out, save_as_external_data=False)")  # fmt: skip


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph, *(graph for step in model.training_info for graph in (step.initialization, step.algorithm))]
    # Attributes of a function's nodes may hold tensors and graphs of their own.
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            yield from _parts(graph.sparse_initializer)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from (attribute.t, *attribute.tensors)
            yield from _parts([attribute.sparse_tensor, *attribute.sparse_tensors])
            graphs += [attribute.g, *attribute.graphs] if attribute.g.ByteSize() or attribute.graphs else []


def _parts(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for each in sparse:
        yield from (each.values, each.indices)

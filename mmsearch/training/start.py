"""Start a tower from the weights of an exported one: ONNX back into torch.

An export names few of its weights, and folds every batch norm into the convolution before it. Both are undone by
running: the modules of the tower ask for their weights in the order in which the graph uses them, and a batch norm is
given the deviation and mean that it sees, so that it leaves what passes as it was, and can be trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmsearch.errors import ModelError, one_line

Array = NDArray[np.float32]


def start_from(tower: nn.Module, file: Path, inputs: Sequence[Tensor]) -> None:
    """Give a tower the weights of an ONNX file, by running it on a batch of its own inputs.

    The more inputs, the better batch norms know what they see; a few hundred do. Raises `ModelError` where the file
    is of another architecture.
    """
    try:
        graph = _Graph(file)
        graph.fill_named(tower)
        _run(tower, graph.weights(), inputs)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        reason = one_line(error) or "it has too few weights"
        raise ModelError(f"{file} doesn't fit the recipe's tower ({reason}); give it that tower's sizes") from error


def _run(tower: nn.Module, weights: Iterator[tuple[Array, Array | None]], inputs: Sequence[Tensor]) -> None:
    """Run a tower once while its layers take their weights."""
    folded: list[Tensor] = []  # the bias that the next batch norm takes over

    def take(module: nn.Module, _inputs: Any) -> None:  # noqa: ANN401
        assert isinstance(module, nn.Conv2d | nn.Linear)
        weight, bias = next(weights)
        _copy(module.weight, weight)
        if module.bias is not None:
            _copy(module.bias, np.zeros(len(module.bias), np.float32) if bias is None else bias)
        elif bias is not None:
            folded.append(torch.tensor(bias))

    def keep(module: nn.Module, seen: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        mean, variance = seen[0].mean((0, 2, 3)), seen[0].var((0, 2, 3), correction=0)
        bias = folded.pop()
        module.running_mean, module.running_var = mean.clone(), variance.clone()
        _copy(module.weight, torch.sqrt(variance + module.eps).numpy())
        _copy(module.bias, (mean + bias).numpy())

    hooks = [
        *(m.register_forward_pre_hook(take) for m in tower.modules() if isinstance(m, nn.Conv2d | nn.Linear)),
        *(m.register_forward_pre_hook(keep) for m in tower.modules() if isinstance(m, nn.BatchNorm2d)),
    ]
    was = tower.training
    tower.eval()
    try:
        with torch.no_grad():
            tower(*inputs)
    finally:
        tower.train(was)
        for hook in hooks:
            hook.remove()
    if next(weights, None) is not None:
        raise ValueError("it has more weights than the tower")


def _copy(parameter: Tensor, array: Array) -> None:
    if tuple(parameter.shape) != array.shape:
        raise ValueError(f"a weight is {array.shape}, not {tuple(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(torch.tensor(array))


class _Graph:
    """The weights of an ONNX file, by name and in the order of their use."""

    def __init__(self, file: Path) -> None:
        import onnx

        model = onnx.load(str(file))
        self._nodes = list(model.graph.node)
        read: Callable[[Any], NDArray[Any]] = onnx.numpy_helper.to_array
        self._arrays = {one.name: read(one).astype(np.float32) for one in model.graph.initializer}
        for node in self._nodes:  # weights of half precision are cast where they are used
            if node.op_type in ("Cast", "Identity") and node.input[0] in self._arrays:
                self._arrays[node.output[0]] = self._arrays[node.input[0]]

    def fill_named(self, tower: nn.Module) -> None:
        """Fill in what is no matrix product: word vectors, which may be 8 bits and a scale a row, positions, norms."""
        for module_name, module in tower.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                full = f"{module_name}.{name}".lstrip(".")
                if isinstance(module, nn.Embedding):
                    _copy(parameter, self._table(len(parameter)))
                elif not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                    _copy(parameter, self._named(full))

    def _named(self, name: str) -> Array:
        found = [array for own, array in self._arrays.items() if own == name or own.endswith("." + name)]
        if not found:
            raise KeyError(f"no weight {name}")
        return found[0]

    def _table(self, rows: int) -> Array:
        tables = [array for array in self._arrays.values() if array.ndim == 2 and len(array) == rows]
        scales = [array for array in tables if array.shape[1] == 1]
        table = next(array for array in tables if array.shape[1] > 1)
        return table * scales[0] if scales else table

    def weights(self) -> Iterator[tuple[Array, Array | None]]:
        """Yield weight and bias of every convolution and matrix product in order, but of those with fixed filters."""
        adds = {name: node for node in self._nodes if node.op_type == "Add" for name in node.input}
        for node in self._nodes:
            if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in self._arrays:
                continue
            weight = self._arrays[node.input[1]]
            if node.op_type == "MatMul":
                after = adds.get(node.output[0])
                bias = (
                    next((self._arrays[name] for name in after.input if name in self._arrays), None) if after else None
                )
                yield weight.T, bias
            elif weight.ndim == 3:  # the log-mel front end
                continue
            else:
                bias = self._arrays[node.input[2]] if len(node.input) > 2 else None
                yield weight, bias

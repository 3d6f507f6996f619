"""The trained network as one .safetensors file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bnorm_abi import Library
from network import Network
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


class StateError(RuntimeError):
    """The file is no state of such a network."""


def save(network: Network, path: Path) -> None:
    write(network.tensors(), path, metadata_of(network))


def write(tensors: dict[str, np.ndarray], path: Path, metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise StateError(f"{path} cannot be written: {error}") from None


def metadata_of(network: Network) -> dict[str, str]:
    widths = ",".join(str(width) for width in network.widths)
    return {"widths": widths, "activation": network.activation, "normalized": str(int(bool(network.norms)))}


def load(path: Path, library: Library) -> Network:
    """Refuses a file that lacks a tensor: without its running statistics a network would serve nonsense silently."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StateError(f"{path} is no readable .safetensors file: {error}") from None
    network = _network(path, metadata, library)
    tensors = network.tensors()
    _check_names(path, set(tensors), set(stored))
    for name, array in tensors.items():
        if stored[name].shape != array.shape or stored[name].dtype != array.dtype:
            found, expected = stored[name], array
            raise StateError(
                f"{path}: {name} is {found.dtype}{list(found.shape)}, must be {expected.dtype}{list(expected.shape)}"
            )
        np.copyto(array, stored[name])
    return network


def _network(path: Path, metadata: dict[str, str], library: Library) -> Network:
    try:
        widths = tuple(int(width) for width in metadata["widths"].split(","))
        normalized = bool(int(metadata["normalized"]))
        return Network(widths, metadata["activation"], std=0.0, seed=0, library=library if normalized else None)
    except (KeyError, ValueError) as error:
        raise StateError(f"{path} does not describe a network: {error!r}") from None


def _check_names(path: Path, expected: set[str], stored: set[str]) -> None:
    missing, surplus = sorted(expected - stored), sorted(stored - expected)
    statistics = [name for name in missing if name.endswith((".running_mean", ".running_var"))]
    if statistics:
        raise StateError(
            f"{path} lacks the running statistics {', '.join(statistics)}: "
            "without them single images can't be normalized; save the state again with them"
        )
    if missing or surplus:
        raise StateError(f"{path}: missing tensors {missing}, unknown tensors {surplus}")

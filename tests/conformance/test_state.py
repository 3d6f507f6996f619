"""The demo's saved state: what is written comes back, and a file that can't serve is refused."""

from __future__ import annotations

import numpy as np
import pytest
import state
from network import Network
from safetensors.numpy import load_file, save_file

WIDTHS = (6, 5, 4, 3)


@pytest.fixture(params=["relu", "sigmoid"])
def trained(request, library):
    """A network whose running statistics have moved."""
    network = Network(WIDTHS, request.param, std=1.0, seed=3, library=library)
    network.forward(np.random.default_rng(4).normal(size=(16, WIDTHS[0])).astype(np.float32), training=True)
    return network


def test_round_trip_gives_the_same_logits(trained, library, tmp_path):
    path = tmp_path / "state.safetensors"
    state.save(trained, path)
    x = np.random.default_rng(5).normal(size=(7, WIDTHS[0])).astype(np.float32)
    loaded = state.load(path, library)
    assert loaded.tensors().keys() == trained.tensors().keys()
    np.testing.assert_array_equal(loaded.forward(x), trained.forward(x))
    untrained = Network(WIDTHS, trained.activation, std=1.0, seed=3, library=library)
    assert not np.array_equal(untrained.forward(x), trained.forward(x))


def test_file_without_running_statistics_is_refused(trained, library, tmp_path):
    with pytest.raises(state.StateError, match=r"lacks the running statistics norm1\.running_mean, norm1\.running_var"):
        state.load(rewritten(trained, tmp_path, lambda tensors: drop(tensors, ".running_")), library)


def test_file_without_one_running_variance_is_refused(trained, library, tmp_path):
    with pytest.raises(state.StateError, match=r"lacks the running statistics norm2\.running_var:"):
        state.load(rewritten(trained, tmp_path, lambda tensors: drop(tensors, "norm2.running_var")), library)


def test_other_missing_and_unknown_tensors_are_refused(trained, library, tmp_path):
    with pytest.raises(state.StateError, match=r"missing tensors \['norm1.scale'\]"):
        state.load(rewritten(trained, tmp_path, lambda tensors: drop(tensors, "norm1.scale")), library)
    with pytest.raises(state.StateError, match=r"unknown tensors \['more'\]"):
        state.load(rewritten(trained, tmp_path, lambda tensors: tensors | {"more": np.zeros(1)}), library)


def test_wrong_shape_is_refused(trained, library, tmp_path):
    with pytest.raises(state.StateError, match=r"norm1\.scale is float32\[2\], must be float32\[5\]"):
        state.load(rewritten(trained, tmp_path, lambda tensors: tensors | {"norm1.scale": np.ones(2, "f4")}), library)


def test_foreign_file_is_refused(library, tmp_path):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"no safetensors")
    with pytest.raises(state.StateError, match=r"no readable \.safetensors file"):
        state.load(path, library)
    save_file({"x": np.zeros(1)}, path)
    with pytest.raises(state.StateError, match="does not describe a network"):
        state.load(path, library)


def test_a_path_that_cannot_be_written_is_told(trained, tmp_path):
    with pytest.raises(state.StateError, match="cannot be written"):
        state.save(trained, tmp_path)


def drop(tensors: dict[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in tensors.items() if part not in name}


def rewritten(network: Network, folder, change):
    """The network's file after `change` of its tensors."""
    path = folder / "state.safetensors"
    state.save(network, path)
    save_file(change(load_file(path)), path, state.metadata_of(network))
    return path

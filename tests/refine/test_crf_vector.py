"""Vectors of float32 in compiled code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.refine.crf.compiled import compiled
from wsss_zoo.refine.crf.vector import (
    SMALLEST_EXPONENT,
    broadcast,
    exponential,
    largest,
    less,
    load,
    maximum,
    multiply_add,
    nearest,
    store,
    total,
)

LANES = 8


@compiled
def lanewise(a, b, result):
    for row in range(a.shape[0]):
        x, y = load(a, row, LANES), load(b, row, LANES)
        store(result, 9 * row, x + y)
        store(result, 9 * row + 1, x - y)
        store(result, 9 * row + 2, x * y)
        store(result, 9 * row + 3, maximum(x, y))
        store(result, 9 * row + 4, less(x, y))
        store(result, 9 * row + 5, nearest(x))
        store(result, 9 * row + 6, multiply_add(x, y, broadcast(0.5, LANES)))
        store(result, 9 * row + 7, broadcast(largest(x), LANES))
        store(result, 9 * row + 8, broadcast(total(x), LANES))


@compiled
def exponentials(a, result):
    for row in range(a.shape[0]):
        store(result, row, exponential(load(a, row, 4)))


@given(st.integers(1, 5), st.integers(0, 2**16))
def test_operations_of_lanes(rows, seed):
    rng = np.random.default_rng(seed)
    # halves among them, which round to even
    a = (rng.integers(-20, 20, (rows, LANES)) / 2).astype(np.float32)
    b = rng.normal(size=(rows, LANES)).astype(np.float32)
    result = np.empty((9 * rows, LANES), np.float32)
    lanewise(a, b, result)
    everywhere = np.ones((1, LANES), np.float32)
    expected = np.stack(
        [
            *(a + b, a - b, a * b, np.maximum(a, b), (a < b).astype(np.float32), np.rint(a), a * b + 0.5),
            *(a.max(1, keepdims=True) * everywhere, a.sum(1, keepdims=True) * everywhere),
        ],
        axis=1,
    )
    np.testing.assert_allclose(result, expected.reshape(-1, LANES), rtol=1e-6, atol=1e-6)


def test_exponential():
    a = np.linspace(SMALLEST_EXPONENT + 1e-3, 0, 4 * 10_000, dtype=np.float32).reshape(-1, 4)
    result = np.empty_like(a)
    exponentials(a, result)
    np.testing.assert_allclose(result, np.exp(a.astype(np.float64)), rtol=1e-5)
    near = a >= -5
    np.testing.assert_allclose(result[near], np.exp(a[near].astype(np.float64)), rtol=1e-6)
    assert result[-1, -1] == 1
    far = np.array([[-60.5, -1e4, -1e30, -np.inf]], np.float32)
    exponentials(far, result[:1])
    np.testing.assert_array_equal(result[0], 0)


def test_compiled_without_a_place_for_the_code():
    names: dict = {}
    # a function without a source file has no place for its code, as where nothing can be written
    exec(compile("def double(x):\n    return 2 * x", "<nowhere>", "exec"), names)
    assert compiled(names["double"])(3) == 6


def test_other_errors_of_compilation_are_not_hidden(monkeypatch):
    def refuse(**options):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("wsss_zoo.refine.crf.compiled.njit", refuse)
    with pytest.raises(RuntimeError, match="out of luck"):
        compiled(lambda x: x)

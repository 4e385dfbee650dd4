"""Short vectors of float32 inside numba kernels, one machine instruction an operation.

The CRF works on short rows of numbers, one a label. LLVM's loop vectoriser guards such a row with a check
whether the arrays overlap; with these vectors a lattice filter takes 40 % (4 labels) to 60 % (21) of the time
(benchmarks/dense_crf_techniques.py). A vector of 8 numbers is one register with AVX and two with SSE or NEON.

Each function is an instruction for code compiled by numba; none can be called from Python. Lanes are
constants known when a kernel is compiled.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)

# 2^f on [-1/2, 1/2], relative error 2e-7: the minimax polynomial of Cephes' exp2f, highest power first
_EXP2_POLYNOMIAL = (
    1.535336188319500e-4,
    1.339887440266574e-3,
    9.618437357674640e-3,
    5.550332471162809e-2,
    2.402264791363012e-1,
    6.931472028550421e-1,
    1.0,
)
_LOG2_E = 1.4426950408889634
#: `exponential` gives 0 below, before products with lattice weights become slow subnormal numbers.
SMALLEST_EXPONENT = -60.0


class Float32Vector(types.Type):
    """numba's type of a vector with a fixed number of lanes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(Float32Vector)
class _Float32VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Float32Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(_FLOAT, fe_type.lanes))


def _constant(lanes: int, value: float) -> ir.Constant:
    return ir.Constant(ir.VectorType(_FLOAT, lanes), [ir.Constant(_FLOAT, value)] * lanes)


def _call(builder: Any, name: str, result: Any, arguments: Any, fastmath: tuple[str, ...] = ()) -> Any:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, arguments, fastmath=fastmath)


def _address(context: Any, builder: Any, signature: Any, arguments: Any, lanes: int) -> Any:
    """Pointer to a row of an array with `lanes` columns; the arguments begin with array and row."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    row = context.cast(builder, arguments[1], signature.args[1], types.intp)
    pointer = builder.gep(array.data, [builder.mul(row, ir.Constant(row.type, lanes))])
    return builder.bitcast(pointer, ir.VectorType(_FLOAT, lanes).as_pointer())


@intrinsic
def load(typingctx: Any, array: Any, row: Any, lanes: Any) -> Any:
    """Row of a C-contiguous float32 array `(rows, lanes)`; the row is not checked."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    count = lanes.literal_value

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # numpy aligns to the number only
        return builder.load(_address(context, builder, signature, arguments, count), align=4)

    return Float32Vector(count)(array, row, lanes), code


@intrinsic
def store(typingctx: Any, array: Any, row: Any, vector: Any) -> Any:
    """Write a vector to a row of a C-contiguous float32 array `(rows, lanes)`; the row is not checked."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature, arguments, vector.lanes), align=4)
        return context.get_dummy_value()

    return types.none(array, row, vector), code


@intrinsic
def broadcast(typingctx: Any, value: Any, lanes: Any) -> Any:
    """The same number in every lane."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    count = lanes.literal_value

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[0], signature.args[0], types.float32)
        undefined = ir.Constant(ir.VectorType(_FLOAT, count), ir.Undefined)
        first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
        return builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(_INT, count), [ir.Constant(_INT, 0)] * count)
        )

    return Float32Vector(count)(value, lanes), code


@intrinsic
def multiply_add(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """`a * b + c`, with one rounding where the machine has such an instruction."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, f"llvm.fmuladd.v{a.lanes}f32", arguments[0].type, arguments)

    return a(a, b, c), code


@intrinsic
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger number of each lane."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), code


@intrinsic
def less(typingctx: Any, a: Any, b: Any) -> Any:
    """1 in lanes where `a < b`, 0 elsewhere."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        below = builder.fcmp_ordered("<", *arguments)
        return builder.select(below, _constant(a.lanes, 1.0), _constant(a.lanes, 0.0))

    return a(a, b), code


@intrinsic
def nearest(typingctx: Any, a: Any) -> Any:
    """Round to whole numbers, halves to the even one."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, f"llvm.rint.v{a.lanes}f32", arguments[0].type, arguments)

    return a(a), code


@intrinsic
def exponential(typingctx: Any, a: Any) -> Any:
    """`e^a` for `a <= 0`: relative error below 1e-6 down to -5, 1e-5 to `SMALLEST_EXPONENT`, then 0."""
    lanes = a.lanes

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, whole_type = arguments[0].type, ir.VectorType(_INT, lanes)
        above = builder.fcmp_ordered(">", arguments[0], _constant(lanes, SMALLEST_EXPONENT))
        bounded = builder.select(above, arguments[0], _constant(lanes, SMALLEST_EXPONENT))
        binary = builder.fmul(bounded, _constant(lanes, _LOG2_E))
        whole = _call(builder, f"llvm.rint.v{lanes}f32", vector, [binary])
        fraction = builder.fsub(binary, whole)
        power = _constant(lanes, _EXP2_POLYNOMIAL[0])
        for coefficient in _EXP2_POLYNOMIAL[1:]:
            terms = [power, fraction, _constant(lanes, coefficient)]
            power = _call(builder, f"llvm.fmuladd.v{lanes}f32", vector, terms)
        # times 2^whole: the bits of an IEEE number with that exponent
        exponent = builder.add(builder.fptosi(whole, whole_type), ir.Constant(whole_type, [127] * lanes))
        scale = builder.bitcast(builder.shl(exponent, ir.Constant(whole_type, [23] * lanes)), vector)
        return builder.select(above, builder.fmul(power, scale), _constant(lanes, 0.0))

    return a(a), code


@intrinsic
def largest(typingctx: Any, a: Any) -> Any:
    """The largest number of all lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = f"llvm.vector.reduce.fmax.v{a.lanes}f32"
        return _call(builder, name, _FLOAT, arguments, fastmath=("nnan",))

    return types.float32(a), code


@intrinsic
def total(typingctx: Any, a: Any) -> Any:
    """Sum of all lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = f"llvm.vector.reduce.fadd.v{a.lanes}f32"
        # reassoc: pairwise instead of lane after lane
        return _call(builder, name, _FLOAT, [ir.Constant(_FLOAT, 0.0), *arguments], fastmath=("reassoc",))

    return types.float32(a), code


def _lanewise(operation: Callable[..., Any], instruction: str) -> None:
    """Let `operation` work on two vectors."""

    @intrinsic
    def apply(typingctx: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return a(a, b), code

    def lanewise(a: Any, b: Any) -> Any:
        return apply(a, b)

    @overload(operation)
    def choose(a: Any, b: Any) -> Any:
        return lanewise if isinstance(a, Float32Vector) and isinstance(b, Float32Vector) else None


_lanewise(operator.add, "fadd")
_lanewise(operator.sub, "fsub")
_lanewise(operator.mul, "fmul")

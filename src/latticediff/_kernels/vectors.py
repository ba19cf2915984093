"""Vectors as values in compiled code: `LANES` floats that are added, multiplied and kept in registers together.

A loop that LLVM is left to vectorise needs proof that its arrays do not overlap, and keeps its sums in memory where
the proof fails. Here one lane is one configuration: a kernel written for one configuration in terms of these values
works on `LANES` at once, and every lane has the bits that it would have alone. `Single` holds float32, `Double`
float64; ``+ - * /`` act lane by lane. A product that is added may be rounded once (fused) where the machine can.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "LANES",
    "add_products",
    "load",
    "narrow",
    "nothing",
    "number",
    "pick",
    "root",
    "spread",
    "store",
    "store_all",
    "widen",
]


def _lanes() -> int:
    """Numbers in a vector: 16 where the machine has 32 wide registers, which hold sums of eight vectors; else 8."""
    config: Any = numba.config  # attributes that it makes itself
    features = config.CPU_FEATURES
    if features is None:
        known = llvmlite.binding.get_host_cpu_features()
        return 16 if config.CPU_NAME is None and known.get("avx512f") else 8
    return 16 if "+avx512f" in features else 8


Kind = Any  #: a type of Numba's, whose attributes depend on which it is
Lowering = Callable[..., ir.Value]  #: ``codegen(context, builder, signature, arguments)`` of an intrinsic

LANES = _lanes()
CONTRACT = ("contract",)


class Vector(types.Type):
    """Numba's type of `LANES` numbers."""

    def __init__(self, scalar: types.Type, element: ir.Type) -> None:
        self.scalar, self.vector = scalar, ir.VectorType(element, LANES)
        super().__init__(name=f"Vector({scalar} x {LANES})")


Single, Double = Vector(types.float32, ir.FloatType()), Vector(types.float64, ir.DoubleType())


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.vector)


def _of(scalar: Kind) -> Any:
    """The vector type of a scalar type; None if there is none."""
    return {types.float32: Single, types.float64: Double}.get(scalar)


class _Elementwise(AbstractTemplate):
    def generic(self, args: Sequence[types.Type], kws: Any) -> Any:
        if len(args) == 2 and args[0] == args[1] and isinstance(args[0], Vector):
            return signature(args[0], *args)
        return None


def _register(operation: Callable[..., Any], instruction: str) -> None:
    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        return getattr(builder, instruction)(*args, flags=CONTRACT)

    infer_global(operation)(type("_Template", (_Elementwise,), {}))
    lower_builtin(operation, Vector, Vector)(lower)


for _operation, _instruction in (("add", "fadd"), ("sub", "fsub"), ("mul", "fmul"), ("truediv", "fdiv")):
    _register(getattr(operator, _operation), _instruction)
    _register(getattr(operator, f"i{_operation}"), _instruction)


def _pointer(
    context: Any, builder: ir.IRBuilder, kind: Kind, array: ir.Value, index: ir.Value, vector: ir.Type
) -> ir.Value:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _in_all_lanes(builder: ir.IRBuilder, number: ir.Value, vector: ir.Type) -> ir.Value:
    empty = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


@intrinsic
def load(typingctx: Any, array: Kind, index: Kind) -> tuple[Any, Lowering]:
    """The vector at ``array[index : index + LANES]`` of a flat array; no bounds are checked."""
    kind = _of(array.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        value = builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], kind.vector))
        value.align = array.dtype.bitwidth // 8
        return value

    return kind(array, types.int64), codegen


@intrinsic
def number(typingctx: Any, array: Kind, index: Kind) -> tuple[Any, Lowering]:
    """``array[index]`` of a flat array of integers as int64; neither bounds nor the sign of the index are looked at."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.sext(builder.load(builder.gep(data, [args[1]])), ir.IntType(64))

    return types.int64(array, types.int64), codegen


@intrinsic
def store(typingctx: Any, array: Kind, index: Kind, value: Kind) -> tuple[Any, Lowering] | None:
    """``array[index : index + LANES] = value``."""
    if not isinstance(value, Vector):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        done = builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], args[1], value.vector))
        done.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none(array, types.int64, value), codegen


@intrinsic
def spread(typingctx: Any, number: Kind) -> tuple[Any, Lowering]:
    """A number in all lanes."""
    kind = _of(number)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        return _in_all_lanes(builder, args[0], kind.vector)

    return kind(number), codegen


@intrinsic
def widen(typingctx: Any, value: Kind) -> tuple[Any, Lowering]:
    """float32 to float64."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        return builder.fpext(args[0], Double.vector)

    return Double(Single), codegen


@intrinsic
def narrow(typingctx: Any, value: Kind) -> tuple[Any, Lowering]:
    """float64 to float32."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        return builder.fptrunc(args[0], Single.vector)

    return Single(Double), codegen


@intrinsic
def root(typingctx: Any, value: Kind) -> tuple[Any, Lowering]:
    """Square root, correctly rounded on every machine."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        name = f"llvm.sqrt.v{LANES}f{value.scalar.bitwidth}"
        kind = ir.FunctionType(value.vector, [value.vector])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return value(value), codegen


@intrinsic
def pick(typingctx: Any, a: Kind, b: Kind, x: Kind, y: Kind) -> tuple[Any, Lowering]:
    """x in the lanes where a <= b, y in the others; y where either is NaN."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[2], args[3])

    return x(a, b, x, y), codegen


@intrinsic(prefer_literal=True)
def nothing(typingctx: Any, count: Kind) -> tuple[Any, Lowering] | None:
    """A tuple of `count` float32 vectors of zeros, a number known at compile time: sums that stay in registers."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    sums = types.UniTuple(Single, count.literal_value)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        return context.make_tuple(builder, sums, [ir.Constant(Single.vector, [0.0] * LANES)] * sums.count)

    return sums(count), codegen


@intrinsic
def add_products(typingctx: Any, sums: Kind, table: Kind, at: Kind, pair: Kind) -> tuple[Any, Lowering] | None:
    """``sums[2 i + j] + table[at + i] * pair[j]``, j = 0, 1, for all sums; `table` is a flat array of numbers.

    Every number that is loaded serves two vectors, every vector half of the sums.
    """
    if not isinstance(sums, types.UniTuple) or not isinstance(pair, types.UniTuple) or pair.count != 2:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        found = cgutils.unpack_tuple(builder, args[0], sums.count)
        vectors = cgutils.unpack_tuple(builder, args[3], 2)
        first = builder.gep(context.make_array(sig.args[1])(context, builder, args[1]).data, [args[2]])
        for i in range(sums.count // 2):
            number = builder.load(builder.gep(first, [ir.Constant(ir.IntType(64), i)]))
            factor = _in_all_lanes(builder, number, Single.vector)
            for j in range(2):
                product = builder.fmul(factor, vectors[j], flags=CONTRACT)
                found[2 * i + j] = builder.fadd(found[2 * i + j], product, flags=CONTRACT)
        return context.make_tuple(builder, sums, found)

    return sums(sums, table, at, pair), codegen


@intrinsic
def store_all(typingctx: Any, array: Kind, index: Kind, sums: Kind) -> tuple[Any, Lowering] | None:
    """The vectors of a tuple, one behind the other, from ``array[index]`` on."""
    if not isinstance(sums, types.UniTuple):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> ir.Value:
        for i, vector in enumerate(cgutils.unpack_tuple(builder, args[2], sums.count)):
            at = builder.add(args[1], ir.Constant(ir.IntType(64), i * LANES))
            done = builder.store(vector, _pointer(context, builder, sig.args[0], args[0], at, vector.type))
            done.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none(array, types.int64, sums), codegen

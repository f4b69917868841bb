"""Vector code for batches of frames: the only generated code of the engine.

A batch is `WIDTH` frames interleaved pixel by pixel, so that one index and one share serve all of them. LLVM does not
find these vectors by itself: written as scalars, the same loops took 3.3 times as long. Vectors are of a fixed width in
the compiler's own representation and become whatever the processor has; every lane does what the kernels for one frame
do, in the same order, so that results have the same bits.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 8
_DOUBLE = ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)
_MASK = ir.VectorType(ir.IntType(32), WIDTH)


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return a pointer to element `index` of a contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _vector_at(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, _VECTOR.as_pointer())


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(_vector_at(builder, pointer), align=8)


def _store(builder: Any, vector: Any, pointer: Any) -> None:
    builder.store(vector, _vector_at(builder, pointer), align=8)


def _spread(builder: Any, value: Any) -> Any:
    """Return a vector with `value` in every lane."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_MASK, [0] * WIDTH))


def _shuffle(builder: Any, one: Any, two: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(one, two, ir.Constant(_MASK, lanes))


@intrinsic
def transpose(typingctx: Any, source: Any, start: Any, stride: Any, target: Any, to: Any) -> Any:
    """Write the columns of ``source[start + f * stride + j]`` (f, j < WIDTH) to ``target[to + j * WIDTH + f]``.

    Both are flat float64 arrays.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, start, stride, target, to = arguments
        types_ = signature.args
        rows = []
        for f in range(WIDTH):
            at = builder.add(start, builder.mul(stride, ir.Constant(stride.type, f)))
            rows.append(_load(builder, _element(context, builder, types_[0], source, at)))
        # Three rounds of exchanging blocks of 4, 2 and 1 lanes between pairs of rows.
        block = WIDTH // 2
        while block:
            for f in range(WIDTH):
                if f & block:
                    continue
                one, two = rows[f], rows[f + block]
                low = [j if not j & block else j - block + WIDTH for j in range(WIDTH)]
                high = [j + block if not j & block else j + WIDTH for j in range(WIDTH)]
                rows[f] = _shuffle(builder, one, two, low)
                rows[f + block] = _shuffle(builder, one, two, high)
            block //= 2
        for j in range(WIDTH):
            at = builder.add(to, ir.Constant(to.type, j * WIDTH))
            _store(builder, rows[j], _element(context, builder, types_[3], target, at))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp), generate


@intrinsic
def add_row(
    typingctx: Any, first: Any, last: Any, pixels: Any, shares: Any, norm: Any, signal: Any, sums: Any, at: Any
) -> Any:
    """Add the entries first..last of a batch to the 4 * WIDTH sums that begin at ``sums[at]``: V, A, B, P.

    Parameters
    ----------
    first, last
        Entries of one row of the matrix.
    pixels
        uint16, number of the entry's pixel in its tile.
    shares
        float32, or None: all 1.
    norm
        float64, normalization of the tile's pixels.
    signal
        float64, flat, the interleaved frames of the tile.
    sums
        float64, flat.
    """
    shared = not isinstance(shares, types.NoneType)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, last, pixels, shares, norm, signal, sums, at = arguments
        types_ = signature.args
        zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
        totals = [cgutils.alloca_once_value(builder, zero) for _ in range(4)]

        def add(total: Any, value: Any) -> None:
            builder.store(builder.fadd(builder.load(total), value), total)

        one = ir.Constant(first.type, 1)
        with cgutils.for_range_slice(builder, first, last, one, first.type) as (k, _):
            pixel = builder.load(_element(context, builder, types_[2], pixels, k))
            pixel = builder.zext(pixel, first.type)
            weight = builder.load(_element(context, builder, types_[4], norm, pixel))
            lane = builder.mul(pixel, ir.Constant(first.type, WIDTH))
            y = _load(builder, _element(context, builder, types_[5], signal, lane))
            if shared:
                share = builder.load(_element(context, builder, types_[3], shares, k))
                share = builder.fpext(share, _DOUBLE)
                weight = builder.fmul(share, weight)
                share = _spread(builder, share)
                y = builder.fmul(share, y)
            positive = builder.select(builder.fcmp_ordered(">", y, zero), y, zero)
            add(totals[0], y)
            add(totals[1], builder.fmul(_spread(builder, weight), y))
            add(totals[2], builder.fmul(y, y))
            add(totals[3], builder.fmul(share, positive) if shared else positive)
        for q, total in enumerate(totals):
            pointer = _element(context, builder, types_[6], sums, builder.add(at, ir.Constant(at.type, q * WIDTH)))
            _store(builder, builder.fadd(_load(builder, pointer), builder.load(total)), pointer)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, pixels, shares, norm, signal, sums, types.intp), generate

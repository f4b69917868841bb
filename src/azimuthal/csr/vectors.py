"""Vector code for batches of frames: the only generated code of the engine.

A batch is `WIDTH` frames interleaved pixel by pixel, so that one index and one share serve all; where frames are
also added up, and the totals summed after each, the totals stand beside the frames. LLVM does not find these vectors by
itself: written as scalars, the same loops took 3.3 times as long. Vectors are of a fixed width in the compiler's own
representation and become whatever the processor has; every lane does what the kernels for one frame do, in the same
order, so that results have the same bits. Products are added with one rounding (`multiply_add`): that takes one
instruction instead of two, and is the same everywhere, while the compiler's leave to contract would not be.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

WIDTH = 8
_DOUBLE = ir.DoubleType()
_INDEX = ir.IntType(32)


def _vector(lanes: int, element: Any = _DOUBLE) -> Any:
    return ir.VectorType(element, lanes)


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return a pointer to element `index` of a contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _vector_at(builder: Any, pointer: Any, lanes: int) -> Any:
    return builder.bitcast(pointer, _vector(lanes, pointer.type.pointee).as_pointer())


def _load(builder: Any, pointer: Any, lanes: int) -> Any:
    return builder.load(_vector_at(builder, pointer, lanes), align=_alignment(pointer.type.pointee))


def _store(builder: Any, vector: Any, pointer: Any) -> None:
    to = _vector_at(builder, pointer, vector.type.count)
    builder.store(vector, to, align=_alignment(vector.type.element))


def _alignment(element: Any) -> int:
    """Return the bytes of an element, the only thing known of where an array begins."""
    return 8 if element == _DOUBLE else int(element.width) // 8


def _add(builder: Any, one: Any, two: Any) -> Any:
    return builder.fadd(one, two) if one.type.element == _DOUBLE else builder.add(one, two)


def _multiply_add(builder: Any, one: Any, two: Any, three: Any) -> Any:
    """Return one * two + three, rounded once: float64, or vectors of it."""
    lanes = getattr(one.type, "count", 0)
    made = ir.FunctionType(one.type, [one.type] * 3)
    name = f"llvm.fma.v{lanes}f64" if lanes else "llvm.fma.f64"
    return builder.call(cgutils.get_or_insert_function(builder.module, made, name), [one, two, three])


def _whole(builder: Any, vector: Any) -> Any:
    """Return float64 as int64, other whole numbers as they are."""
    if vector.type.element == _DOUBLE:
        return builder.fptosi(vector, _vector(vector.type.count, ir.IntType(64)))
    return vector


def _real(builder: Any, vector: Any) -> Any:
    """Return float64, of counts too."""
    if vector.type.element == _DOUBLE:
        return vector
    return builder.uitofp(vector, _vector(vector.type.count))


def _spread(builder: Any, value: Any, lanes: int) -> Any:
    """Return a vector with `value` in every lane."""
    nothing = ir.Constant(_vector(lanes), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_INDEX, 0))
    return _shuffle(builder, one, nothing, [0] * lanes)


def _shuffle(builder: Any, one: Any, two: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes))


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Have the cache line of an element of a contiguous array on its way from memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        made = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], made)
        pointer = builder.bitcast(_element(context, builder, signature.args[0], *arguments), byte)
        to_read, to_all_caches, data = word(0), word(3), word(1)
        builder.call(function, [pointer, to_read, to_all_caches, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of `WIDTH` rows, by three rounds of exchanging blocks of lanes between pairs of rows."""
    rows = list(rows)
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
    return rows


@intrinsic
def interleave(
    typingctx: Any, lines: Any, start: Any, stride: Any, mixed: Any, to: Any, added: Any, before: Any
) -> Any:
    """Write `WIDTH` pixels of a line of `WIDTH` frames pixel by pixel.

    Parameters
    ----------
    lines
        float64 or uint32, flat; pixel j of frame f is ``lines[start + f * stride + j]``.
    mixed
        Of the same dtype, flat, receives it as ``mixed[to + j * lanes + f]``; lanes is WIDTH, or 2 * WIDTH with
        ``before``.
    added
        uint32 with lines of it, else int64: receives the sum over the frames, whole numbers, as ``added[start + j]``;
        of uint32 also all bits that any of them has, ``stride`` elements later. None: not wanted.
    before
        Of the same dtype as lines, totals before the first frame, likewise; those after frame f then go to
        ``mixed[to + j * lanes + WIDTH + f]``, uint32 wrapped. None: not wanted.
    """
    summed, followed = (not isinstance(kind, types.NoneType) for kind in (added, before))
    lanes = 2 * WIDTH if followed else WIDTH

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lines, start, stride, mixed, to, added, before = arguments
        types_ = signature.args
        rows = []
        for f in range(WIDTH):
            at = builder.add(start, builder.mul(stride, ir.Constant(stride.type, f)))
            rows.append(_load(builder, _element(context, builder, types_[0], lines, at), WIDTH))

        def write(rows: list[Any], first: int) -> None:
            for j, column in enumerate(_transposed(builder, rows)):
                at = builder.add(to, ir.Constant(to.type, j * lanes + first))
                _store(builder, column, _element(context, builder, types_[3], mixed, at))

        write(rows, 0)
        if followed:
            total, totals = _load(builder, _element(context, builder, types_[6], before, start), WIDTH), []
            for row in rows:
                total = _add(builder, total, row)
                totals.append(total)
            write(totals, WIDTH)
        if summed:
            total, *others = (_whole(builder, row) for row in rows)
            for row in others:
                total = builder.add(total, row)
            _store(builder, total, _element(context, builder, types_[5], added, start))
            if total.type.element != ir.IntType(64):
                every = rows[0]
                for row in rows[1:]:
                    every = builder.or_(every, row)
                _store(builder, every, _element(context, builder, types_[5], added, builder.add(start, stride)))
        return context.get_dummy_value()

    intp = types.intp
    return types.void(lines, intp, intp, mixed, intp, added, before), generate


@intrinsic
def borrowed(typingctx: Any, arguments: Any) -> Any:
    """Return a tuple of a function's arguments whose arrays do not count as references.

    numba counts references atomically, at every call and for every element of a tuple: where lines of a hundred pixels
    are handed on, that took 15 % of the time. Whoever calls the function has the arrays as long as it runs.
    """

    def without_owner(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if not isinstance(kind, types.Array):
            return value
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = ir.Constant(array.meminfo.type, None)
        return array._getvalue()  # noqa: SLF001  numba's way

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        (values,) = given
        for k, kind in enumerate(arguments):
            part = without_owner(context, builder, kind, builder.extract_value(values, k))
            values = builder.insert_value(values, part, k)
        return values

    return arguments(arguments), generate


@intrinsic
def lent(typingctx: Any, array: Any, start: Any, stop: Any) -> Any:
    """Return elements start..stop of a flat contiguous array, not counting as a reference: see `borrowed`.

    The array must be an argument of the function that asks, or be used in the same loop: else it may be gone.
    """
    if array.ndim != 1 or array.layout != "C":
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given, start, stop = arguments
        make = context.make_array(signature.return_type)
        whole, part = make(context, builder, given), make(context, builder)
        step = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
        data, shape = builder.gep(whole.data, [start]), [builder.sub(stop, start)]
        populate_array(part, data=data, shape=shape, strides=[step], itemsize=step, meminfo=None)
        return part._getvalue()  # noqa: SLF001  numba's way

    return array(array, types.intp, types.intp), generate


@intrinsic
def multiply_add(typingctx: Any, one: Any, two: Any, three: Any) -> Any:
    """Return one * two + three, rounded once, wherever it runs."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _multiply_add(builder, *arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic
def add_products(typingctx: Any, array: Any, at: Any, ones: Any, others: Any) -> Any:
    """Add the products of two tuples of `WIDTH` float64 numbers to elements of a contiguous array, from ``at`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, *factors = arguments
        vectors = []
        for given in factors:
            vector = ir.Constant(_vector(WIDTH), ir.Undefined)
            for lane in range(WIDTH):
                vector = builder.insert_element(vector, builder.extract_value(given, lane), ir.Constant(_INDEX, lane))
            vectors.append(vector)
        where = _element(context, builder, signature.args[0], array, at)
        one, two = vectors
        _store(builder, _multiply_add(builder, one, two, _load(builder, where, WIDTH)), where)
        return context.get_dummy_value()

    return types.void(array, types.intp, ones, others), generate


def _row_adder(lanes: int) -> Any:
    """Return an intrinsic that sums rows of the matrix over interleaved frames, `lanes` of them."""

    @intrinsic
    def add(
        typingctx: Any,
        first: Any,
        last: Any,
        pixels: Any,
        shares: Any,
        norm: Any,
        signal: Any,
        frames: Any,
        sums: Any,
        at: Any,
    ) -> Any:
        """Add the entries first..last to the 4 * lanes sums that begin at ``sums[at]``: V, A, B, P.

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
            float64 or uint32, flat, the interleaved frames of the tile.
        frames
            Where the signal comes from; only its dtype is looked at.
        sums
            float64, flat.
        """
        shared = not isinstance(shares, types.NoneType)
        signed = not (isinstance(frames.dtype, types.Integer) and not frames.dtype.signed)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            first, last, pixels, shares, norm, signal, _, sums, at = arguments
            types_ = signature.args
            zero = ir.Constant(_vector(lanes), [0.0] * lanes)
            totals = [cgutils.alloca_once_value(builder, zero) for _ in range(4)]

            def add(total: Any, value: Any) -> None:
                builder.store(builder.fadd(builder.load(total), value), total)

            def add_product(total: Any, one: Any, two: Any) -> None:
                builder.store(_multiply_add(builder, one, two, builder.load(total)), total)

            one = ir.Constant(first.type, 1)
            with cgutils.for_range_slice(builder, first, last, one, first.type) as (k, _):
                pixel = builder.load(_element(context, builder, types_[2], pixels, k))
                pixel = builder.zext(pixel, first.type)
                weight = builder.load(_element(context, builder, types_[4], norm, pixel))
                lane = builder.mul(pixel, ir.Constant(first.type, lanes))
                y = _real(builder, _load(builder, _element(context, builder, types_[5], signal, lane), lanes))
                if shared:
                    share = builder.load(_element(context, builder, types_[3], shares, k))
                    share = builder.fpext(share, _DOUBLE)
                    weight = builder.fmul(share, weight)
                    share = _spread(builder, share, lanes)
                    y = builder.fmul(share, y)
                add(totals[0], y)
                add_product(totals[1], _spread(builder, weight, lanes), y)
                add_product(totals[2], y, y)
                if signed:
                    y = builder.select(builder.fcmp_ordered(">", y, zero), y, zero)
                if shared:
                    add_product(totals[3], share, y)
                elif signed:
                    add(totals[3], y)
            if not shared and not signed:
                totals[3] = totals[0]
            for q, total in enumerate(totals):
                place = builder.add(at, ir.Constant(at.type, q * lanes))
                pointer = _element(context, builder, types_[7], sums, place)
                _store(builder, builder.fadd(_load(builder, pointer, lanes), builder.load(total)), pointer)
            return context.get_dummy_value()

        intp = types.intp
        return types.void(intp, intp, pixels, shares, norm, signal, frames, sums, intp), generate

    return add


add_row_of_two = _row_adder(2)
"""Of a frame and the total."""
add_row = _row_adder(WIDTH)
"""Of a batch."""
add_row_of_both = _row_adder(2 * WIDTH)
"""Of a batch and the totals after each of its frames."""

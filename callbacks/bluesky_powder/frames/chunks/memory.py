"""Reading and writing bytes at addresses, for the decoders: code that LLVM does not find by itself.

Nothing here checks anything; its callers do, before each use.
"""

# ruff: noqa: ARG001 - numba wants the names of what is generated

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 32
"""Bytes of a vector."""
_BYTE = ir.IntType(8)
_WORD = ir.IntType(64)
_MASK = ir.IntType(32)
_VECTOR = ir.VectorType(_BYTE, WIDTH)
_WORDS = ir.VectorType(_WORD, WIDTH // 8)
_ALL = 2**64 - 1
_EXCHANGES = ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F))
"""Bits to shift by, and those that stay: transposes 8 x 8 bits in three rounds."""


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(_pointer(builder, address, kind), align=1)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, _pointer(builder, address, value.type), align=1)


def _reader(kind: Any, result: Any) -> Any:
    @intrinsic
    def read(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = _load(builder, arguments[0], kind)
            return value if kind == _WORD else builder.zext(value, _WORD)

        return result(types.intp), generate

    return read


def _copier(kind: Any) -> Any:
    @intrinsic
    def copy(typingctx: Any, target: Any, source: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _store(builder, _load(builder, arguments[1], kind), arguments[0])
            return context.get_dummy_value()

        return types.void(types.intp, types.intp), generate

    return copy


byte_at = _reader(_BYTE, types.int64)
"""``byte_at(address)`` returns the byte there as int64."""
pair_at = _reader(ir.IntType(16), types.int64)
"""``pair_at(address)`` returns the two bytes there as int64, the lower one first."""
word_at = _reader(_WORD, types.uint64)
"""``word_at(address)`` returns the eight bytes there as uint64."""
copy_8 = _copier(ir.VectorType(_BYTE, 8))
"""``copy_8(target, source)`` copies 8 bytes: reads all, then writes."""
copy_16 = _copier(ir.VectorType(_BYTE, 16))
"""Likewise, 16 bytes."""
copy_32 = _copier(_VECTOR)
"""Likewise, 32 bytes."""


@intrinsic
def put_byte(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the lowest byte of an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _store(builder, builder.trunc(arguments[1], _BYTE), arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), generate


@intrinsic
def put_word(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the eight bytes of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _store(builder, arguments[1], arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp, types.uint64), generate


@intrinsic
def put_words(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the eight bytes of a uint64 four times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = ir.Constant(_WORDS, ir.Undefined)
        for lane in range(WIDTH // 8):
            words = builder.insert_element(words, arguments[1], ir.Constant(_MASK, lane))
        _store(builder, words, arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp, types.uint64), generate


@intrinsic
def copy_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy bytes between places that do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = (_pointer(builder, address, _BYTE) for address in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], ir.Constant(_WORD, 1))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def occupied(typingctx: Any, address: Any, stride: Any) -> Any:
    """Tell whether any of 8 vectors, `stride` bytes apart, has a bit that is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, stride = arguments
        found = _rows(builder, address, stride, 8)
        while len(found) > 1:
            found = [builder.or_(one, two) for one, two in zip(found[::2], found[1::2], strict=True)]
        wide = ir.IntType(8 * WIDTH)
        return builder.icmp_unsigned("!=", builder.bitcast(found[0], wide), ir.Constant(wide, 0))

    return types.boolean(types.intp, types.intp), generate


@intrinsic
def transpose_bits(typingctx: Any, address: Any, stride: Any, target: Any) -> Any:
    """Write 8 * WIDTH bytes: bit p of byte 8 g + e is bit e of byte g of row p. Rows are `stride` bytes apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, stride, target = arguments
        rows = [builder.bitcast(row, _WORDS) for row in _rows(builder, address, stride, 8)]
        for distance, stay in _EXCHANGES:
            for p in range(8):
                if not p & distance:
                    rows[p], rows[p | distance] = _exchange(builder, rows[p], rows[p | distance], distance, stay)
        _store(builder, _interleaved(builder, [builder.bitcast(row, _VECTOR) for row in rows]), target)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _weaver(size: int) -> Any:
    @intrinsic
    def weave(typingctx: Any, address: Any, stride: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, stride, target = arguments
            _store(builder, _interleaved(builder, _rows(builder, address, stride, size)), target)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp), generate

    return weave


weave_2 = _weaver(2)
"""``weave_2(address, stride, target)`` writes 2 * WIDTH bytes: byte 2 g + k is byte g of row k."""
weave_4 = _weaver(4)
"""Likewise, of 4 rows."""
weave_8 = _weaver(8)
"""Likewise, of 8 rows."""


def _rows(builder: Any, address: Any, stride: Any, count: int) -> list[Any]:
    rows = []
    for _ in range(count):
        rows.append(_load(builder, address, _VECTOR))
        address = builder.add(address, stride)
    return rows


def _exchange(builder: Any, one: Any, two: Any, distance: int, stay: int) -> tuple[Any, Any]:
    """Swap the bits of `one` that do not stay with the bits of `two` that do."""

    def each(word: int) -> Any:
        return ir.Constant(_WORDS, [word] * (WIDTH // 8))

    low, high, by = each(stay), each(_ALL ^ stay), each(distance)
    return (
        builder.or_(builder.and_(one, low), builder.shl(builder.and_(two, low), by)),
        builder.or_(builder.and_(builder.lshr(one, by), low), builder.and_(two, high)),
    )


def _interleaved(builder: Any, rows: list[Any]) -> Any:
    """Return one vector with the first elements of all rows, then the second ones, and so on."""
    while len(rows) > 1:
        half, n = len(rows) // 2, rows[0].type.count
        mask = ir.Constant(ir.VectorType(_MASK, 2 * n), [lane // 2 + n * (lane % 2) for lane in range(2 * n)])
        rows = [builder.shuffle_vector(rows[k], rows[k + half], mask) for k in range(half)]
    return rows[0]

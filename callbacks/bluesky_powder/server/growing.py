"""Arrays that can be read while they grow.

A Tiled client asks for an array of the shape that it saw last, and gets an error (after ten tries, up to 45 s) when a
row has been added since. Rows are only ever appended, so the rows that it saw can be given to it.
"""

from urllib.parse import parse_qsl, urlencode

PLACE = "/array/full/"
"""In the path of requests for arrays."""


def with_slice(query: str) -> str:
    """Return a query that asks for a slice as large as the shape that it expects, unless it has a slice already."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    sizes = given.get("expected_shape", "").split(",")
    if "slice" in given or not all(size.isdecimal() for size in sizes):
        return query
    return urlencode([*pairs, ("slice", ",".join(f":{size}" for size in sizes))])

"""Files gone wrong: bits flipped, ends cut, pieces moved, headers and JSON forged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn, SearchStrategy

NASTY = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n", b'"', b"'", b",", b":", b"&a ", b"*a ", b"<<: *a\n",
    b"!!int ", b"!!python/object/apply:os.system ", b"- ", b"[" * 3000, b"{" * 3000, b"---\n", b"...\n", b"\xc3\x28",
    b"\xed\xa0\x80", b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"null", b"\xe2\x80\xa8", b"|", b"#",
    b"\xf0\x9f\x98\x80", b"? ", b"%YAML 9.9\n", b"\t", b'"\\x00"', b"0x", b"1:" * 300,
)  # fmt: skip
"""Pieces that have broken parsers."""

numbers = st.sampled_from((0, 1, -1, 2, 7, 8, 2**31, 2**63, 2**64, 10**30, 1e308, float("inf"), float("nan"), 0.5))
texts = st.text(max_size=20) | st.sampled_from(("\ud800", "", " ", "F32", "I64", "BOOL", "snce-eraser-2", "\0", "*"))
leaves = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
deep = st.sampled_from((900, 5000, 100_000)).map(lambda n: "[" * n + "]" * n)
forged_json = anything.map(json.dumps) | deep | st.text(max_size=30) | st.just('{"a": ' * 3000)


@st.composite
def damaged(draw: DrawFn, content: bytes) -> bytes:
    """One to three accidents that befell the bytes of a file."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 5)):
            case 0 if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[place:]
            case 2:
                del data[place : place + draw(st.integers(1, 200))]
            case 3:
                data[place:place] = draw(st.sampled_from(NASTY) | st.binary(max_size=20))
            case 4:
                start = draw(st.integers(0, len(data)))
                data[place:place] = data[start : start + draw(st.integers(1, 300))]
            case _:
                data[place : place + 8] = draw(st.binary(min_size=8, max_size=8))
    return bytes(data)


@st.composite
def changed(draw: DrawFn, value: Any) -> Any:
    """A JSON value with one of its parts, at any depth, replaced, dropped or doubled."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        others = {k: v for k, v in value.items() if k != key}
        match draw(st.integers(0, 5)):
            case 0:
                return others
            case 1:
                return others | {draw(texts): value[key]}
            case _:
                return others | {key: draw(changed(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        i = draw(st.integers(0, len(value) - 1))
        return [*value[:i], *draw(st.just([]) | changed(value[i]).map(lambda v: [v])), *value[i + 1 :]]
    if isinstance(value, str) and value[:1] in ("[", "{") and draw(st.booleans()):
        return draw(changed(json.loads(value)).map(json.dumps) | forged_json)
    return draw(anything)


@st.composite
def with_forged_header(draw: DrawFn, content: bytes) -> bytes:
    """A safetensors file whose header was changed: shapes, dtypes, offsets, names, metadata."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    forged = draw(changed(header))
    if draw(st.booleans()):  # a shape that no memory holds, or offsets that lie elsewhere
        name = draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
        entry = dict(header[name])
        field = draw(st.sampled_from(("shape", "data_offsets", "dtype")))
        kinds = ("F64", "F16", "BF16", "I8", "I64", "U8", "BOOL", "C64", "F8_E4M3", "F4", "Q7")
        entry[field] = draw(st.sampled_from(kinds) if field == "dtype" else st.lists(numbers, max_size=3))
        forged = header | {name: entry}
    text = json.dumps(forged).encode()
    length = draw(st.sampled_from((len(text),) * 8 + (0, len(text) - 1, 2**32, 2**63, 2**64 - 1)))
    return length.to_bytes(8, "little") + text + content[8 + size :]


def gone_wrong(content: bytes, *forgers: Callable[[bytes], SearchStrategy[bytes]]) -> SearchStrategy[bytes]:
    """`content` after any kind of accident, or bytes that were never such a file."""
    return st.one_of(damaged(content), damaged(content), *(f(content) for f in forgers), st.binary(max_size=400))


def forged_text(content: bytes) -> SearchStrategy[bytes]:
    """A JSON file with parts replaced."""
    return changed(json.loads(content)).map(json.dumps).map(str.encode) | forged_json.map(
        lambda text: text.encode(errors="surrogatepass")
    )

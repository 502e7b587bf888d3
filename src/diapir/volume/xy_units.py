"""What X and Y of traces are in, by the headers of a file, be it there or only what a store keeps of it."""

from typing import Literal, NamedTuple

from diapir.volume.segy_format import ORDERS, Order
from diapir.volume.segy_headers import FILE_FIELDS, FILE_HEADER_BYTES, TRACE_FIELDS, TRACE_HEADER_BYTES
from diapir.volume.store import Store, read_rows

Length = Literal["m", "ft"]
_ANGLES = {2: "seconds of arc", 3: "degrees", 4: "degrees, minutes and seconds"}
_LENGTHS: dict[int, Length] = {1: "m", 2: "ft"}


class XyUnit(NamedTuple):
    """A unit of coordinates.

    Args:
        name: "" where headers do not say.
    """

    name: str
    is_length: bool


UNKNOWN_UNIT = XyUnit("", is_length=True)


def xy_unit_of(file_header: bytes, trace_header: bytes, order: Order) -> XyUnit:
    """By the first trace (byte 89) and the binary header (byte 3255).

    Source: SEG-Y revision 1, table 3; revision 2.0, table 2.
    """
    code = TRACE_FIELDS["coordinate_unit"].read(trace_header, order)
    if code in _ANGLES:
        return XyUnit(_ANGLES[code], is_length=False)
    return XyUnit(_LENGTHS.get(FILE_FIELDS["measurement_system"].read(file_header, order), ""), is_length=True)


def stored_xy_unit(store: Store) -> XyUnit:
    """The same of a store: by the headers that it keeps, but for those that were made anew when it was.

    Raises:
        InputError: they are damaged.
    """
    source, segy = store.facts.get("source"), store.facts.get("segy")
    order = next((each for each in ORDERS if isinstance(segy, dict) and segy.get("order") == each), None)
    is_made = isinstance(source, dict) and source.get("kind") == "MDIO"
    if is_made or order is None or not {"file_header", "trace_headers"} <= set(store.group):
        return UNKNOWN_UNIT
    file_header = read_rows(store, "file_header", slice(0, FILE_HEADER_BYTES)).tobytes()
    trace_header = read_rows(store, "trace_headers", slice(0, 1)).tobytes()
    if len(file_header) < FILE_HEADER_BYTES or len(trace_header) < TRACE_HEADER_BYTES:
        return UNKNOWN_UNIT
    return xy_unit_of(file_header, trace_header, order)

"""The gradients of a network, cut into segments that processes add up one after the other."""

import itertools
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["cut", "segment_size"]

# Segments have fewer elements than MOST, so that a process need not wait long for the first, and
# more than LEAST, so that starting one costs little beside adding it up.
LEAST = 1 << 14
MOST = 1 << 18

# The processes that come late in the order wait until those before have added up a segment each:
# with so many segments for each process, for at most an eighth of the time that all of them take.
FOR_EACH_PROCESS = 8

# A range of the flat gradients, and the part of an instruction that writes it: rows of a matrix.
Range: TypeAlias = tuple[int, int]
Piece: TypeAlias = tuple[int, int, int]


def segment_size(n_parameters: int, processes: int) -> int:
    """The number of elements of a segment.

    Parameters
    ----------
    n_parameters, processes : int

    Returns
    -------
    int

    Examples
    --------
    >>> from fastbp.kernels.segments import segment_size
    >>> segment_size(2_000_000, 4)
    62500
    """
    return min(MOST, max(LEAST, n_parameters // (FOR_EACH_PROCESS * processes)))


def cut(sums: Sequence[tuple[int, int, Sequence[Range]]],
        size: int) -> list[tuple[list[Piece], list[Range]]]:
    """Cut the instructions that write gradients into segments of about `size` elements.

    Parameters
    ----------
    sums : sequence of tuple
        Of each instruction its index, the rows of the matrix that it writes, 1 if it can only be
        executed as a whole, and where what it writes starts and stops in the flat gradients.
    size : int

    Returns
    -------
    list of tuple
        For each segment its pieces, which are an instruction and its rows from the first to the
        one after the last, and the ranges of the flat gradients that they write, in their order.

    Examples
    --------
    >>> from fastbp.kernels.segments import cut
    >>> for pieces, ranges in cut([(7, 4, [(0, 800)]), (8, 1, [(800, 810)])], 400):
    ...     print(pieces, ranges)
    [(7, 0, 2)] [(0, 400)]
    [(7, 2, 4), (8, 0, 1)] [(400, 810)]
    """
    pieces: list[tuple[Piece, list[Range]]] = []
    for index, rows, ranges in sorted(sums, key=lambda each: each[2][0]):
        if rows == 1:
            pieces.append(((index, 0, 1), [*ranges]))
            continue
        (start, stop), = ranges
        columns = (stop - start) // rows
        n = min(rows, -(-(stop - start) // size))
        cuts = [rows * i // n for i in range(n + 1)]
        pieces += [((index, a, b), [(start + a * columns, start + b * columns)])
                   for a, b in itertools.pairwise(cuts)]
    segments: list[tuple[list[Piece], list[Range]]] = []
    room = 0
    for piece, ranges in pieces:
        elements = sum(stop - start for start, stop in ranges)
        # A bias, for example, goes with the weights before it.
        if not segments or elements > room + size // 4:
            segments.append(([], []))
            room = size
        room -= elements
        segments[-1][0].append(piece)
        written = segments[-1][1]
        for start, stop in ranges:
            if written and written[-1][1] == start:
                start = written.pop()[0]
            written.append((start, stop))
    return segments

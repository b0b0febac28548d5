"""Format results as text in columns."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of text in columns. Columns of numbers are aligned to the right, others to the left."""
    columns = list(zip(*rows, strict=True)) or [() for _ in header]
    numeric = [bool(cells) and all(_is_number(cell) for cell in cells) for cells in columns]
    widths = [max(map(len, (title, *cells))) for title, cells in zip(header, columns, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join(map(line, (header, ["-" * width for width in widths], *rows)))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit() or (cell[:1] == "-" and cell[1:2].isdigit())

"""Read the tables of times by operator that LiteRT's profiler, the programs benchmark_model, and trtexec write."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A node that a runtime executes: an operator of the file, or a kernel of a delegate.

    Attributes:
        kind: What it is, such as "Fully Connected (NC, F32) GEMM" for a kernel of XNNPACK or "GATHER" for an operator.
        ms: Its mean time in a run in milliseconds.
        delegated: Whether a delegate runs it.
        name: The name in the table, such as that of a layer for trtexec.
    """

    kind: str
    ms: float
    delegated: bool
    name: str


def read_nodes(text: str) -> list[Node]:
    """Return the nodes of a table, in the order in which they run.

    A line may stand for several kernels of a kind, one in each of several parts of the graph. They are one node, with
    the sum of their times.

    Args:
        text: What LiteRT's profiler or a benchmark_model printed, in columns or as CSV, or the JSON that trtexec's
            --exportProfile wrote.

    Raises:
        ValueError: There is no table of operators.
    """
    nodes = _trtexec(text) if text.lstrip().startswith("[") else _columns(text) or _csv(text)
    if not nodes:
        raise ValueError(
            "There is no table of operators: pass what benchmark_model printed with --use_profiler=true (LiteRT) or "
            "--enable_op_profiling=true (TensorFlow Lite), or what trtexec wrote with --exportProfile."
        )
    return nodes


def _columns(text: str) -> list[Node]:
    """Read the last table "Run Order". Older programs have another column before the first time."""
    *_, last = re.split(r"^=+ Run Order =+$", text, flags=re.MULTILINE)
    section = re.split(r"^(?:=+ |Number of nodes)", last.lstrip("\n"), maxsplit=1, flags=re.MULTILINE)[0]
    header, *lines = section.strip("\n").splitlines() or [""]
    titles = re.findall(r"\[[^\]]+\]", header)
    if not {"[node type]", "[avg ms]", "[times called]"}.issubset(titles):
        return []
    columns = len(titles)
    rows = []
    for line in lines:
        # The type may contain single spaces; columns are apart by a tab or by two spaces.
        cells = [cell.strip() for cell in re.split(r"\t+\s*|\s{2,}", line.strip(), maxsplit=columns - 1)]
        if len(cells) == columns:
            row = dict(zip(titles, cells, strict=True))
            rows.append((cells[0], row["[avg ms]"], row["[times called]"], cells[-1]))
    return _nodes(rows)


def _csv(text: str) -> list[Node]:
    """Read lines "node type, first, avg_ms, %, cdf%, mem KB, times called, name"; types may contain commas."""
    rows, reading = [], False
    for line in text.splitlines():
        if re.match(r"\s*node type\s*,", line):
            reading, rows = True, []
        elif reading and (
            found := re.match(r"(.*?),\s*([\d.]+),\s*([\d.]+),\s*[\d.]+%?,\s*[\d.]+%?,[^,]*,\s*(\d+),\s*(.*)$", line)
        ):
            rows.append((found.group(1), found.group(3), found.group(4), found.group(5)))
        elif reading and rows:
            break
    return _nodes(rows)


def _nodes(rows: list[tuple[str, str, str, str]]) -> list[Node]:
    """Return the nodes of rows (kind, mean time of a call in milliseconds, calls, name)."""
    nodes = []
    runs = min((int(calls) for _, _, calls, _ in rows), default=0) or 1
    for kind, ms, calls, name in rows:
        kind, name = kind.strip(), name.strip()
        delegated = kind.startswith("Delegate/") or "Delegate/" in name or name.startswith("[Delegate]")
        nodes.append(Node(kind.removeprefix("Delegate/"), float(ms) * (int(calls) / runs), delegated, name))
    return nodes


def _trtexec(text: str) -> list[Node]:
    try:
        entries = json.loads(text)
        return [
            Node(entry["name"], float(entry["averageMs"]), True, entry["name"]) for entry in entries if "name" in entry
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []

"""The tables and pictures of docs/performance.md, made of nothing but the result file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curves import at_recall

PAGE = "performance.md"
MARK = re.compile(r"<!-- begin (\w+) -->\n.*?<!-- end \1 -->", re.DOTALL)
# In this order, so that a system has one colour in all pictures.
SYSTEMS = ("azimuth", "hnswlib", "faiss_hnsw", "faiss_hnsw_sq", "usearch")
RECALLS = (0.90, 0.95, 0.99)
NOTHING = "Not measured yet.\n"


def write(results: Path, docs: Path) -> None:
    """Writes all sections that the page has marks for, and the pictures. ValueError without any."""
    content = json.loads(results.read_text(encoding="utf-8"))
    page = docs / PAGE
    text = page.read_text(encoding="utf-8")
    names = MARK.findall(text)
    if not names:
        raise ValueError(f"{page}: it has no mark '<!-- begin NAME -->'")
    sections = {name: SECTIONS[name](content) for name in names}
    page.write_text(
        MARK.sub(lambda match: _between(match.group(1), sections[match.group(1)]), text),
        encoding="utf-8",
    )
    for name, curves in content.get("curves", {}).items():
        plot(name, curves, docs / picture(name))


def picture(name: str) -> str:
    """Returns the name of a set's picture."""
    return f"search_{name}.png"


def _between(name: str, text: str) -> str:
    return f"<!-- begin {name} -->\n{text}<!-- end {name} -->"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Returns a table; all columns but the first are numbers."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) - 1)}"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def figures(content: dict[str, Any]) -> str:
    """Returns all figures with their targets."""
    rows = [
        (
            f"`{name}`",
            figure["value"],
            figure.get("target", ""),
            {True: "yes", False: "no"}.get(figure.get("met"), ""),
            figure["revision"],
        )
        for name, figure in content.get("figures", {}).items()
    ]
    if not rows:
        return NOTHING
    machine = content["machine"]
    return (
        f"On {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux "
        f"{machine['kernel']}.\n\n" + table(("figure", "value", "target", "met", "commit"), rows)
    )


def curves(content: dict[str, Any]) -> str:
    """Returns a picture and a table of each set."""
    parts = []
    for name, of_set in content.get("curves", {}).items():
        parts.append(f"### {name}\n\n{of_set['data_set']}. `{of_set['command']}`\n")
        parts.append(f"![Searches a second by recall]({picture(name)})\n")
        rows = [
            (system, kind, *(_rate(points, recall) for recall in RECALLS))
            for kind, systems in of_set.items()
            if isinstance(systems, dict)
            for system, points in systems.items()
        ]
        head = ("system", "measured", *(f"searches/s at {recall}" for recall in RECALLS))
        parts.append(table(head, rows))
    return "\n".join(parts) if parts else NOTHING


def _rate(points: list[dict[str, Any]], recall: float) -> float | None:
    return at_recall([(point["recall"], point["qps"]) for point in points], recall)


def contract(content: dict[str, Any]) -> str:
    """Returns what recalls were got for those asked."""
    rows = [
        (
            name.split(".")[1],
            cell["limit"],
            cell["asked"],
            cell["got"],
            cell["standard_error"],
            "yes" if cell["met"] else "no",
            cell["qps"],
            cell["distances"],
        )
        for name, figure in content.get("figures", {}).items()
        if name.endswith(".recall_asked_minus_got_max")
        for cell in figure["cells"]
    ]
    head = ("set", "limit", "asked", "got", "s.e.", "met", "searches/s", "distances")
    return table(head, rows) if rows else NOTHING


def grpc(content: dict[str, Any]) -> str:
    """Returns what comes through gRPC beside what is done in one process."""
    rows = []
    for name, of_set in content.get("grpc", {}).items():
        for target in ("0.95", "0.99"):
            at = of_set[target]
            rows.append((name, target, "hnswlib, 2 threads", at["hnswlib_qps"]))
            rows.append((name, target, "ours in process, 2 threads", at["in_process_qps"]))
            for kind, found in (
                ("unary", at["unary_per_s"]),
                ("batches of 100", at["batch_queries_per_s"]),
            ):
                rows += [
                    (name, target, f"{kind}, {flying} in flight", rates)
                    for flying, rates in found.items()
                ]
    if not rows:
        return NOTHING
    return table(
        ("set", "recall", "how", "queries/s"),
        [(*row[:3], sorted(row[3])[len(row[3]) // 2]) for row in rows],
    )


def databases(content: dict[str, Any]) -> str:
    """Returns the databases, each set's fastest first."""
    rows = []
    for name, found in content.get("databases", {}).items():
        chosen, _, system = name.partition(".")
        rate = next((value for key, value in found.items() if key.startswith("qps_at_")), None)
        kind = "server" if found["server"] else "in process"
        default = found["default"]
        times = (found.get("load_s"), found.get("index_s"))
        at_default = (default["recall"], default["qps"], default.get("p99_us"))
        rows.append((chosen, system, kind, *times, *at_default, rate))
    rows.sort(key=lambda row: (row[0], -(row[-1] or 0)))
    head = ("set", "database", "runs as", "load, s", "index, s", "recall at defaults")
    head += ("searches/s", "p99, us", "searches/s at recall 0.95")
    return table(head, rows) if rows else NOTHING


def systems(content: dict[str, Any]) -> str:
    """Returns versions and flags."""
    rows = [
        (
            name,
            about.get("version", ""),
            about.get("flags", ""),
            ", ".join(
                f"{key} {value}"
                for key, value in about.items()
                if key in ("simd", "compiler", "extension", "pgvector")
            ),
        )
        for name, about in content.get("systems", {}).items()
    ]
    return table(("system", "version", "flags", "more"), rows) if rows else NOTHING


SECTIONS = {
    "figures": figures,
    "curves": curves,
    "contract": contract,
    "grpc": grpc,
    "databases": databases,
    "systems": systems,
}


def plot(name: str, of_set: dict[str, Any], path: Path) -> None:
    """Draws recall@10 against searches a second, one thread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), dpi=120)
    for number, system in enumerate(SYSTEMS):
        points = of_set["recall@10, 1 thread"].get(system)
        if points:
            ordered = sorted(points, key=lambda point: float(point["recall"]))
            axes.plot(
                [point["recall"] for point in ordered],
                [point["qps"] for point in ordered],
                marker="o",
                color=f"C{number}",
                label=system,
            )
    axes.set_yscale("log")
    axes.set_xlim(left=0.78, right=1.002)
    axes.set_xlabel("recall@10")
    axes.set_ylabel("searches a second, one thread")
    axes.set_title(of_set["data_set"])
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)

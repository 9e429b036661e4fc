#!/usr/bin/env python3
"""Draws the GEMM rows of a `bench --json` report and their peers under the roofs of an H200, as SVG.

    python3 scripts/roofline.py docs/results/h200-f16.json docs/results/h200-roofline.svg

x is the arithmetic intensity, 2MNK over the bytes of X, W as stored and Y, y is TFLOPS, dense-equivalent, each on
a logarithmic axis.
"""

import json
import math
import sys
from xml.sax.saxutils import escape

# Measured on an H200: a device copy, read and written, in TB/s; bare loops of each instruction in TFLOPS,
# dense-equivalent, wgmma with A in shared memory.
MEMORY = 4.1
ROOFS = [("mma.sync", 633), ("wgmma", 793), ("mma.sp", 958), ("wgmma.sp", 1406)]

# Series, the last on top: label, operation, peer (none is the row itself), colour, shape.
SERIES = [
    ("cuSPARSELt, searched", "sparse", "cusparselt-searched", "#e08a00", "diamond"),
    ("cuBLASLt, dense", "dense", "cublaslt", "#3a9a8f", "diamond"),
    ("SparseFlow, sparse 2:4", "sparse", None, "#c1272d", "circle"),
    ("SparseFlow, dense", "dense", None, "#1f4e9c", "circle"),
]

WIDTH, HEIGHT = 900, 620
LEFT, RIGHT, TOP, BOTTOM = 70, 875, 50, 560
X_RANGE, Y_RANGE = (10, 10_000), (30, 2000)
# Bytes of a stored element of W: 16 bits, or half of them and 2 bits for each kept value.
W_BYTES = {"dense": 2.0, "sparse": 1.125}
Y_BYTES = {"f16": 2, "bf16": 2, "f32": 4}


def scale(value, limits, start, end):
    low, high = (math.log10(limit) for limit in limits)
    return start + (math.log10(value) - low) / (high - low) * (end - start)


def x_at(intensity):
    return scale(intensity, X_RANGE, LEFT, RIGHT)


def y_at(tflops):
    return scale(tflops, Y_RANGE, BOTTOM, TOP)


def intensity(row):
    m, n, k = (row["shape"][name] for name in "mnk")
    return 2 * m * n * k / (2 * m * k + W_BYTES[row["op"]] * n * k + Y_BYTES[row["output"]] * m * n)


def points(rows):
    """Each series with its points: intensity, TFLOPS, what they are."""
    for label, op, peer, colour, shape in SERIES:
        found = []
        for row in rows:
            measured = row if peer is None else row["peers"].get(peer)
            if row["op"] != op or measured is None or measured["tflops"] is None:
                continue
            title = "{m}x{n}x{k}".format_map(row["shape"])
            if peer is None:
                title += f" {row['kernel']} {row['schedule']}"
            found.append((intensity(row), measured["tflops"], f"{label}: {title}, {measured['tflops']:.0f} TFLOPS"))
        yield label, colour, shape, found


def marker(shape, x, y, colour, title=None, kind="legend"):
    inside = f"<title>{escape(title)}</title>" if title else ""
    style = f'class="{kind}" fill="{colour}" fill-opacity="0.8" stroke="white" stroke-width="0.7"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {style}>{inside}</circle>'
    corners = f"{x:.1f},{y - 5.5:.1f} {x + 5.5:.1f},{y:.1f} {x:.1f},{y + 5.5:.1f} {x - 5.5:.1f},{y:.1f}"
    return f'<polygon points="{corners}" {style}>{inside}</polygon>'


def text(x, y, what, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(what)}</text>'


def line(x1, y1, x2, y2, colour, width=1.0, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashes}/>'


def axes():
    for exponent in range(1, 4):
        for step in range(1, 10):
            value = step * 10**exponent
            x = x_at(value)
            yield line(x, TOP, x, BOTTOM, "#dddddd" if step == 1 else "#f3f3f3")
            if step in (1, 2, 5):
                yield text(x, BOTTOM + 18, str(value))
    yield text(RIGHT, BOTTOM + 18, str(X_RANGE[1]))
    for value in (30, 50, 100, 200, 300, 500, 1000, 2000):
        yield line(LEFT, y_at(value), RIGHT, y_at(value), "#e8e8e8")
        yield text(LEFT - 8, y_at(value) + 4, str(value), "end")
    yield f'<rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" fill="none" stroke="#555555"/>'
    yield text((LEFT + RIGHT) / 2, BOTTOM + 42, "arithmetic intensity: 2MNK / bytes of X, W as stored, Y")
    middle = (TOP + BOTTOM) / 2
    yield text(20, middle, "TFLOPS, dense-equivalent", more=f'transform="rotate(-90 20 {middle:.0f})"')


def roofs():
    highest = ROOFS[-1][1]
    start = max(Y_RANGE[0] / MEMORY, X_RANGE[0])
    yield line(x_at(start), y_at(start * MEMORY), x_at(highest / MEMORY), y_at(highest), "#222222", 1.5)
    yield text(x_at(60) - 10, y_at(60 * MEMORY) - 10, f"memory {MEMORY} TB/s", "end")
    for name, tflops in ROOFS:
        yield line(x_at(tflops / MEMORY), y_at(tflops), RIGHT, y_at(tflops), "#222222", 1.5, "6 3")
        yield text(RIGHT - 6, y_at(tflops) - 5, f"{name} {tflops}", "end")


def draw(report):
    gpu = report["environment"]["gpu"]
    if "H200" not in (gpu or ""):
        raise ValueError(f"the rows are of {gpu or 'no GPU'}, the ceilings of an H200")
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
    yield ' font-family="sans-serif" font-size="12">'
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    title = f"{gpu}: GEMM rows and peers of one run, under the measured ceilings"
    yield text(LEFT, 28, title, "start", 'font-size="15"')
    yield from axes()
    yield from roofs()
    for index, (label, colour, shape, found) in enumerate(points(report["rows"])):
        for x, tflops, title in found:
            if not (X_RANGE[0] <= x <= X_RANGE[1] and Y_RANGE[0] <= tflops <= Y_RANGE[1]):
                raise ValueError(f"{title} at {x:.1f} FLOP a byte lies outside of the axes {X_RANGE}, {Y_RANGE}")
            yield marker(shape, x_at(x), y_at(tflops), colour, title, "point")
        y = BOTTOM - 84 + 22 * index
        yield marker(shape, RIGHT - 190, y, colour)
        yield text(RIGHT - 178, y + 4, f"{label} ({len(found)})", "start")
    yield "</svg>"


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: roofline.py REPORT.json PICTURE.svg")
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            report = json.load(file)
        picture = "\n".join(draw(report)) + "\n"
        with open(sys.argv[2], "w", encoding="utf-8") as file:
            file.write(picture)
    except KeyError as error:
        sys.exit(f"roofline.py: {sys.argv[1]} has no {error}: it must be what `bench --json` writes")
    except (OSError, ValueError) as error:
        sys.exit(f"roofline.py: {sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()

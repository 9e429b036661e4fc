#!/usr/bin/env python3
"""Checks the .npy files of `bench --dump DIR --json FILE` with NumPy in f64, within the tolerance of docs.

usage: check_dump.py DIR FILE
"""
import json
import math
import sys

import numpy as np

UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24, "int8": 0.0}
SUBNORMAL = {"f16": 2.0**-24, "bf16": 2.0**-133, "f32": 2.0**-149, "int8": 1.0}
erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS = {
    "none": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: 0.5 * z * (1 + erf(z / math.sqrt(2))),
    "gelu-tanh": lambda z: 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + np.exp(-z)),
}


def check(directory, index, row):
    def load(name):
        return np.load(f"{directory}/{index}_{name}.npy").astype(np.float64)

    x, w, y = load("x"), load("w"), load("y")
    activation, parts = row["epilogue"], set()
    for part in ("bias", "residual", "gated"):
        if activation == part or activation.startswith(part + "-"):
            parts.add(part)
            activation = activation[len(part) + 1 :] or "none"
    z, s = x @ w.T, np.abs(x) @ np.abs(w).T
    roundings = 0 if row["epilogue"] == "none" else 12
    for name in [name for part, name in (("bias", "bias"), ("residual", "c")) if part in parts]:
        addend = load(name).reshape(-1, z.shape[1])
        z, s = z + addend, s + np.abs(addend)
    slope = {"none": 1, "relu": 1, "silu": 1.1}.get(activation, 1.13)
    act, output = ACTIVATIONS[activation], row["output"]
    k = x.shape[1]
    relative, absolute = k * 2.0**-24, 0.0
    if row["kernel"].endswith("_acc16"):
        # Sums in f16, rounded twice for every 16 products, which are kept ones where W is sparse.
        sums = 2 * math.ceil((math.ceil(k / 2) if row["op"] == "sparse" else k) / 16)
        relative, absolute = sums * (2.0**-11 + 9 * 2.0**-23), sums * 2.0**-25
    if slope > 1 and output in ("f16", "bf16") and not parts & {"residual", "gated"}:
        # GELU and SiLU in the type of Y: gpu/layout/src/pair.rs.
        relative, absolute = relative + 2 * UNIT[output], absolute + SUBNORMAL[output]
    error = (relative + roundings * 2.0**-24) * s + absolute
    if "gated" in parts:
        gate, value = slice(0, None, 2), slice(1, None, 2)
        want = act(z[:, gate]) * z[:, value]
        (e_g, e_v), (s_g, s_v) = ((m[:, gate], m[:, value]) for m in (error, s))
        error = slope * e_g * (s_v + e_v) + s_g * (e_v + 2.0**-24 * s_v)
    else:
        want, error = act(z), slope * error
    if output == "int8":
        scale = load("row_scale").reshape(-1, 1)
        # Multiplying by the scale is one rounding more.
        error = np.abs(scale) * (error + 2.0**-24 * np.abs(want))
        want = np.clip(scale * want, -128, 127)
    bound = UNIT[output] * np.abs(want) + SUBNORMAL[output] / 2 + error
    wrong = ~(np.abs(y - want) <= bound)
    return int(wrong.sum()), float(np.max(np.abs(y - want), initial=0))


def main():
    directory, report = sys.argv[1:]
    failed = 0
    for index, row in enumerate(json.load(open(report))["rows"]):
        if row["op"] not in ("dense", "sparse"):
            continue
        wrong, worst = check(directory, index, row)
        failed += wrong > 0
        shape = "x".join(str(row["shape"][e]) for e in "mnk")
        print(f"{row['kernel']:40} {shape:18} {row['epilogue']:22} {row['output']:5} {wrong} wrong, max |error| {worst:.3g}")
    sys.exit(failed > 0)


main()

#!/usr/bin/env python3
"""Checks the .npy files of `bench --dump DIR --json FILE` with NumPy in f64, within the tolerance of docs.

usage: check_dump.py DIR FILE
"""
import json
import math
import sys

import numpy as np

UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8}
SUBNORMAL = {"f16": 2.0**-24, "bf16": 2.0**-133}
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
    names = row["epilogue"].split("-", 1) if row["epilogue"].startswith("bias") else [row["epilogue"]]
    z, s = x @ w.T, np.abs(x) @ np.abs(w).T
    roundings = 0 if row["epilogue"] == "none" else 12
    if names[0] == "bias":
        bias = load("bias").reshape(1, -1)
        z, s = z + bias, s + np.abs(bias)
        names = names[1:] or ["none"]
    want = ACTIVATIONS[names[0]](z)
    slope = {"none": 1, "relu": 1, "silu": 1.1}.get(names[0], 1.13)
    dtype = row["dtype"]
    bound = UNIT[dtype] * np.abs(want) + SUBNORMAL[dtype] / 2
    k = x.shape[1]
    relative, absolute = k * 2.0**-24, 0.0
    if row["kernel"].endswith("_acc16"):
        # Sums in f16, rounded twice for every 16 products, which are kept ones where W is sparse.
        sums = 2 * math.ceil((math.ceil(k / 2) if row["op"] == "sparse" else k) / 16)
        relative, absolute = sums * (2.0**-11 + 9 * 2.0**-23), sums * 2.0**-25
    bound += slope * ((relative + roundings * 2.0**-24) * s + absolute)
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
        print(f"{row['kernel']:40} {shape:18} {row['epilogue']:14} {wrong} wrong, max |error| {worst:.3g}")
    sys.exit(failed > 0)


main()

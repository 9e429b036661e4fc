#!/usr/bin/env bash
# Assembles the PTX in target/ptx for every architecture it is meant for, and fails on any spill or
# serialised wgmma. Without ptxas (see setup.sh) it says so and does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ptxas=.venv/bin/ptxas
[[ -x $ptxas ]] || {
    echo "no ptxas: the PTX was not assembled"
    exit 0
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A100, RTX 3090, RTX 4090, H100 and H200.
for pair in sm_80:sm_80 sm_80:sm_86 sm_80:sm_89 sm_80:sm_90 sm_90a:sm_90a \
    test_kernels_sm_80:sm_80 test_kernels_sm_90a:sm_90a; do
    ptx=target/ptx/${pair%:*}.ptx
    arch=${pair#*:}
    "$ptxas" -arch="$arch" -v "$ptx" -o /dev/null 2>"$log" || {
        cat "$log"
        exit 1
    }
    if grep -E '[1-9][0-9]* bytes (spill|stack frame)|C75[0-9][0-9]' "$log"; then
        echo "$ptx for $arch spills or serialises wgmma"
        exit 1
    fi
    echo "$ptx for $arch: $(grep -c 'Compiling entry' "$log") kernels, no spills"
done

#!/usr/bin/env bash
# Assembles the PTX in target/ptx for every architecture it is meant for, and the large kernels as a driver gets
# them, with a launch's parameters compiled in. Fails on any spill or serialised wgmma. Without ptxas (see setup.sh)
# it says so and does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

export ptxas=.venv/bin/ptxas
[[ -x $ptxas ]] || {
    echo "no ptxas: the PTX was not assembled"
    exit 0
}

# Assembles a file for an architecture; says what is wrong with it.
assemble() {
    local arch=$1 ptx=$2 log
    log=$("$ptxas" -arch="$arch" -v "$ptx" -o /dev/null 2>&1) || {
        echo "$log"
        return 1
    }
    if grep -E '[1-9][0-9]* bytes (spill|stack frame)|C75[0-9][0-9]' <<<"$log"; then
        echo "$ptx for $arch spills or serialises wgmma"
        return 1
    fi
}
export -f assemble

specialised=target/ptx/specialised
rm -rf "$specialised"
cargo run --quiet --package sparseflow --example specialised_ptx -- "$specialised"

# A100, RTX 3090, RTX 4090, H100 and H200. Hopper's kernels are never compiled for all ways to finish Y at once: what
# is not reached would take registers.
{
    printf '%s target/ptx/sm_80.ptx\n' sm_80 sm_86 sm_89 sm_90
    printf 'sm_80 %s\n' "$specialised"/sm_80/*.ptx
    printf 'sm_90 %s\n' "$specialised"/sm_80/*.ptx
    printf 'sm_90a %s\n' "$specialised"/sm_90a/*.ptx
    echo sm_80 target/ptx/test_kernels_sm_80.ptx
    echo sm_90a target/ptx/test_kernels_sm_90a.ptx
} >"$specialised/list"
xargs --max-procs="$(nproc)" --max-lines=1 bash -c 'assemble "$0" "$1" || exit 1' <"$specialised/list"
echo "$(wc -l <"$specialised/list") files assembled, no spills"

#!/usr/bin/env bash
# Installs what a build needs on a bare Debian or Ubuntu machine (as root, or with sudo):
#   - a C compiler and Python's venv, from apt
#   - the Rust toolchain of rust-toolchain.toml, through rustup, if there is no cargo
#   - a rustc that can compile for the GPU, i.e. one with the source of `core` beside it
#   - ptxas, NVIDIA's assembler, in .venv/bin/ptxas: checks PTX without a GPU; a build does not need it
# Does nothing where all of it is there already, and touches no configuration of the user's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A rustup installed below is not on the caller's PATH yet; one that is there comes first.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

# The oldest rustc whose `core` builds with cuda_builder's flags.
readonly oldest_device_rustc=1.95

say() { echo "setup: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

apt_install() {
    command -v apt-get >/dev/null || {
        say "no apt-get here; install by hand the equivalent of: $*"
        return 1
    }
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || {
            say "not root and no sudo; have an administrator run: apt-get install $*"
            return 1
        }
        as_root=(sudo)
    fi
    say "installing $*"
    # A failing mirror of some other repository need not matter.
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

setup_system_packages() {
    local missing=()
    command -v cc >/dev/null || missing+=(build-essential)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    if ! command -v cargo >/dev/null; then
        command -v curl >/dev/null || missing+=(curl)
        [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
    fi
    ((${#missing[@]} == 0)) || apt_install "${missing[@]}" || fail "cannot install ${missing[*]}"
}

setup_cargo() {
    if ! command -v cargo >/dev/null; then
        say "installing rustup"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y -q --no-modify-path --default-toolchain none
    fi
    # With rustup, this fails if the toolchain that rust-toolchain.toml names is not there.
    cargo --version >/dev/null 2>&1 || rustup toolchain install || fail "no working cargo"
}

can_compile_for_gpu() {
    local rustc=$1 sysroot version
    sysroot=$("$rustc" --print sysroot 2>/dev/null) || return 1
    [[ -f $sysroot/lib/rustlib/src/rust/library/core/src/lib.rs ]] || return 1
    version=$("$rustc" --version | cut -d' ' -f2)
    printf '%s\n' "$oldest_device_rustc" "$version" | sort -CV
}

have_device_rustc() {
    # The same order as cuda_builder's, which also proves the compiler on a kernel.
    if [[ -n ${SPARSEFLOW_DEVICE_RUSTC:-} ]]; then
        can_compile_for_gpu "$SPARSEFLOW_DEVICE_RUSTC"
    else
        can_compile_for_gpu rustc || can_compile_for_gpu /usr/bin/rustc
    fi
}

setup_device_rustc() {
    have_device_rustc && return
    [[ -z ${SPARSEFLOW_DEVICE_RUSTC:-} ]] ||
        fail "SPARSEFLOW_DEVICE_RUSTC=$SPARSEFLOW_DEVICE_RUSTC is not $oldest_device_rustc or newer with its library source"
    if command -v rustup >/dev/null; then
        say "adding rust-src"
        rustup component add rust-src >/dev/null 2>&1 || say "rustup cannot add rust-src here"
    fi
    have_device_rustc && return
    apt_install rustc-web rust-web-src || true
    have_device_rustc ||
        fail "no rustc that can compile for the GPU: needs 'rustup component add rust-src' or 'apt-get install rustc-web rust-web-src'"
}

setup_ptxas() {
    [[ -x .venv/bin/ptxas ]] && return
    say "installing ptxas"
    local found
    if python3 -m venv .venv &&
        .venv/bin/pip install -q --disable-pip-version-check --retries 1 nvidia-cuda-nvcc nvidia-nvvm &&
        found=$(cd .venv && find lib -path '*/bin/ptxas' -type f | sort | tail -n 1) &&
        [[ -n $found ]]; then
        ln -sfn "../$found" .venv/bin/ptxas
    else
        say "ptxas could not be installed; builds work, checks that assemble the PTX are left out"
    fi
}

setup_system_packages
setup_cargo
setup_device_rustc
setup_ptxas

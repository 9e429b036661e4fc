//! What the Hopper kernels need of the host: tensor maps of the operands.

use crate::device::{Device, MapElement, Memory, TensorMap};
use crate::error::{Result, invalid};
use layout::descriptor::Swizzle;
use layout::hopper::{ROWS, Shape, X_COLUMNS};
use layout::instance::{Dtype, Instance};
use layout::params::{
    ALIGNED_STORE, ALIGNED_W, ALIGNED_X, GemmParams, HopperParams, MAP_W, MAP_X, MAP_Y, OVERLAPPED,
    Output,
};

/// Whether a Hopper kernel takes operands of this alignment (the `ALIGNED_*` bits) and these extents: those that
/// tensor maps can describe.
pub(crate) fn takes(sparse: bool, aligned: u32, extents: [usize; 3]) -> bool {
    let needed = if sparse { ALIGNED_X } else { ALIGNED_X | ALIGNED_W };
    aligned & needed == needed && !extents.contains(&0)
}

/// Names what of `gemm` keeps `kernel` from taking it.
fn check(kernel: &Instance, gemm: &GemmParams) -> Result<()> {
    let extents = [gemm.m, gemm.n, gemm.k].map(|extent| extent as usize);
    let sparse = kernel.family.is_sparse();
    if takes(sparse, gemm.aligned, extents) {
        return Ok(());
    }
    let [m, n, k] = extents;
    let (what, value, limit) = if extents.contains(&0) {
        ("product", format!("{m}x{n}x{k}"), "at least 1x1x1")
    } else {
        let limit = "at a multiple of 16 bytes, rows at multiples of 16 bytes";
        let at = |address, stride| format!("at {address:#x}, rows {stride} elements apart");
        match gemm.aligned & ALIGNED_X {
            0 => ("X", at(gemm.x, gemm.ldx), limit),
            _ => ("W", at(gemm.w, gemm.ldw), limit),
        }
    };
    Err(invalid(format!("{what} of {}", kernel.name), value, limit))
}

/// The parameters of `kernel` for the product that `gemm` describes, `tiles` being a sparse W in the order that it
/// takes.
///
/// # Errors
/// Operands that tensor maps cannot describe, or what the driver says of one.
pub(crate) fn params(
    device: &dyn Device,
    kernel: &Instance,
    shape: Shape,
    gemm: &GemmParams,
    tiles: Option<&dyn Memory>,
) -> Result<HopperParams> {
    check(kernel, gemm)?;
    let element = match kernel.dtype {
        Dtype::F16 => MapElement::F16,
        Dtype::Bf16 => MapElement::Bf16,
    };
    let stores = gemm.output == Output::Input as u32
        && gemm.gated == 0
        && gemm.c == 0
        && gemm.y.is_multiple_of(16)
        && gemm.ldy.is_multiple_of(8);
    let map = |address, columns, rows, pitch| TensorMap {
        address,
        element,
        columns,
        rows,
        pitch,
        box_columns: X_COLUMNS,
        box_rows: 0,
        swizzle: Swizzle::B128,
    };
    let (m, n, k) = (gemm.m as u64, gemm.n as u64, gemm.k as u64);
    let x = TensorMap { box_rows: shape.bm / shape.cluster, ..map(gemm.x, k, m, gemm.ldx * 2) };
    let mut maps = [[0; 16]; 3];
    maps[MAP_X] = device.tensor_map(&x)?;
    if !shape.sparse {
        let w = TensorMap { box_rows: shape.bn, ..map(gemm.w, k, n, gemm.ldw * 2) };
        maps[MAP_W] = device.tensor_map(&w)?;
    }
    if stores {
        maps[MAP_Y] = device.tensor_map(&TensorMap {
            box_columns: ROWS,
            box_rows: shape.box_tokens(),
            ..map(gemm.y, n, m, gemm.ldy * 2)
        })?;
    }
    let lead = shape.lead();
    let overlapped = stores && gemm.units == 0 && lead > 0 && gemm.k.div_ceil(shape.bk) >= 2 * lead;
    let bit = |set, bit| if set { bit } else { 0 };
    let aligned = gemm.aligned | bit(stores, ALIGNED_STORE) | bit(overlapped, OVERLAPPED);
    let w = tiles.map_or(gemm.w, Memory::address);
    Ok(HopperParams { maps, gemm: GemmParams { w, aligned, ..*gemm } })
}

//! What the Hopper kernels need of the host: tensor maps of the operands.

use crate::device::{Device, DeviceInfo, MapElement, Memory, TensorMap};
use crate::error::{Result, invalid};
use layout::activation::Activation;
use layout::columns::Columns;
use layout::descriptor::Swizzle;
use layout::hopper::{ROWS, Shape, X_COLUMNS};
use layout::instance::{Dtype, Instance};
use layout::params::{
    ALIGNED_STORE, ALIGNED_W, ALIGNED_X, BIASED, GemmParams, HopperParams, MAP_W, MAP_X, MAP_Y,
    OVERLAPPED, UNIT_ALPHA,
};
use layout::raster::Raster;

/// The `ALIGNED_*` bits that `shape` needs: of operands that tensor maps describe.
fn needed(shape: Shape) -> u32 {
    let w = if shape.sparse { 0 } else { ALIGNED_W };
    let y = if shape.shares() { 0 } else { ALIGNED_STORE };
    ALIGNED_X | w | y
}

/// Whether `shape` takes operands of this alignment (the `ALIGNED_*` bits) and these extents.
pub(crate) fn takes(shape: Shape, aligned: u32, extents: [usize; 3]) -> bool {
    aligned & needed(shape) == needed(shape) && !extents.contains(&0)
}

/// Whether a tile may be finished, in part, behind products: a bias or an activation takes registers, too.
pub(crate) fn overlaps(shape: Shape, bare: bool) -> bool {
    shape.overlapping_blocks() > 0 && (shape.shares() || bare)
}

/// The columns of tiles of `shape` for `m` tokens and `n` features.
pub(crate) fn columns(shape: Shape, m: u32, n: u32, device: &DeviceInfo) -> Columns {
    Columns::even(shape, m.div_ceil(shape.bm), n, device.multiprocessors / shape.cluster)
}

/// Names what of `gemm` keeps `kernel` from taking it.
fn check(kernel: &Instance, shape: Shape, gemm: &GemmParams) -> Result<()> {
    let extents = [gemm.m, gemm.n, gemm.k].map(|extent| extent as usize);
    if takes(shape, gemm.aligned, extents) {
        return Ok(());
    }
    let [m, n, k] = extents;
    let (what, value, limit) = if extents.contains(&0) {
        ("product", format!("{m}x{n}x{k}"), "at least 1x1x1")
    } else {
        let limit = "at a multiple of 16 bytes, rows at multiples of 16 bytes";
        let at = |address, stride| format!("at {address:#x}, rows {stride} elements apart");
        let missing = needed(shape) & !gemm.aligned;
        if missing & ALIGNED_X != 0 {
            ("X", at(gemm.x, gemm.ldx), limit)
        } else if missing & ALIGNED_W != 0 {
            ("W", at(gemm.w, gemm.ldw), limit)
        } else {
            let limit = "of X's type, neither gated nor added to C, at a multiple of 16 bytes, \
                         rows at multiples of 16 bytes";
            ("Y", at(gemm.y, gemm.ldy), limit)
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
    check(kernel, shape, gemm)?;
    let element = match kernel.dtype {
        Dtype::F16 => MapElement::F16,
        Dtype::Bf16 => MapElement::Bf16,
    };
    let stores = gemm.aligned & ALIGNED_STORE != 0;
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
        let w = TensorMap { box_rows: shape.w_box(), ..map(gemm.w, k, n, gemm.ldw * 2) };
        maps[MAP_W] = device.tensor_map(&w)?;
    }
    if stores {
        maps[MAP_Y] = device.tensor_map(&TensorMap {
            box_columns: ROWS,
            box_rows: shape.box_tokens(),
            ..map(gemm.y, n, m, gemm.ldy * 2)
        })?;
    }
    let bare = gemm.bias == 0 && gemm.activation == Activation::None as u32;
    let long_enough = gemm.k.div_ceil(shape.bk) >= shape.overlapping_blocks();
    let overlapped = stores && gemm.units == 0 && overlaps(shape, bare) && long_enough;
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let scaling = flag(gemm.alpha == 1.0, UNIT_ALPHA) | flag(gemm.bias != 0, BIASED);
    let aligned = gemm.aligned | flag(overlapped, OVERLAPPED) | scaling;
    let w = tiles.map_or(gemm.w, Memory::address);
    let gemm = GemmParams { w, aligned, ..*gemm };
    let wide = columns(shape, gemm.m, gemm.n, device.info()).wide();
    let bands = Raster::new(gemm.m.div_ceil(shape.bm), gemm.band).bands;
    Ok(HopperParams { maps, wide, reserved: 0, bands, gemm })
}

//! The product X.W^T in f32 or f64, blocked and parallel: what gemm and judge share.
//!
//! Y is computed in blocks of rows x columns whose panels of X and W fit a budget. For each block
//! both are converted and laid out as [`tile`](crate::tile) wants them, over all of K, and then
//!
//! ```text
//! for each run of columns, for each bundle of strips of `lanes` rows       (parallel)
//!     for each slice of K, thin enough that bundle and run stay in L2
//!         for each strip of the bundle, for each tile of the run: tile(strip, W, acc)
//! ```
//!
//! so each element is one sum in the order of K: neither blocks nor threads change a bit.

use core::ops::Range;

use rayon::prelude::*;

use crate::element::Element;
use crate::gemm::Weights;
use crate::tile::{Real, Tiles};

/// Most rows and columns of Y in a block.
const BLOCK: (usize, usize) = (2048, 4096);
/// Most bytes in the panel of X or of W of a block.
const PANEL_BYTES: usize = 256 << 20;
/// Bytes of a strip of X in one slice of K: half of a small L1 cache.
const SLICE_BYTES: usize = 16 << 10;
/// Columns of Y in a run. A multiple of every tile's rows of W, so that runs begin with tiles, and of 2.
const RUN: usize = 120;
/// Strips of X in a bundle.
const BUNDLE: usize = 4;

/// A computed block of the product.
pub(crate) struct Block<'a, R> {
    /// Its rows of Y.
    pub rows: Range<usize>,
    /// Its columns of Y.
    pub cols: Range<usize>,
    /// `[runs][strips][RUN][lanes]`.
    acc: &'a [R],
    strips: usize,
    lanes: usize,
}

impl<R: Real> Block<'_, R> {
    /// Calls `each(row, col, value)` for all of `rows` (of Y, within the block), in an order good for
    /// caches, in which an odd column follows the column before it.
    #[inline(always)]
    pub fn visit(&self, rows: Range<usize>, mut each: impl FnMut(usize, usize, R)) {
        for (run, start) in self.cols.clone().step_by(RUN).enumerate() {
            for row in rows.clone() {
                let m = row - self.rows.start;
                let (strip, lane) = (m / self.lanes, m % self.lanes);
                let first = (run * self.strips + strip) * RUN * self.lanes + lane;
                let line = self.acc[first..].iter().step_by(self.lanes);
                for (col, &value) in (start..(start + RUN).min(self.cols.end)).zip(line) {
                    each(row, col, value);
                }
            }
        }
    }
}

/// Rows of a [`Block`] that are best read together: those that share a cache line.
pub(crate) const ROWS_TOGETHER: usize = 8;

/// The panel of W of a block: tiles of `rows` rows, as the tile functions want them.
struct Panel<R> {
    rows: usize,
    /// Numbers of a tile for 4 columns of W.
    per_group: usize,
    tile_len: usize,
    w: Vec<R>,
    /// Sparse: the positions beside the values in `w`. Dense: empty.
    positions: Vec<u8>,
}

impl<R: Real> Panel<R> {
    /// Lays out rows `cols` of W, `k4` columns each. `convert` maps an element to a number.
    fn new<T: Element>(
        w: &Weights<'_, T>,
        cols: Range<usize>,
        k4: usize,
        tiles: &Tiles<R>,
        convert: impl Fn(T) -> R + Sync,
    ) -> Self {
        match w {
            Weights::Dense(w) => {
                let rows: Vec<&[T]> = cols.map(|n| w.row(n)).collect();
                let width = tiles.dense_rows;
                Self {
                    rows: width,
                    per_group: 4 * width,
                    tile_len: k4 * width,
                    w: transposed(&rows, k4, width, convert),
                    positions: Vec::new(),
                }
            }
            Weights::Sparse(w) => {
                let width = tiles.sparse_rows;
                let (count, tile_len) = (cols.len().div_ceil(width), k4 / 2 * width);
                let mut values = vec![R::ZERO; count * tile_len];
                let mut positions = vec![0; count * tile_len];
                let tiles = values
                    .par_chunks_mut(tile_len.max(1))
                    .zip(positions.par_chunks_mut(tile_len.max(1)));
                tiles.enumerate().for_each(|(t, (values, positions))| {
                    let first = cols.start + t * width;
                    for (r, n) in (first..(first + width).min(cols.end)).enumerate() {
                        for q in 0..k4 / 4 {
                            let (at, kept) = w.group(n, q);
                            for i in 0..2 {
                                values[(2 * q + i) * width + r] = convert(kept[i]);
                                positions[(2 * q + i) * width + r] = at[i] as u8;
                            }
                        }
                    }
                });
                Self { rows: width, per_group: 2 * width, tile_len, w: values, positions }
            }
        }
    }

    /// Adds the product of a strip of X, cut to columns `k` (multiples of 4), and the `run` of rows of
    /// the panel to `acc` `[RUN][lanes]`.
    fn multiply(
        &self,
        tiles: &Tiles<R>,
        x: &[R],
        run: Range<usize>,
        k: &Range<usize>,
        acc: &mut [R],
    ) {
        let tile_range = run.start / self.rows..run.end.div_ceil(self.rows);
        for (t, acc) in tile_range.zip(acc.chunks_mut(self.rows * tiles.lanes)) {
            let start = t * self.tile_len;
            let part = start + k.start / 4 * self.per_group..start + k.end / 4 * self.per_group;
            let w = &self.w[part.clone()];
            // SAFETY: `Real::tiles` gives only what this machine can run.
            unsafe {
                if self.positions.is_empty() {
                    (tiles.dense)(x, w, acc);
                } else {
                    (tiles.sparse)(x, w, &self.positions[part], acc);
                }
            }
        }
    }
}

/// `rows` in strips of `width`, each transposed to `[k4][width]`, with zeros beyond the ends.
fn transposed<R: Real, T: Element>(
    rows: &[&[T]],
    k4: usize,
    width: usize,
    convert: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    /// Columns at a time: few enough that their lines stay in L1 while all rows pass.
    const COLUMNS: usize = 64;
    let mut out = vec![R::ZERO; rows.len().div_ceil(width) * width * k4];
    out.par_chunks_mut((width * k4).max(1)).zip(rows.par_chunks(width)).for_each(|(out, rows)| {
        for (c, out) in out.chunks_mut(COLUMNS * width).enumerate() {
            for (lane, row) in rows.iter().enumerate() {
                let mut converted = [R::ZERO; COLUMNS];
                let row = &row[row.len().min(c * COLUMNS)..];
                for (converted, &x) in converted.iter_mut().zip(row) {
                    *converted = convert(x);
                }
                for (out, &x) in out[lane..].iter_mut().step_by(width).zip(&converted) {
                    *out = x;
                }
            }
        }
    });
    out
}

/// Hands the product of `rows` (of X, `k` elements each) with W to `sink`, block by block.
///
/// `convert` maps an element of X or W to the number that is multiplied. Of a sparse W only the kept
/// values take part. Padding multiplies zero by zero.
pub(crate) fn product<R: Real, T: Element>(
    rows: &[&[T]],
    w: &Weights<'_, T>,
    convert: impl Fn(T) -> R + Copy + Sync,
    mut sink: impl FnMut(Block<'_, R>),
) {
    let Some(tiles) = R::tiles().into_iter().next() else { return };
    if rows.is_empty() {
        return;
    }
    let k4 = w.k().next_multiple_of(4);
    let affordable = PANEL_BYTES / (k4.max(1) * size_of::<R>());
    let lanes = tiles.lanes;
    let block = |most: usize| affordable.clamp(lanes, most).next_multiple_of(lanes.max(2));
    let slice = (SLICE_BYTES / (lanes * size_of::<R>())).next_multiple_of(4);
    let mut acc = Vec::new();
    for m in (0..rows.len()).step_by(block(BLOCK.0)) {
        let m = m..(m + block(BLOCK.0)).min(rows.len());
        let strips = transposed(&rows[m.clone()], k4, lanes, convert);
        for n in (0..w.n()).step_by(block(BLOCK.1)) {
            let n = n..(n + block(BLOCK.1)).min(w.n());
            let panel = Panel::new(w, n.clone(), k4, &tiles, convert);
            let count = m.len().div_ceil(lanes);
            let size = RUN * lanes;
            acc.clear();
            acc.resize(n.len().div_ceil(RUN) * count * size, R::ZERO);
            let multiply = |run: usize, acc: &mut [R], strips: &[R]| {
                let run = run * RUN..((run + 1) * RUN).min(n.len());
                for k in (0..k4).step_by(slice) {
                    let k = k..(k + slice).min(k4);
                    for (acc, strip) in acc.chunks_mut(size).zip(strips.chunks(k4 * lanes)) {
                        let x = &strip[k.start * lanes..k.end * lanes];
                        panel.multiply(&tiles, x, run.clone(), &k, acc);
                    }
                }
            };
            if k4 > 0 {
                acc.par_chunks_mut(count * size).enumerate().for_each(|(run, acc)| {
                    acc.par_chunks_mut(BUNDLE * size)
                        .zip(strips.par_chunks(BUNDLE * k4 * lanes))
                        .for_each(|(acc, strips)| multiply(run, acc, strips));
                });
            }
            sink(Block { rows: m.clone(), cols: n, acc: &acc, strips: count, lanes });
        }
    }
}

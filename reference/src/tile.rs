//! The innermost loops of the product, once per instruction set.
//!
//! A tile is `rows` rows of W times `lanes` rows of X: the lanes of the vector registers run over X,
//! so that a 2:4 row of W can pick its columns of X freely, a whole register at a time.
//!
//! ```text
//! x    [k][lanes]          a strip of X, transposed
//! w    [k][rows]           dense: rows of W, transposed
//!      [k/4][2][rows]      sparse: the kept values, and beside them their positions in the group
//! acc  [rows][lanes]       added to
//! ```
//!
//! Every element of acc is summed in the order of k, one product at a time. As a product of two
//! 16-bit floats is exact in f32 and f64, a fused multiply-add gives the bits of a separate
//! multiplication and addition: all variants agree.

/// Vector registers along the lanes of a tile.
const REGISTERS: usize = 4;

/// A dense tile: `(x, w, acc)`.
pub(crate) type Dense<R> = unsafe fn(&[R], &[R], &mut [R]);
/// A sparse tile: `(x, w, positions, acc)`.
pub(crate) type Sparse<R> = unsafe fn(&[R], &[R], &[u8], &mut [R]);

/// The tiles of one instruction set for numbers of type `R`.
///
/// The functions may be called only on a machine that has the instruction set; [`Real::tiles`] gives
/// no others. Slices of lengths that do not fit are cut to the shortest and never read beyond; an acc
/// below a tile is left as it is.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<R> {
    /// Rows of X in a tile.
    pub lanes: usize,
    /// Rows of W in a dense tile.
    pub dense_rows: usize,
    /// Rows of W in a sparse tile.
    pub sparse_rows: usize,
    /// The dense tile.
    pub dense: Dense<R>,
    /// The sparse tile.
    pub sparse: Sparse<R>,
}

/// f32 or f64: what a product is summed in.
pub(crate) trait Real: Copy + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;
    /// The tiles this machine can run, the fastest first; never empty.
    fn tiles() -> Vec<Tiles<Self>>;
}

/// Defines module `$name` with the two tiles of an instruction set, from its four operations.
macro_rules! tiles {
    (
        $name:ident: $real:ty, $(feature $feature:literal,)? width $width:literal,
        rows $dense:literal $sparse:literal, $load:path, $store:path, $splat:path, $fma:path
    ) => {
        mod $name {
            #[allow(unused_imports)] // Which of them is used depends on the instruction set.
            use super::{REGISTERS, Tiles, portable};

            const LANES: usize = REGISTERS * $width;

            pub(super) const TILES: Tiles<$real> = Tiles {
                lanes: LANES,
                dense_rows: $dense,
                sparse_rows: $sparse,
                dense,
                sparse,
            };

            /// Runs `$body` with `$sum`, the tile in registers, between loading and storing acc.
            macro_rules! with_registers {
                ($acc:ident, $rows:literal, $sum:ident, $body:block) => {
                    let acc = $acc.as_chunks_mut::<$width>().0;
                    let Some(acc) = acc.as_chunks_mut::<{ $rows * REGISTERS }>().0.first_mut() else {
                        return;
                    };
                    let mut $sum = [[$splat(0.0); REGISTERS]; $rows];
                    for (sum, acc) in $sum.as_flattened_mut().iter_mut().zip(acc.iter()) {
                        // SAFETY: acc is an array of one register's width.
                        *sum = unsafe { $load(acc.as_ptr()) };
                    }
                    $body
                    for (sum, acc) in $sum.as_flattened().iter().zip(acc) {
                        // SAFETY: acc is an array of one register's width.
                        unsafe { $store(acc.as_mut_ptr(), *sum) };
                    }
                };
            }

            $(#[target_feature(enable = $feature)])?
            fn dense(x: &[$real], w: &[$real], acc: &mut [$real]) {
                with_registers!(acc, $dense, sum, {
                    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<$dense>().0) {
                        let mut lanes = [$splat(0.0); REGISTERS];
                        for (lanes, x) in lanes.iter_mut().zip(x.as_chunks::<$width>().0) {
                            // SAFETY: x is an array of one register's width.
                            *lanes = unsafe { $load(x.as_ptr()) };
                        }
                        for (sum, &w) in sum.iter_mut().zip(w) {
                            let w = $splat(w);
                            for (sum, &x) in sum.iter_mut().zip(&lanes) {
                                *sum = $fma(w, x, *sum);
                            }
                        }
                    }
                });
            }

            $(#[target_feature(enable = $feature)])?
            fn sparse(x: &[$real], w: &[$real], positions: &[u8], acc: &mut [$real]) {
                with_registers!(acc, $sparse, sum, {
                    let groups = x.as_chunks::<LANES>().0.as_chunks::<4>().0.iter();
                    let kept = w.as_chunks::<$sparse>().0.as_chunks::<2>().0;
                    let positions = positions.as_chunks::<$sparse>().0.as_chunks::<2>().0;
                    for ((group, w), positions) in groups.zip(kept).zip(positions) {
                        for (w, positions) in w.iter().zip(positions) {
                            for ((sum, &w), &position) in sum.iter_mut().zip(w).zip(positions) {
                                let w = $splat(w);
                                let x = group[(position & 3) as usize].as_chunks::<$width>().0;
                                for (sum, x) in sum.iter_mut().zip(x) {
                                    // SAFETY: x is an array of one register's width.
                                    *sum = $fma(w, unsafe { $load(x.as_ptr()) }, *sum);
                                }
                            }
                        }
                    }
                });
            }
        }
    };
}

/// The four operations on "registers" of four numbers that any machine has.
mod portable {
    use core::ops::{Add, Mul};

    pub(super) type Register<R> = [R; 4];

    /// # Safety
    /// Four numbers can be read from `p`.
    #[inline(always)]
    pub(super) unsafe fn load<R: Copy>(p: *const R) -> Register<R> {
        // SAFETY: the caller's promise; an array has the alignment of its elements.
        unsafe { *p.cast() }
    }

    /// # Safety
    /// Four numbers can be written to `p`.
    #[inline(always)]
    pub(super) unsafe fn store<R: Copy>(p: *mut R, x: Register<R>) {
        // SAFETY: the caller's promise; an array has the alignment of its elements.
        unsafe { *p.cast() = x }
    }

    #[inline(always)]
    pub(super) fn splat<R: Copy>(x: R) -> Register<R> {
        [x; 4]
    }

    #[inline(always)]
    pub(super) fn multiply_add<R: Copy + Mul<Output = R> + Add<Output = R>>(
        a: Register<R>,
        b: Register<R>,
        c: Register<R>,
    ) -> Register<R> {
        core::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}

tiles!(
    portable_f32: f32, width 4, rows 2 2,
    portable::load, portable::store, portable::splat, portable::multiply_add
);
tiles!(
    portable_f64: f64, width 4, rows 2 2,
    portable::load, portable::store, portable::splat, portable::multiply_add
);

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64;
#[cfg(target_arch = "x86_64")]
tiles!(
    avx2_f32: f32, feature "avx2,fma", width 8, rows 2 2,
    super::x86_64::_mm256_loadu_ps, super::x86_64::_mm256_storeu_ps,
    super::x86_64::_mm256_set1_ps, super::x86_64::_mm256_fmadd_ps
);
#[cfg(target_arch = "x86_64")]
tiles!(
    avx2_f64: f64, feature "avx2,fma", width 4, rows 2 2,
    super::x86_64::_mm256_loadu_pd, super::x86_64::_mm256_storeu_pd,
    super::x86_64::_mm256_set1_pd, super::x86_64::_mm256_fmadd_pd
);
#[cfg(target_arch = "x86_64")]
tiles!(
    avx512_f32: f32, feature "avx512f", width 16, rows 5 2,
    super::x86_64::_mm512_loadu_ps, super::x86_64::_mm512_storeu_ps,
    super::x86_64::_mm512_set1_ps, super::x86_64::_mm512_fmadd_ps
);
#[cfg(target_arch = "x86_64")]
tiles!(
    avx512_f64: f64, feature "avx512f", width 8, rows 5 2,
    super::x86_64::_mm512_loadu_pd, super::x86_64::_mm512_storeu_pd,
    super::x86_64::_mm512_set1_pd, super::x86_64::_mm512_fmadd_pd
);

/// Implements [`Real`] for `$real` with its tiles of each instruction set.
macro_rules! real {
    ($real:ident, $avx512:ident, $avx2:ident, $portable:ident) => {
        impl Real for $real {
            const ZERO: Self = 0.0;

            fn tiles() -> Vec<Tiles<Self>> {
                let mut tiles = Vec::new();
                #[cfg(target_arch = "x86_64")]
                {
                    if std::arch::is_x86_feature_detected!("avx512f") {
                        tiles.push($avx512::TILES);
                    }
                    if std::arch::is_x86_feature_detected!("avx2")
                        && std::arch::is_x86_feature_detected!("fma")
                    {
                        tiles.push($avx2::TILES);
                    }
                }
                tiles.push($portable::TILES);
                tiles
            }
        }
    };
}

real!(f32, avx512_f32, avx2_f32, portable_f32);
real!(f64, avx512_f64, avx2_f64, portable_f64);

#[cfg(test)]
mod tests {
    use core::fmt::Debug;
    use core::ops::{AddAssign, Mul};

    use super::*;

    /// Numbers of 11 bits and many magnitudes: products are exact in f32, sums are not.
    fn numbers<R: From<f32>>(n: usize, seed: usize) -> Vec<R> {
        let number = |i: usize| {
            let bits = (i + 1) * (seed + 7) * 2_654_435_761;
            (((bits >> 8) % 4096) as f32 - 2047.5) / (1 << (bits >> 20 & 7)) as f32
        };
        (0..n).map(|i| number(i).into()).collect()
    }

    fn agree_with_plain_loops<R>()
    where
        R: Real + From<f32> + PartialEq + Debug + Mul<Output = R> + AddAssign,
    {
        const K: usize = 24;
        for t in R::tiles() {
            let x = numbers::<R>(K * t.lanes, 1);
            let run_dense = |rows: usize| {
                let (w, mut acc) = (numbers::<R>(K * rows, 2), numbers::<R>(rows * t.lanes, 3));
                let mut want = acc.clone();
                for (i, want) in want.iter_mut().enumerate() {
                    let (r, lane) = (i / t.lanes, i % t.lanes);
                    (0..K).for_each(|k| *want += x[k * t.lanes + lane] * w[k * rows + r]);
                }
                // SAFETY: `tiles` gives what this machine can run.
                unsafe { (t.dense)(&x, &w, &mut acc) };
                assert_eq!(acc, want);
            };
            let run_sparse = |rows: usize| {
                let (w, mut acc) = (numbers::<R>(K / 2 * rows, 4), numbers::<R>(rows * t.lanes, 5));
                let positions: Vec<u8> = (0..w.len()).map(|i| (i * 7 % 4) as u8).collect();
                let mut want = acc.clone();
                for (i, want) in want.iter_mut().enumerate() {
                    let (r, lane) = (i / t.lanes, i % t.lanes);
                    for p in 0..K / 2 {
                        let k = p / 2 * 4 + positions[p * rows + r] as usize;
                        *want += x[k * t.lanes + lane] * w[p * rows + r];
                    }
                }
                // SAFETY: `tiles` gives what this machine can run.
                unsafe { (t.sparse)(&x, &w, &positions, &mut acc) };
                assert_eq!(acc, want);
            };
            run_dense(t.dense_rows);
            run_sparse(t.sparse_rows);
        }
    }

    #[test]
    fn every_instruction_set_agrees_with_plain_loops() {
        agree_with_plain_loops::<f32>();
        agree_with_plain_loops::<f64>();
    }
}

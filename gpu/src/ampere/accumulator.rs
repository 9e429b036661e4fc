//! What the sm80 kernels sum products in: a lane's fragment of an m16n8 tile, in f32 or f16.

use cuda_std::convert::Convert;
use layout::packed24;

/// A lane's four elements of an m16n8 accumulator tile, in the order of `layout::fragment::accumulator`.
pub trait Accumulator: Copy {
    /// Sums of no products.
    const ZERO: Self;
    /// The sums, exactly.
    fn widen(self) -> [f32; 4];
}

/// Sums in f32.
pub type F32 = [f32; 4];

impl Accumulator for F32 {
    const ZERO: Self = [0.0; 4];

    #[inline(always)]
    fn widen(self) -> [f32; 4] {
        self
    }
}

/// Sums in f16, two a register.
pub type F16 = [u32; 2];

impl Accumulator for F16 {
    const ZERO: Self = [0; 2];

    #[inline(always)]
    fn widen(self) -> [f32; 4] {
        let [[c0, c1], [c2, c3]] = self.map(<packed24::F16 as Convert>::widen);
        [c0, c1, c2, c3]
    }
}

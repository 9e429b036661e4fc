//! Matrix fragments of the tensor-core instructions, and the arithmetic on them.
//!
//! PTX ISA, "Matrix fragments for mma.m16n8k8", "... mma.m16n8k16 with floating point type", "... for
//! sparse mma.m16n8k16 / m16n8k32" and, for `wgmma`, "Register fragments": in all of them lane `4g + q`
//! holds rows g and g+8 and pairs of columns 2q, 2q+1.
//!
//! # Numerics
//!
//! Products of 16-bit operands and their sum with the accumulator are computed in f64, where every such
//! product is exact, and rounded once per instruction to the accumulator's type. Hardware aligns the
//! products to the largest one and drops bits below its own width, so results differ from it in the
//! last bits; sums of small integers are exact in both.

use half::f16;

use crate::machine::Machine;
use crate::warp::Reg;

/// Element type of a 16-bit operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
}

impl Half {
    /// The value of 16 bits.
    #[inline(always)]
    pub fn widen(self, bits: u16) -> f64 {
        match self {
            Self::F16 => widen_f16(bits),
            Self::Bf16 => f32::from_bits(u32::from(bits) << 16).into(),
        }
    }

    /// The values of the low and high half of a register.
    #[inline(always)]
    pub fn pair(self, bits: u64) -> [f64; 2] {
        [self.widen(bits as u16), self.widen((bits >> 16) as u16)]
    }
}

/// binary16 to f64, without a branch for subnormals: the exponent is moved by a multiplication.
#[inline(always)]
fn widen_f16(bits: u16) -> f64 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    let scaled = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    f32::from_bits(scaled.to_bits() | special | sign).into()
}

/// Rounds to nearest even; NaN becomes the canonical NaN of the tensor cores, 0x7fffffff.
#[inline(always)]
pub fn round_f32(value: f64) -> u32 {
    if value.is_nan() { 0x7fff_ffff } else { (value as f32).to_bits() }
}

/// Rounds to nearest even, once; NaN becomes 0x7fff.
#[inline(always)]
pub fn round_f16(value: f64) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    // Through f32 rounded to odd, which keeps what decides the second rounding.
    let near = value as f32;
    let mut bits = near.to_bits();
    if f64::from(near) != value && near.is_finite() {
        if f64::from(near).abs() > value.abs() {
            bits -= 1;
        }
        bits |= 1;
    }
    f16::from_f32(f32::from_bits(bits)).to_bits()
}

/// Accumulator type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulator {
    /// Two elements per register.
    F16,
    /// One element per register.
    F32,
}

impl Accumulator {
    /// Registers for `elements` elements per lane.
    pub fn registers(self, elements: usize) -> usize {
        match self {
            Self::F16 => elements / 2,
            Self::F32 => elements,
        }
    }
}

/// 16 rows of A, up to 16 columns, with a poison bit per row.
pub struct TileA {
    /// Values by row and column.
    pub values: [[f64; 16]; 16],
    /// Rows that hold poison.
    pub poison: u32,
}

/// Row of A in half `h` of register `i`.
#[inline(always)]
fn a_row(lane: usize, i: usize) -> usize {
    lane / 4 + 8 * (i & 1)
}

/// Gathers an A of 8 (two registers) or 16 columns (four) from register contents and poison masks.
#[inline(always)]
pub fn gather_a<'a>(half: Half, regs: impl Iterator<Item = (&'a [u64; 32], u32)>) -> TileA {
    let mut tile = TileA { values: [[0.0; 16]; 16], poison: 0 };
    for (i, (lanes, poison)) in regs.enumerate() {
        let column = 8 * (i >> 1);
        for (lane, bits) in lanes.iter().enumerate() {
            let at = column + 2 * (lane % 4);
            tile.values[a_row(lane, i) & 15][at & 14..][..2].copy_from_slice(&half.pair(*bits));
        }
        tile.poison |= rows_of(poison) << (8 * (i & 1));
    }
    tile
}

/// Up to 32 rows (k) of an 8-column B, with a poison bit per column.
pub struct TileB {
    /// Values by k and column.
    pub values: [[f64; 8]; 32],
    /// Columns that hold poison.
    pub poison: u32,
}

/// Gathers a B of 8 rows per register.
#[inline(always)]
pub fn gather_b<'a>(half: Half, regs: impl Iterator<Item = (&'a [u64; 32], u32)>) -> TileB {
    let mut tile = TileB { values: [[0.0; 8]; 32], poison: 0 };
    for (i, (lanes, poison)) in regs.enumerate().take(4) {
        for (lane, bits) in lanes.iter().enumerate() {
            let k = 8 * i + 2 * (lane % 4);
            let [low, high] = half.pair(*bits);
            tile.values[k & 31][lane / 4] = low;
            tile.values[(k + 1) & 31][lane / 4] = high;
        }
        tile.poison |= rows_of(poison);
    }
    tile
}

/// One bit per group of four lanes: whether any of them is set.
#[inline(always)]
fn rows_of(lanes: u32) -> u32 {
    if lanes == 0 {
        return 0;
    }
    (0..8).fold(0, |mask, g| mask | u32::from(lanes >> (4 * g) & 0xf != 0) << g)
}

/// A 16x8 accumulator: values by row and column.
pub type TileC = [[f64; 8]; 16];

/// Gathers a 16x8 accumulator (four f32 or two f16x2 registers).
#[inline(always)]
pub fn gather_c<'a>(kind: Accumulator, regs: impl Iterator<Item = &'a [u64; 32]>) -> TileC {
    let mut tile = [[0.0; 8]; 16];
    for (i, lanes) in regs.enumerate() {
        for (lane, bits) in lanes.iter().enumerate() {
            let column = 2 * (lane % 4);
            match kind {
                Accumulator::F32 => {
                    let row = lane / 4 + 8 * (i >> 1 & 1);
                    tile[row & 15][(column + (i & 1)) & 7] = f32::from_bits(*bits as u32).into();
                }
                Accumulator::F16 => {
                    let row = a_row(lane, i) & 15;
                    tile[row][column & 6..][..2].copy_from_slice(&Half::F16.pair(*bits));
                }
            }
        }
    }
    tile
}

/// Rounds and puts register `i` of a 16x8 accumulator together.
#[inline(always)]
pub fn scatter_c(kind: Accumulator, tile: &TileC, i: usize) -> [u64; 32] {
    std::array::from_fn(|lane| {
        let column = 2 * (lane % 4);
        match kind {
            Accumulator::F32 => {
                let row = lane / 4 + 8 * (i >> 1 & 1);
                round_f32(tile[row & 15][(column + (i & 1)) & 7]).into()
            }
            Accumulator::F16 => {
                let row = &tile[a_row(lane, i) & 15];
                u64::from(round_f16(row[column & 6]))
                    | u64::from(round_f16(row[(column + 1) & 7])) << 16
            }
        }
    })
}

/// Lanes of register `i` of a 16x8 accumulator that poisoned rows of A or columns of B reach.
#[inline(always)]
pub fn poisoned_c(kind: Accumulator, i: usize, rows: u32, columns: u32) -> u32 {
    if rows | columns == 0 {
        return 0;
    }
    let mut lanes = 0;
    for lane in 0..32 {
        let (row, width, first) = match kind {
            Accumulator::F32 => (lane / 4 + 8 * (i >> 1 & 1), 1, 2 * (lane % 4) + (i & 1)),
            Accumulator::F16 => (a_row(lane, i), 3, 2 * (lane % 4)),
        };
        let hit = rows >> row & 1 != 0 || columns >> first & width != 0;
        lanes |= u32::from(hit) << lane;
    }
    lanes
}

/// `c += a . b` over `k` columns of A.
#[inline(always)]
pub fn multiply<const K: usize>(c: &mut TileC, a: &[[f64; 16]; 16], b: &[[f64; 8]; 32]) {
    for (row, sums) in a.iter().zip(c) {
        for k in 0..K {
            for (sum, b) in sums.iter_mut().zip(&b[k]) {
                *sum += row[k] * b;
            }
        }
    }
}

/// Contents and poison of registers, for the gather functions.
#[inline(always)]
pub fn contents<'m>(
    m: &'m Machine<'_>,
    regs: &'m [Reg],
) -> impl Iterator<Item = (&'m [u64; 32], u32)> {
    regs.iter().map(|reg| (m.get(*reg), m.poison(*reg)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (mine, theirs) = (widen_f16(bits), f16::from_bits(bits).to_f64());
            assert!(mine.to_bits() == theirs.to_bits() || mine.is_nan() && theirs.is_nan());
        }
    }

    #[test]
    fn f16_is_rounded_once() {
        for bits in 0..0x7bffu16 {
            let (low, high) = (f16::from_bits(bits).to_f64(), f16::from_bits(bits + 1).to_f64());
            let middle = (low + high) / 2.0;
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            let nudge = (high - low) * 2f64.powi(-40);
            assert_eq!(round_f16(middle), even);
            assert_eq!(round_f16(-middle), even | 0x8000);
            assert_eq!(round_f16(middle - nudge), bits);
            assert_eq!(round_f16(middle + nudge), bits + 1);
        }
        assert_eq!(round_f16(65519.9), 0x7bff);
        assert_eq!(round_f16(65520.0), 0x7c00);
        assert_eq!(round_f16(1e300), 0x7c00);
        assert_eq!(round_f16(f64::NAN), 0x7fff);
    }

    #[test]
    fn fragments_are_those_of_the_layout_crate() {
        use layout::fragment;
        // Element (r, c) of A is 16r + c, of B is 16k + n; every lane's registers are made by the maps.
        let pack = |f: &dyn Fn(u32, u32) -> (u32, u32), lane: usize, i: usize| {
            let one = |h: usize| {
                let (row, column) = f(lane as u32, (2 * i + h) as u32);
                f16::from_f32((16 * row + column) as f32).to_bits()
            };
            u64::from(one(0)) | u64::from(one(1)) << 16
        };
        let regs = |f: &dyn Fn(u32, u32) -> (u32, u32)| -> Vec<[u64; 32]> {
            (0..4).map(|i| std::array::from_fn(|lane| pack(f, lane, i))).collect()
        };
        let a = regs(&fragment::a);
        let tile = gather_a(Half::F16, a.iter().map(|r| (r, 0)));
        let b = regs(&fragment::b);
        let tile_b = gather_b(Half::F16, b.iter().map(|r| (r, 0)));
        for r in 0..16 {
            for c in 0..16 {
                assert_eq!(tile.values[r][c], (16 * r + c) as f64);
            }
        }
        for k in 0..32 {
            for n in 0..8 {
                assert_eq!(tile_b.values[k][n], (16 * k + n) as f64);
            }
        }
        let c: TileC = std::array::from_fn(|r| std::array::from_fn(|n| (16 * r + n) as f64));
        for i in 0..4 {
            let lanes = scatter_c(Accumulator::F32, &c, i);
            for (lane, bits) in lanes.iter().enumerate() {
                let (row, column) = fragment::accumulator(lane as u32, i as u32);
                assert_eq!(f32::from_bits(*bits as u32), (16 * row + column) as f32);
            }
        }
        for kind in [Accumulator::F32, Accumulator::F16] {
            let regs: Vec<_> = (0..kind.registers(4)).map(|i| scatter_c(kind, &c, i)).collect();
            assert_eq!(gather_c(kind, regs.iter()), c);
        }
    }

    #[test]
    fn poison_reaches_its_row_and_column_only() {
        // Row 9 of A and column 4 of B.
        for lane in 0..32 {
            for i in 0..4 {
                let hit = poisoned_c(Accumulator::F32, i, 1 << 9, 1 << 4) >> lane & 1 != 0;
                let (row, column) = layout::fragment::accumulator(lane, i as u32);
                assert_eq!(hit, row == 9 || column == 4);
            }
        }
        let zero = [0u64; 32];
        let regs = [(&zero, 1 << 5), (&zero, 0), (&zero, 0), (&zero, 1)];
        assert_eq!(gather_a(Half::F16, regs.into_iter()).poison, 1 << 1 | 1 << 8);
    }
}

//! Packed24: the one 2:4 format of every kernel.
//!
//! W is `[N, K]`, sparse along K: each group of four keeps two values. A packed W holds
//!
//! - **values**: row-major `[n_padded, k_padded / 2]`; group q of a row at columns 2q and 2q+1, in
//!   index order;
//! - **metadata**: one nibble `i | j << 2` (i < j, the kept positions) per group. A block of 16 rows
//!   and 64 columns of W is 32 words of 32 bits, blocks ordered `[n_padded/16][k_padded/64]`. Word
//!   `4g + j` (g = 0..7, j = 0..3) holds the four nibbles of columns 16j..16j+15 of row g in its low
//!   half and of row g+8 in its high half, lowest column in the lowest nibble.
//!
//! These words are what `mma.sp::ordered_metadata` takes as they are: lane l of a warp supplies word
//! l, with selector 0 or 1 for the block's first or second 32 columns (PTX ISA, "Sparse matrix
//! storage" of `mma.sp`, m16n8k32). N is padded to 16 and K to 64 with zero values and nibble
//! [`PAD_NIBBLE`].

/// Columns of W in a group, of which two are kept.
pub const GROUP: usize = 4;
/// Rows of W in a metadata block.
pub const BLOCK_ROWS: usize = 16;
/// Columns of W (dense) in a metadata block.
pub const BLOCK_COLS: usize = 64;
/// 32-bit words in a metadata block.
pub const BLOCK_WORDS: usize = 32;
/// The nibble of a group without non-zeros, and of padding: positions 0 and 1.
pub const PAD_NIBBLE: u8 = 0x4;
/// Every nibble the hardware defines: (0,1), (0,2), (0,3), (1,2), (1,3), (2,3).
pub const LEGAL_NIBBLES: [u8; 6] = [0x4, 0x8, 0xC, 0x9, 0xD, 0xE];

/// Whether `nibble` names two positions i < j of a group. Anything else is undefined in hardware.
#[inline(always)]
pub const fn is_legal(nibble: u8) -> bool {
    nibble < 16 && (nibble & 3) < (nibble >> 2)
}

/// The nibble that keeps positions `i < j` (both below 4).
#[inline(always)]
pub const fn nibble(i: u32, j: u32) -> u8 {
    (i | j << 2) as u8
}

/// The kept positions `(i, j)` of a legal nibble.
#[inline(always)]
pub const fn positions(nibble: u8) -> (usize, usize) {
    ((nibble & 3) as usize, (nibble >> 2 & 3) as usize)
}

/// Extents of a packed W of `n` rows and `k` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Rows after padding to [`BLOCK_ROWS`].
    pub n_padded: usize,
    /// Columns (dense) after padding to [`BLOCK_COLS`].
    pub k_padded: usize,
}

impl Extents {
    /// Extents for `n` rows and `k` columns, or `None` where the padded sizes overflow `usize`.
    pub const fn new(n: usize, k: usize) -> Option<Self> {
        let (Some(n_padded), Some(k_padded)) =
            (n.checked_next_multiple_of(BLOCK_ROWS), k.checked_next_multiple_of(BLOCK_COLS))
        else {
            return None;
        };
        match n_padded.checked_mul(k_padded) {
            Some(_) => Some(Self { n_padded, k_padded }),
            None => None,
        }
    }

    /// Number of values (16-bit elements).
    pub const fn values(&self) -> usize {
        self.n_padded * (self.k_padded / 2)
    }

    /// Number of metadata words (32-bit).
    pub const fn words(&self) -> usize {
        (self.n_padded / BLOCK_ROWS) * (self.k_padded / BLOCK_COLS) * BLOCK_WORDS
    }

    /// Index of the first of the two values of group `q` of `row`.
    pub const fn value_index(&self, row: usize, q: usize) -> usize {
        row * (self.k_padded / 2) + 2 * q
    }

    /// Where the nibble of group `q` of `row` lies: word index and bit shift.
    pub const fn nibble_position(&self, row: usize, q: usize) -> (usize, u32) {
        const BLOCK_GROUPS: usize = BLOCK_COLS / GROUP;
        let block = (row / BLOCK_ROWS) * (self.k_padded / BLOCK_COLS) + q / BLOCK_GROUPS;
        let (r, q) = (row % BLOCK_ROWS, q % BLOCK_GROUPS);
        let shift = 16 * (r / 8) + 4 * (q % 4);
        (block * BLOCK_WORDS + 4 * (r % 8) + q / 4, shift as u32)
    }
}

/// Which bits of a 16-bit float are the exponent: how [`select`] tells zero, NaN and order apart.
pub trait Float16 {
    /// The exponent mask, which is also the magnitude of infinity.
    const INFINITY: u16;
}

/// IEEE binary16.
#[derive(Clone, Copy, Debug)]
pub struct F16;
/// bfloat16.
#[derive(Clone, Copy, Debug)]
pub struct Bf16;

impl Float16 for F16 {
    const INFINITY: u16 = 0x7C00;
}
impl Float16 for Bf16 {
    const INFINITY: u16 = 0x7F80;
}

/// The order of pruning: magnitude of the bits `b`, every NaN equal and above infinity, both zeros 0.
#[inline(always)]
pub const fn magnitude<T: Float16>(b: u16) -> u32 {
    let m = b & 0x7FFF;
    if m > T::INFINITY { T::INFINITY as u32 + 1 } else { m as u32 }
}

/// The positions `(lo, hi)`, lo < hi, that a group keeps: those of its two largest magnitudes.
///
/// Element i is half i % 2 of `words[i / 2]`. Ties keep the lower index; NaN counts as largest. A group
/// with one non-zero at i keeps (i, 3), or (0, 3) when i is 3; without any it keeps (0, 1).
#[inline(always)]
pub fn kept<T: Float16>(words: [u32; 2]) -> (u32, u32) {
    // A key is the magnitude over a tag, which ranks equal magnitudes (bits 4 and up) and names the
    // position: bits 0 and 1 if the key is the largest, bits 2 and 3 if it is the second.
    const TAGS: [u32; 4] = [0x30, 0x25, 0x1A, 0x0F];
    // A zero at 3 ranks above the other zeros, and is the largest only where all are zeros: it is
    // position 1 then, beside the 0 of the zero at 0.
    const ZERO_AT_3: u32 = 0x4D;
    let key = |high: u32, tag: u32| {
        let nan = (T::INFINITY as u32 + 1) << 16;
        (high & 0x7FFF_0000 | tag).min(nan | tag)
    };
    let [k0, k1] = [key(words[0] << 16, TAGS[0]), key(words[0], TAGS[1])];
    let [k2, k3] = [key(words[1] << 16, TAGS[2]), key(words[1], TAGS[3]).max(ZERO_AT_3)];
    // Minima and maxima alone: branches would diverge in every warp.
    let (first, second) = (k0.max(k1), k0.min(k1));
    let (third, fourth) = (k2.max(k3), k2.min(k3));
    let largest = first.max(third);
    let next = first.min(third).max(second.max(fourth));
    let (p, q) = (largest & 3, next >> 2 & 3);
    (p.min(q), p.max(q))
}

/// Two elements with each -0 made +0: how kept zeros are stored.
#[inline(always)]
pub const fn positive_zeros(pair: u32) -> u32 {
    // The sum has the sign bit of each element that is not a zero; it cannot carry between them.
    let nonzero = (pair & 0x7FFF_7FFF) + 0x7FFF_7FFF;
    pair & (nonzero | 0x7FFF_7FFF)
}

/// Prunes one group: the nibble of the positions that [`kept`] names, and their values, as bits. A kept
/// zero is stored as +0.
#[inline(always)]
pub fn select<T: Float16>(group: [u16; 4]) -> (u8, [u16; 2]) {
    let [a, b, c, d] = group.map(u32::from);
    let (lo, hi) = kept::<T>([a | b << 16, c | d << 16]);
    let pair = positive_zeros(group[lo as usize] as u32 | (group[hi as usize] as u32) << 16);
    (nibble(lo, hi), [pair as u16, (pair >> 16) as u16])
}

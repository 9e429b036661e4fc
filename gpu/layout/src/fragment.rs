//! Which matrix element a lane's register holds in `mma.m16n8k16`, `mma.sp.m16n8k32` and `wgmma`.
//!
//! Source: PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type" and "... for sparse
//! mma.m16n8k32"; the compressed A of the latter is laid out as the A of the former.

/// Row and column in the 16x8 accumulator tile of register `i` (0..4) of `lane`.
#[inline(always)]
pub const fn accumulator(lane: u32, i: u32) -> (u32, u32) {
    (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2)
}

/// Row and column in the 16x16 A tile (dense, or compressed of k32) of half `h` (0..8) of `lane`:
/// register h/2, its low half first.
#[inline(always)]
pub const fn a(lane: u32, h: u32) -> (u32, u32) {
    (lane / 4 + 8 * (h / 2 % 2), 2 * (lane % 4) + h % 2 + 8 * (h / 4))
}

/// Row (k) and column (n) in the B tile of half `h` of `lane`: h in 0..4 for k16, in 0..8 for k32.
#[inline(always)]
pub const fn b(lane: u32, h: u32) -> (u32, u32) {
    (2 * (lane % 4) + h % 2 + 8 * (h / 2), lane / 4)
}

/// Row and chunk that `lane` points `ldmatrix.x4` at, to load a 16-row, 2-chunk A tile (16x16).
#[inline(always)]
pub const fn ldmatrix_a(lane: u32) -> (u32, u32) {
    (lane & 15, lane >> 4)
}

/// Row (n) and chunk (k) that `lane` points `ldmatrix.x4` at, to load the B of two n8 tiles at k16.
#[inline(always)]
pub const fn ldmatrix_b16(lane: u32) -> (u32, u32) {
    (lane & 7 | (lane >> 4) << 3, lane >> 3 & 1)
}

/// Row (n) and chunk (k) that `lane` points `ldmatrix.x4` at, to load the B of one n8 tile at k32.
#[inline(always)]
pub const fn ldmatrix_b32(lane: u32) -> (u32, u32) {
    (lane & 7, lane >> 3)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashMap;

    /// What `ldmatrix` gives `lane`: halves 2m, 2m+1 are columns 2(l%4), +1 of row l/4 of matrix m.
    fn loaded(at: fn(u32) -> (u32, u32), lane: u32, h: u32) -> (u32, u32) {
        let (row, chunk) = at(8 * (h / 2) + lane / 4);
        (row, chunk * 8 + 2 * (lane % 4) + h % 2)
    }

    #[test]
    fn fragments_cover_their_tiles_once() {
        let mut seen: HashMap<(&str, u32, u32), u32> = HashMap::new();
        for lane in 0..32 {
            for i in 0..4 {
                let (r, c) = accumulator(lane, i);
                *seen.entry(("d", r, c)).or_default() += 1;
            }
            for h in 0..8 {
                let (r, c) = a(lane, h);
                *seen.entry(("a", r, c)).or_default() += 1;
                let (r, c) = b(lane, h);
                *seen.entry(("b", r, c)).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), 16 * 8 + 16 * 16 + 32 * 8);
        assert!(seen.values().all(|&n| n == 1));
    }

    #[test]
    fn ldmatrix_delivers_the_fragments() {
        for lane in 0..32 {
            for h in 0..8 {
                assert_eq!(loaded(ldmatrix_a, lane, h), a(lane, h));
                let (k, n) = b(lane, h);
                assert_eq!(loaded(ldmatrix_b32, lane, h), (n, k));
                let (k, n) = b(lane, h % 4);
                assert_eq!(loaded(ldmatrix_b16, lane, h), (n + 8 * (h / 4), k));
            }
        }
    }
}

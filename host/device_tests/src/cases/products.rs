//! Cases of the kernels in `products`: K = 64, small integers, so that every sum is exact.

use super::data::{floats, halves, scramble, small, words};
use crate::case::Case;
use half::{bf16, f16};
use layout::packed24::{BLOCK_WORDS, Extents, LEGAL_NIBBLES, positions};

const ROWS: usize = 64;
const K: usize = 64;

/// Bits of a 16-bit float with this value.
type Encode = fn(i32) -> u16;

pub fn cases() -> Vec<Case> {
    let f: Encode = |value| f16::from_f32(value as f32).to_bits();
    let b: Encode = |value| bf16::from_f32(value as f32).to_bits();
    vec![
        dense("wgmma_f16_n8_shared", f, 8),
        dense("wgmma_f16_n64_shared", f, 64),
        dense("wgmma_f16_n256_shared", f, 256),
        dense("wgmma_f16_n8_registers", f, 8),
        dense("wgmma_f16_n64_registers", f, 64),
        dense("wgmma_f16_n256_registers", f, 256),
        dense("wgmma_bf16_n64_shared", b, 64),
        dense("wgmma_bf16_n64_registers", b, 64),
        dense("wgmma_f16_n64_swizzle_none", f, 64),
        dense("wgmma_f16_n64_swizzle_32", f, 64),
        dense("wgmma_f16_n64_swizzle_64", f, 64),
        sparse("wgmma_sp_f16_n8_shared", f, 8),
        sparse("wgmma_sp_f16_n64_shared", f, 64),
        sparse("wgmma_sp_f16_n256_shared", f, 256),
        sparse("wgmma_sp_f16_n8_registers", f, 8),
        sparse("wgmma_sp_f16_n64_registers", f, 64),
        sparse("wgmma_sp_f16_n256_registers", f, 256),
        sparse("wgmma_sp_bf16_n64_shared", b, 64),
        sparse("wgmma_sp_bf16_n64_registers", b, 64),
    ]
}

/// `a[64][64] . b[columns][64]^T` as bytes of f32.
fn product(a: &[i32], b: &[i32], columns: usize) -> Vec<u8> {
    floats((0..ROWS * columns).map(|i| {
        let (row, column) = (&a[i / columns * K..][..K], &b[i % columns * K..][..K]);
        row.iter().zip(column).map(|(x, y)| x * y).sum::<i32>() as f32
    }))
}

fn dense(name: &'static str, encode: Encode, columns: usize) -> Case {
    let a: Vec<i32> = (0..ROWS * K).map(small).collect();
    let b: Vec<i32> = (0..columns * K).map(|i| small(i + 50_000)).collect();
    let bytes = |values: &[i32]| halves(values.iter().map(|value| encode(*value)));
    Case::new(name, vec![bytes(&a), bytes(&b)], product(&a, &b, columns))
        .shared(((ROWS + columns) * K * 2) as u32)
}

fn sparse(name: &'static str, encode: Encode, columns: usize) -> Case {
    // All bits of the metadata are made here, from nibbles in an order that looks random.
    const EXTENTS: Extents = Extents { n_padded: ROWS, k_padded: K };
    let mut metadata = [0u32; ROWS / 16 * BLOCK_WORDS];
    let mut values = [0; ROWS * K / 2];
    let mut a = vec![0; ROWS * K];
    for row in 0..ROWS {
        for group in 0..K / 4 {
            let nibble = LEGAL_NIBBLES[scramble(row * K + group + 90_000) as usize % 6];
            let (word, shift) = EXTENTS.nibble_position(row, group);
            metadata[word] |= u32::from(nibble) << shift;
            let (i, j) = positions(nibble);
            for (value, position) in [(0, i), (1, j)] {
                let at = EXTENTS.value_index(row, group) + value;
                values[at] = small(at + 120_000);
                a[row * K + group * 4 + position] = values[at];
            }
        }
    }
    let b: Vec<i32> = (0..columns * K).map(|i| small(i + 50_000)).collect();
    let bytes = |values: &[i32]| halves(values.iter().map(|value| encode(*value)));
    let inputs = vec![bytes(&values), words(metadata), bytes(&b)];
    Case::new(name, inputs, product(&a, &b, columns)).shared(((ROWS / 2 + columns) * K * 2) as u32)
}

//! Inputs from fixed formulas, and bytes of numbers.

/// A number that looks random, from an index.
pub fn scramble(i: usize) -> u32 {
    let x = (i as u32).wrapping_add(0x9e37_79b9).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ x >> 13).wrapping_mul(0xc2b2_ae35);
    x ^ x >> 16
}

/// An integer from -3 to 3.
pub fn small(i: usize) -> i32 {
    (scramble(i) % 7) as i32 - 3
}

/// Little-endian bytes of 32-bit words.
pub fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Little-endian bytes of 16-bit words.
pub fn halves(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
    values.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// Little-endian bytes of f32.
pub fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    words(values.into_iter().map(f32::to_bits))
}

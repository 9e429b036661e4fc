//! Cases of the kernels in `plain`.

use super::data::{floats, scramble, small, words};
use crate::case::{Case, Contents};
use crate::ptx::Arch;

pub fn cases() -> Vec<Case> {
    let cases = [vector_add(), transpose(), block_reduce(), histogram(), take_places()];
    cases.into_iter().map(|case| Case { arch: Arch::Sm80, ..case }).collect()
}

fn vector_add() -> Case {
    const LEN: usize = 1000;
    let (a, b) = (|i| small(i) as f32, |i| small(i + LEN) as f32 * 0.5);
    let expected = floats((0..LEN).map(|i| a(i) + b(i)));
    Case::new("vector_add", vec![floats((0..LEN).map(a)), floats((0..LEN).map(b))], expected)
        .grid(8)
        .numbers(&[LEN as u32])
}

fn transpose() -> Case {
    const ROWS: usize = 40;
    const COLUMNS: usize = 36;
    let from = |row: usize, column: usize| (row << 16 | column) as u32;
    let input = words((0..ROWS * COLUMNS).map(|i| from(i / COLUMNS, i % COLUMNS)));
    let expected = words((0..ROWS * COLUMNS).map(|i| from(i % ROWS, i / ROWS)));
    Case::new("transpose", vec![input], expected)
        .grid(4)
        .shared(32 * 33 * 4)
        .numbers(&[ROWS as u32, COLUMNS as u32])
}

fn block_reduce() -> Case {
    const EACH: usize = 300;
    let input: Vec<u32> = (0..4 * EACH).map(scramble).collect();
    let sum = |part: &[u32]| part.iter().fold(0u32, |sum, v| sum.wrapping_add(*v));
    let expected = words(input.chunks(EACH).map(sum));
    Case::new("block_reduce", vec![words(input)], expected)
        .grid(4)
        .shared(16)
        .numbers(&[EACH as u32])
}

fn histogram() -> Case {
    const LEN: usize = 3000;
    const BINS: usize = 64;
    let input: Vec<u32> = (0..LEN).map(scramble).collect();
    let mut counts = [0; BINS];
    input.iter().for_each(|v| counts[*v as usize % BINS] += 1);
    let mut case = Case::new("histogram", vec![words(input)], words(counts));
    case.buffers[1] = Contents::Bytes(vec![0; BINS * 4]);
    case.grid(4).shared(BINS as u32 * 4).numbers(&[LEN as u32])
}

fn take_places() -> Case {
    let next = vec![0; 4];
    Case::new("take_places", vec![next], words(0..4 * 128)).grid(4).shared(8)
}

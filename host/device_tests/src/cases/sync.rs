//! Cases of the kernels in `ring`, `roles` and `matrices`.

use super::data::{halves, scramble, words};
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    vec![ring(), roles(), stmatrix("stmatrix_plain", false), stmatrix("stmatrix_trans", true)]
}

fn ring() -> Case {
    const ROUNDS: usize = 10;
    let input: Vec<u32> = (0..ROUNDS * 32).map(scramble).collect();
    let at = |i: usize| {
        let (round, warp, lane) = (i / 96, i / 32 % 3 + 1, i % 32);
        input[round * 32 + 31 - lane].wrapping_mul(warp as u32)
    };
    let expected = words((0..ROUNDS * 96).map(at));
    Case::new("mbarrier_ring", vec![words(input)], expected)
        .shared(256 + 3 * 128)
        .numbers(&[ROUNDS as u32])
}

fn roles() -> Case {
    const WORDS: usize = 192;
    let input: Vec<u32> = (0..WORDS).map(scramble).collect();
    let sum = |t: usize| {
        let term = |i: usize| (i as u32).wrapping_mul(input[(t + i) % WORDS]);
        (0..WORDS).map(term).fold(0, u32::wrapping_add)
    };
    let expected = words((0..256).map(sum));
    let case = Case::new("setmaxnreg_roles", vec![words(input)], expected);
    Case { block: 384, ..case.shared(WORDS as u32 * 4 + 8) }
}

/// Matrix m of warp w is 64 halves, row by row, from `(4w + m) * 64` on. Lane l supplies two elements of
/// row l / 4 of it, or, transposed, of column l / 4.
fn stmatrix(name: &'static str, transposed: bool) -> Case {
    let supplied =
        |thread: usize, matrix: usize, half: usize| (thread * 8 + matrix * 2 + half) as u16;
    let at = |i: usize| {
        let (warp, matrix, row, column) = (i / 256, i / 64 % 4, i / 8 % 8, i % 8);
        let (major, minor) = if transposed { (column, row) } else { (row, column) };
        supplied(warp * 32 + major * 4 + minor / 2, matrix, minor % 2)
    };
    let input = halves((0..1024).map(|i| supplied(i / 8, i / 2 % 4, i % 2)));
    Case::new(name, vec![input], halves((0..1024).map(at))).shared(2048)
}

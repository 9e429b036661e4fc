//! Cases of the kernels in `pairs`: every number's `tanh`, and arithmetic that is exact in f64 before it is rounded.

use super::data::{floats, halves, scramble, words};
use crate::case::Case;
use half::{bf16, f16};

/// Pairs that `mul`, `fma` and `max` take.
const OPERANDS: usize = 1 << 10;
/// Numbers that each of the 128 threads judges.
const EACH: u32 = (1 << 16) / 128;

pub fn cases() -> Vec<Case> {
    let f16_bound = 2f64.powf(-10.987) as f32;
    // 2^-8, and 2.6e-7 more: an H200 finds 161 / 256 for 0.74609375, whose tanh is 162.0001 / 256.
    let bf16_bound = 1.0 / 256.0 + 2.6e-7;
    let to_f16 = |x: f64| f16::from_f64(x).to_bits();
    let to_bf16 = |x: f64| bf16::from_f64(x).to_bits();
    // Exponents near that of 1: of 5 bits and a mantissa of 10, of 8 and of 7.
    let near_f16 = |x: u32| (x & 0x83ff | (11 + (x >> 16) % 8) << 10) as u16;
    let near_bf16 = |x: u32| (x & 0x807f | (123 + (x >> 16) % 8) << 7) as u16;
    vec![
        case("pairs_f16", f16_bound, |x| f16::from_bits(x).to_f64(), to_f16, near_f16),
        case("pairs_bf16", bf16_bound, |x| bf16::from_bits(x).to_f64(), to_bf16, near_bf16),
    ]
}

fn case(
    name: &'static str,
    bound: f32,
    wide: impl Fn(u16) -> f64,
    round: impl Fn(f64) -> u16,
    near: impl Fn(u32) -> u16,
) -> Case {
    let special = [0.0, -0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -3.0].map(&round);
    let operands: Vec<u16> = (0..2 * (OPERANDS + 2))
        .map(|i| if i < 50 { special[scramble(i) as usize % 7] } else { near(scramble(i)) })
        .collect();
    let rounded = |x: f64| if x.is_nan() { 0x7fff } else { round(x) };
    let pair =
        |of: &dyn Fn(usize) -> f64| u32::from(rounded(of(0))) | u32::from(rounded(of(1))) << 16;
    let larger = |a: f64, b: f64| match a.is_nan() || b.is_nan() {
        true => f64::NAN,
        // +0 of two zeros of different sign.
        false if a == b && a.is_sign_negative() => b,
        false if a == b => a,
        false => a.max(b),
    };
    let results = (0..OPERANDS).flat_map(|i| {
        let at = |half: usize, operand: usize| wide(operands[2 * (i + operand) + half]);
        [
            pair(&|half| at(half, 0) * at(half, 1)),
            pair(&|half| at(half, 0) * at(half, 1) + at(half, 2)),
            pair(&|half| larger(at(half, 0), at(half, 1))),
        ]
    });
    let expected = words([EACH; 128].into_iter().chain(results));
    let numbers = halves(0..=u16::MAX);
    let tanh = floats((0..=u16::MAX).map(|x| wide(x).tanh() as f32));
    Case::new(name, vec![numbers, tanh, halves(operands.iter().copied())], expected)
        .numbers(&[bound.to_bits()])
}

//! Reciprocal, roots and transcendental functions (PTX ISA, "rcp", "sqrt", "ex2", ...).
//!
//! `.approx` forms are computed in f64 and rounded once: within every documented error. Hardware's last
//! bits differ, as they do between its generations.

use super::float::{Options, format, halves};
use super::lanes::map;
use super::{FLOAT, Opcode};
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::Action;
use crate::value::Type;

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FLOAT, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("rcp", "1 / a; .approx .rn, .ftz", |d| rounded(d, |a| 1.0 / a, |a| 1.0 / a)),
    row!("sqrt", "square root; .approx .rn, .ftz", |d| rounded(d, f64::sqrt, f32::sqrt)),
    row!("rsqrt", "1 / square root; .approx, .ftz", |d| approximate(d, |a| 1.0 / a.sqrt(), true)),
    row!("sin", "sine; .approx, .ftz; .f32", |d| approximate(d, f64::sin, false)),
    row!("cos", "cosine; .approx, .ftz; .f32", |d| approximate(d, f64::cos, false)),
    row!("lg2", "logarithm to base 2; .approx, .ftz; .f32", |d| approximate(d, f64::log2, false)),
    row!("ex2", "2 to the a; .approx, .ftz; .f32 and 16-bit types", |d| function(d, f64::exp2)),
    row!("tanh", "hyperbolic tangent; .approx; .f32 and 16-bit types", |d| function(d, f64::tanh)),
];

/// `.approx` and `.rn`; `nearest` is correctly rounded by the host.
fn rounded(
    d: &mut Decode<'_>,
    wide: fn(f64) -> f64,
    nearest: fn(f32) -> f32,
) -> Result<Action, Error> {
    let approx = d.one_of(&[("approx", true), ("rn", false)])?;
    let options = Options { ftz: d.take("ftz"), ..Options::default() };
    let ty = d.one_of(&[("f32", Type::F32), ("f64", Type::F64)])?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    match ty {
        Type::F64 if approx || options.ftz => Err(d.error("only .rn is supported for .f64")),
        Type::F64 => Ok(map(dst, a, wide)),
        _ if approx => {
            Ok(map(dst, a, move |a: f32| options.output(wide(f64::from(options.input(a))) as f32)))
        }
        _ => Ok(map(dst, a, move |a: f32| options.output(nearest(options.input(a))))),
    }
}

fn approximate(d: &mut Decode<'_>, f: fn(f64) -> f64, double: bool) -> Result<Action, Error> {
    d.expect("approx")?;
    let options = Options { ftz: d.take("ftz"), ..Options::default() };
    let ty = d.one_of(&[("f32", Type::F32), ("f64", Type::F64)])?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    match ty {
        Type::F64 if double => Ok(map(dst, a, f)),
        Type::F64 => Err(d.error("no such type")),
        _ => Ok(map(dst, a, move |a: f32| options.output(f(f64::from(options.input(a))) as f32))),
    }
}

/// Functions that exist for the 16-bit types too.
fn function(d: &mut Decode<'_>, f: fn(f64) -> f64) -> Result<Action, Error> {
    d.expect("approx")?;
    let options = Options { ftz: d.take("ftz"), ..Options::default() };
    let ty = d.ty()?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    match ty {
        Type::F32 => {
            Ok(map(dst, a, move |a: f32| options.output(f(f64::from(options.input(a))) as f32)))
        }
        Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => {
            // `ex2.approx.ftz.bf16`: bf16 subnormals are outside what these kernels meet; unchanged.
            let options = Options { ftz: options.ftz && format(ty).exponent == 5, ..options };
            let format = format(ty);
            Ok(map(dst, a, move |a: u32| halves(ty, [a, 0, 0], format, options, |[a, _, _]| f(a))))
        }
        _ => Err(d.error("no such type")),
    }
}

//! Floating-point arithmetic (PTX ISA, "Floating point instructions", "Half precision ...").
//!
//! Correctly rounded: f32 and f64 in `.rn` by the host, everything else by [`crate::round`]. A NaN result
//! of f32, f16 and bf16 is the canonical one.

use super::compare::flush32;
use super::lanes::{map, map2, map3};
use super::{FLOAT, Opcode};
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::Action;
use crate::round::{BF16, F16, F32, Format, Rounding, narrow, odd_sum, widen16};
use crate::value::Type;

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FLOAT, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("add", "a + b; .rn .rz .rm .rp, .ftz, .sat", |d| sum(d, Kind::Add)),
    row!("sub", "a - b; .rn .rz .rm .rp, .ftz, .sat", |d| sum(d, Kind::Sub)),
    row!("mul", "a * b; .rn .rz .rm .rp, .ftz, .sat", |d| sum(d, Kind::Mul)),
    row!("fma", "a * b + c, rounded once; .ftz, .sat, .relu", fma),
    row!("mad", "fma; f32 and f64", fma),
    row!("div", "a / b; .rn .approx .full, .ftz", div),
    row!("min", "smaller value; .ftz, .NaN", |d| min_max(d, true)),
    row!("max", "larger value; .ftz, .NaN", |d| min_max(d, false)),
    row!("abs", "absolute value; .ftz", |d| sign(d, true)),
    row!("neg", "negation; .ftz", |d| sign(d, false)),
    row!("copysign", "b with the sign of a; .f32 .f64", copysign),
    row!(
        "testp",
        "class of a number; .finite .infinite .number .notanumber .normal .subnormal",
        testp
    ),
];

/// What happens before and after an operation.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub ftz: bool,
    pub sat: bool,
    pub relu: bool,
}

impl Options {
    pub fn take(d: &mut Decode<'_>) -> Self {
        Self { ftz: d.take("ftz"), sat: d.take("sat"), relu: d.take("relu") }
    }

    #[inline(always)]
    pub fn input(self, value: f32) -> f32 {
        flush32(value, self.ftz)
    }

    /// Rounds the exact result of an f32 operation, given to f64 with round-to-odd. With `.ftz` it is
    /// flushed if it is subnormal before rounding.
    fn round(self, value: f64, rounding: Rounding) -> f32 {
        if self.ftz && value.abs() < f64::from(f32::MIN_POSITIVE) {
            return self.output(0f32.copysign(value as f32));
        }
        self.output(match rounding {
            Rounding::NearestEven => value as f32,
            _ => f32::from_bits(narrow(value, F32, rounding) as u32),
        })
    }

    /// The result of an f32 operation.
    #[inline(always)]
    pub fn output(self, value: f32) -> f32 {
        if value.is_nan() {
            return if self.sat { 0.0 } else { f32::from_bits(0x7fff_ffff) };
        }
        let value = flush32(value, self.ftz);
        if self.sat { value.clamp(0.0, 1.0) + 0.0 } else { value }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Sub,
    Mul,
}

impl Kind {
    fn f64(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
        }
    }

    /// The result of operands of at most 24 bits, to f64 with round-to-odd.
    fn odd(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => odd_sum(a, b),
            Self::Sub => odd_sum(a, -b),
            Self::Mul => a * b,
        }
    }
}

fn rounding(d: &mut Decode<'_>) -> Rounding {
    d.take_map(|m| Rounding::parse(m).filter(|r| *r != Rounding::NearestAway))
        .unwrap_or(Rounding::NearestEven)
}

fn sum(d: &mut Decode<'_>, kind: Kind) -> Result<Action, Error> {
    let rounding = rounding(d);
    let options = Options::take(d);
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    check(d, ty, rounding, options)?;
    let plain = options == Options::default();
    Ok(match ty {
        Type::F32 if rounding == Rounding::NearestEven && plain => match kind {
            Kind::Add => map2(dst, a, b, |a: f32, b: f32| canonical(a + b)),
            Kind::Sub => map2(dst, a, b, |a: f32, b: f32| canonical(a - b)),
            Kind::Mul => map2(dst, a, b, |a: f32, b: f32| canonical(a * b)),
        },
        Type::F32 => map2(dst, a, b, move |a: f32, b: f32| {
            let (a, b) = (f64::from(options.input(a)), f64::from(options.input(b)));
            options.round(zero_sum(kind, a, b, rounding, kind.odd(a, b)), rounding)
        }),
        Type::F64 => map2(dst, a, b, move |a: f64, b: f64| kind.f64(a, b)),
        _ => {
            let format = format(ty);
            map2(dst, a, b, move |a: u32, b: u32| {
                halves(ty, [a, b, 0], format, options, |[a, b, _]| kind.odd(a, b))
            })
        }
    })
}

#[inline(always)]
fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(0x7fff_ffff) } else { value }
}

/// The exact result `value` of a sum; a zero sum of opposite addends is -0 when rounding down.
fn zero_sum(kind: Kind, a: f64, b: f64, rounding: Rounding, value: f64) -> f64 {
    let b = if kind == Kind::Sub { -b } else { b };
    let opposite = kind != Kind::Mul && a.is_sign_negative() != b.is_sign_negative();
    if value == 0.0 && opposite && rounding == Rounding::Down { -0.0 } else { value }
}

fn check(d: &Decode<'_>, ty: Type, rounding: Rounding, options: Options) -> Result<(), Error> {
    let nearest = rounding == Rounding::NearestEven;
    let fits = match ty {
        Type::F32 => !options.relu,
        Type::F64 => nearest && options == Options::default(),
        Type::F16 | Type::F16x2 => nearest,
        Type::Bf16 | Type::Bf16x2 => nearest && !options.ftz && !options.sat,
        _ => false,
    };
    if fits { Ok(()) } else { Err(d.error("no such combination of rounding, options and type")) }
}

pub(super) fn format(ty: Type) -> Format {
    if matches!(ty, Type::F16 | Type::F16x2) { F16 } else { BF16 }
}

/// Applies `f` to the halves of packed operands (or to the one half of `.f16`, `.bf16`).
pub(super) fn halves(
    ty: Type,
    operands: [u32; 3],
    format: Format,
    options: Options,
    f: impl Fn([f64; 3]) -> f64,
) -> u32 {
    let half = |shift: u32| {
        let input = operands.map(|bits| {
            let value = widen16((bits >> shift) as u16, format);
            let subnormal = value.abs() < 2f64.powi(-14);
            if options.ftz && subnormal { 0f64.copysign(value) } else { value }
        });
        output16(f(input), format, options) << shift
    };
    if matches!(ty, Type::F16x2 | Type::Bf16x2) { half(0) | half(16) } else { half(0) }
}

/// Rounds a result to a 16-bit format.
pub(super) fn output16(value: f64, format: Format, options: Options) -> u32 {
    let value = match value {
        v if options.sat && v.is_nan() => 0.0,
        v if options.sat => v.clamp(0.0, 1.0) + 0.0,
        v if options.relu && v <= 0.0 => 0.0,
        v => v,
    };
    let bits = narrow(value, format, Rounding::NearestEven) as u32;
    if options.ftz && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }
}

fn fma(d: &mut Decode<'_>) -> Result<Action, Error> {
    let rounding = d
        .take_map(|m| Rounding::parse(m).filter(|r| *r != Rounding::NearestAway))
        .ok_or_else(|| d.error("a rounding mode expected"))?;
    let options = Options::take(d);
    let ty = d.ty()?;
    let (dst, a, b, c) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?, d.src(ty)?);
    check(d, ty, rounding, options)?;
    Ok(match ty {
        Type::F32 => map3(dst, a, b, c, move |a: f32, b: f32, c: f32| {
            let [a, b, c] = [a, b, c].map(|v| options.input(v));
            // The product of two f32 is exact in f64.
            let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
            let sum = odd_sum(product, c);
            options.round(zero_sum(Kind::Add, product, c, rounding, sum), rounding)
        }),
        Type::F64 => map3(dst, a, b, c, f64::mul_add),
        _ => {
            let format = format(ty);
            map3(dst, a, b, c, move |a: u32, b: u32, c: u32| {
                halves(ty, [a, b, c], format, options, |[a, b, c]| odd_sum(a * b, c))
            })
        }
    })
}

fn div(d: &mut Decode<'_>) -> Result<Action, Error> {
    let modes = ["rn", "approx", "full"];
    let mode = d
        .take_map(|m| modes.iter().position(|name| *name == m))
        .ok_or_else(|| d.error(".rn, .approx or .full expected"))?;
    let options = Options { ftz: d.take("ftz"), ..Options::default() };
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    match ty {
        Type::F64 if mode == 0 && !options.ftz => Ok(map2(dst, a, b, |a: f64, b: f64| a / b)),
        Type::F32 => Ok(map2(dst, a, b, move |a: f32, b: f32| {
            let (a, b) = (options.input(a), options.input(b));
            // div.approx multiplies by the reciprocal, which is flushed to 0 for huge b.
            let huge = mode == 1 && b.is_finite() && b.abs() > f32::from_bits(0x7e80_0000);
            options.output(if huge { a * 0f32.copysign(b) } else { a / b })
        })),
        _ => Err(d.error("no such division")),
    }
}

fn min_max(d: &mut Decode<'_>, min: bool) -> Result<Action, Error> {
    let ftz = d.take("ftz");
    let propagate = d.take("NaN");
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    let pick = move |a: f64, b: f64| {
        if a.is_nan() || b.is_nan() {
            let both = a.is_nan() && b.is_nan();
            return if propagate || both {
                f64::NAN
            } else if a.is_nan() {
                b
            } else {
                a
            };
        }
        // -0 is smaller than +0.
        let first = if min { a.total_cmp(&b).is_le() } else { a.total_cmp(&b).is_ge() };
        if first { a } else { b }
    };
    Ok(match ty {
        Type::F32 => map2(dst, a, b, move |a: f32, b: f32| {
            canonical(pick(flush32(a, ftz).into(), flush32(b, ftz).into()) as f32)
        }),
        Type::F64 if !ftz && !propagate => map2(dst, a, b, pick),
        Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 => {
            let (format, options) = (format(ty), Options { ftz, ..Options::default() });
            map2(dst, a, b, move |a: u32, b: u32| {
                halves(ty, [a, b, 0], format, options, |[a, b, _]| pick(a, b))
            })
        }
        _ => return Err(d.error("no such minimum or maximum")),
    })
}

fn sign(d: &mut Decode<'_>, absolute: bool) -> Result<Action, Error> {
    let ftz = d.take("ftz");
    let ty = d.ty()?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    let change = move |value: f64| if absolute { value.abs() } else { -value };
    Ok(match ty {
        Type::F32 => map(dst, a, move |a: f32| canonical(change(flush32(a, ftz).into()) as f32)),
        // A NaN keeps its sign.
        Type::F64 if !ftz => map(dst, a, move |a: f64| if a.is_nan() { a } else { change(a) }),
        Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 if !ftz => {
            let (format, options) = (format(ty), Options::default());
            map(dst, a, move |a: u32| halves(ty, [a, 0, 0], format, options, |[a, _, _]| change(a)))
        }
        _ => return Err(d.error("no such operation")),
    })
}

fn copysign(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(&[("f32", Type::F32), ("f64", Type::F64)])?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    Ok(match ty {
        Type::F32 => map2(dst, a, b, |a: f32, b: f32| b.copysign(a)),
        _ => map2(dst, a, b, |a: f64, b: f64| b.copysign(a)),
    })
}

fn testp(d: &mut Decode<'_>) -> Result<Action, Error> {
    let classes = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
    let class = d
        .take_map(|m| classes.iter().position(|name| *name == m))
        .ok_or_else(|| d.error("a class of numbers expected"))?;
    let ty = d.one_of(&[("f32", Type::F32), ("f64", Type::F64)])?;
    let (dst, a) = (d.dst_pred()?, d.src(ty)?);
    Ok(Box::new(move |m| {
        let mut bits = 0;
        for lane in 0..32 {
            let raw = m.get(a)[lane];
            // Subnormal by the operand's own type.
            let (value, class_of) = match ty {
                Type::F32 => {
                    let value = f32::from_bits(raw as u32);
                    (f64::from(value), value.classify())
                }
                _ => (f64::from_bits(raw), f64::from_bits(raw).classify()),
            };
            let holds = match class {
                0 => value.is_finite(),
                1 => value.is_infinite(),
                2 => !value.is_nan(),
                3 => value.is_nan(),
                // Zero counts as normal.
                4 => value == 0.0 || class_of == std::num::FpCategory::Normal,
                _ => class_of == std::num::FpCategory::Subnormal,
            };
            bits |= u32::from(holds) << lane;
        }
        m.set_pred(dst, bits, m.poison(a));
        Ok(crate::machine::Flow::Next)
    }))
}

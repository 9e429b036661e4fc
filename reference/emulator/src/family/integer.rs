//! Integer arithmetic (PTX ISA, "Integer arithmetic instructions").

use super::Opcode;
use super::lanes::{map, map2, map3, map3_masked};
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::Action;
use crate::value::Type;

const FAMILY: &str = "integer";

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FAMILY, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("add", "a + b; .u16 to .s64, .sat.s32", add),
    row!("sub", "a - b; .u16 to .s64, .sat.s32", sub),
    row!("mul", "product: .lo or .hi half, or .wide; .u16 to .s64", mul),
    row!("mad", "a * b + c with .lo, .hi or .wide product; .hi.sat.s32", mad),
    row!("mul24", "product of the low 24 bits: .lo or .hi; .u32 .s32", mul24),
    row!("sad", "|a - b| + c", sad),
    row!("div", "quotient towards zero; by 0: poison", |d| div(d, false)),
    row!("rem", "remainder of div; by 0: poison", |d| div(d, true)),
    row!("abs", "absolute value; .s16 .s32 .s64", abs),
    row!("neg", "negation; .s16 .s32 .s64", neg),
    row!("min", "smaller value", |d| min_max(d, true)),
    row!("max", "larger value", |d| min_max(d, false)),
];

/// Expands `$body` for the Rust type `$T` of an integer type.
macro_rules! integers {
    ($d:ident, $ty:expr, $T:ident => $body:expr) => {
        match $ty {
            Type::U16 => {
                type $T = u16;
                $body
            }
            Type::S16 => {
                type $T = i16;
                $body
            }
            Type::U32 => {
                type $T = u32;
                $body
            }
            Type::S32 => {
                type $T = i32;
                $body
            }
            Type::U64 => {
                type $T = u64;
                $body
            }
            Type::S64 => {
                type $T = i64;
                $body
            }
            _ => return Err($d.error("an integer type of 16 to 64 bits expected")),
        }
    };
}
pub(super) use integers;

fn add(d: &mut Decode<'_>) -> Result<Action, Error> {
    let sat = d.take("sat");
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    if sat {
        return match ty {
            Type::S32 => Ok(map2(dst, a, b, i32::saturating_add)),
            _ => Err(d.error(".sat needs .s32")),
        };
    }
    Ok(integers!(d, ty, T => map2(dst, a, b, T::wrapping_add)))
}

fn sub(d: &mut Decode<'_>) -> Result<Action, Error> {
    let sat = d.take("sat");
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    if sat {
        return match ty {
            Type::S32 => Ok(map2(dst, a, b, i32::saturating_sub)),
            _ => Err(d.error(".sat needs .s32")),
        };
    }
    Ok(integers!(d, ty, T => map2(dst, a, b, T::wrapping_sub)))
}

/// Which part of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Lo,
    Hi,
    Wide,
}

const PARTS: &[(&str, Part)] = &[("lo", Part::Lo), ("hi", Part::Hi), ("wide", Part::Wide)];

/// The high half of a product.
macro_rules! high {
    ($T:ty, $a:expr, $b:expr) => {
        (($a as i128).wrapping_mul($b as i128) >> <$T>::BITS) as $T
    };
}

fn mul(d: &mut Decode<'_>) -> Result<Action, Error> {
    let part = d.one_of(PARTS)?;
    let ty = d.ty()?;
    let bits = if part == Part::Wide { 2 * ty.bits() } else { ty.bits() };
    let (dst, a, b) = (d.dst(bits)?, d.src(ty)?, d.src(ty)?);
    Ok(match (part, ty) {
        (Part::Lo, _) => integers!(d, ty, T => map2(dst, a, b, T::wrapping_mul)),
        (Part::Hi, Type::U64) => {
            map2(dst, a, b, |a: u64, b: u64| ((u128::from(a) * u128::from(b)) >> 64) as u64)
        }
        (Part::Hi, _) => integers!(d, ty, T => map2(dst, a, b, |a: T, b: T| high!(T, a, b))),
        (Part::Wide, Type::U16) => map2(dst, a, b, |a: u16, b: u16| u32::from(a) * u32::from(b)),
        (Part::Wide, Type::S16) => map2(dst, a, b, |a: i16, b: i16| i32::from(a) * i32::from(b)),
        (Part::Wide, Type::U32) => map2(dst, a, b, |a: u32, b: u32| u64::from(a) * u64::from(b)),
        (Part::Wide, Type::S32) => map2(dst, a, b, |a: i32, b: i32| i64::from(a) * i64::from(b)),
        (Part::Wide, _) => return Err(d.error(".wide needs a type of 16 or 32 bits")),
    })
}

fn mad(d: &mut Decode<'_>) -> Result<Action, Error> {
    let part = d.one_of(PARTS)?;
    let sat = part == Part::Hi && d.take("sat");
    let ty = d.ty()?;
    let sum = match (part, ty) {
        (Part::Wide, Type::U16) => Type::U32,
        (Part::Wide, Type::S16) => Type::S32,
        (Part::Wide, Type::U32) => Type::U64,
        (Part::Wide, Type::S32) => Type::S64,
        (Part::Wide, _) => return Err(d.error(".wide needs a type of 16 or 32 bits")),
        _ => ty,
    };
    let (dst, a, b, c) = (d.dst(sum.bits())?, d.src(ty)?, d.src(ty)?, d.src(sum)?);
    if sat {
        return match ty {
            Type::S32 => {
                Ok(map3(dst, a, b, c, |a: i32, b: i32, c: i32| high!(i32, a, b).saturating_add(c)))
            }
            _ => Err(d.error(".hi.sat needs .s32")),
        };
    }
    Ok(match (part, ty) {
        (Part::Lo, _) => integers!(d, ty, T => map3(dst, a, b, c, |a: T, b: T, c: T| {
            a.wrapping_mul(b).wrapping_add(c)
        })),
        (Part::Hi, Type::U64) => map3(dst, a, b, c, |a: u64, b: u64, c: u64| {
            (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)
        }),
        (Part::Hi, _) => integers!(d, ty, T => map3(dst, a, b, c, |a: T, b: T, c: T| {
            high!(T, a, b).wrapping_add(c)
        })),
        (Part::Wide, Type::U16) => map3(dst, a, b, c, |a: u16, b: u16, c: u32| {
            (u32::from(a) * u32::from(b)).wrapping_add(c)
        }),
        (Part::Wide, Type::S16) => map3(dst, a, b, c, |a: i16, b: i16, c: i32| {
            (i32::from(a) * i32::from(b)).wrapping_add(c)
        }),
        (Part::Wide, Type::U32) => map3(dst, a, b, c, |a: u32, b: u32, c: u64| {
            (u64::from(a) * u64::from(b)).wrapping_add(c)
        }),
        (Part::Wide, _) => map3(dst, a, b, c, |a: i32, b: i32, c: i64| {
            (i64::from(a) * i64::from(b)).wrapping_add(c)
        }),
    })
}

fn mul24(d: &mut Decode<'_>) -> Result<Action, Error> {
    let shift = d.one_of(&[("lo", 0), ("hi", 16)])?;
    let ty = d.one_of(&[("u32", Type::U32), ("s32", Type::S32)])?;
    let (dst, a, b) = (d.dst(32)?, d.src(ty)?, d.src(ty)?);
    Ok(if ty == Type::U32 {
        map2(dst, a, b, move |a: u32, b: u32| {
            ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> shift) as u32
        })
    } else {
        map2(dst, a, b, move |a: i32, b: i32| {
            ((i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)) >> shift) as i32
        })
    })
}

fn sad(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.ty()?;
    let (dst, a, b, c) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?, d.src(ty)?);
    Ok(integers!(d, ty, T => map3(dst, a, b, c, |a: T, b: T, c: T| {
        c.wrapping_add(if a < b { b.wrapping_sub(a) } else { a.wrapping_sub(b) })
    })))
}

fn div(d: &mut Decode<'_>, remainder: bool) -> Result<Action, Error> {
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    // The result of a division by zero is unspecified: poison.
    Ok(integers!(d, ty, T => if remainder {
        map3_masked(dst, a, b, b, |a: T, b: T, _: T| {
            if b == 0 { None } else { Some(a.wrapping_rem(b)) }
        })
    } else {
        map3_masked(dst, a, b, b, |a: T, b: T, _: T| {
            if b == 0 { None } else { Some(a.wrapping_div(b)) }
        })
    }))
}

fn abs(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(&[("s16", Type::S16), ("s32", Type::S32), ("s64", Type::S64)])?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    Ok(match ty {
        Type::S16 => map(dst, a, i16::wrapping_abs),
        Type::S32 => map(dst, a, i32::wrapping_abs),
        _ => map(dst, a, i64::wrapping_abs),
    })
}

fn neg(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(&[("s16", Type::S16), ("s32", Type::S32), ("s64", Type::S64)])?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    Ok(integers!(d, ty, T => map(dst, a, T::wrapping_neg)))
}

fn min_max(d: &mut Decode<'_>, min: bool) -> Result<Action, Error> {
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    Ok(integers!(d, ty, T => if min {
        map2(dst, a, b, |a: T, b: T| a.min(b))
    } else {
        map2(dst, a, b, |a: T, b: T| a.max(b))
    }))
}

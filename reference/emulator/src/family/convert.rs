//! Conversions (PTX ISA, "cvt", "cvt.pack" not included).

use super::Opcode;
use super::compare::flush32;
use super::lanes::{map, map2};
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::Action;
use crate::round::{
    BF16, F16, F32, Format, Rounding, TF32, integer_to_f64, narrow, narrow_nan, odd_integer,
    widen16,
};
use crate::value::Type;

pub(super) const TABLE: &[Opcode] = &[Opcode {
    name: "cvt",
    family: "convert",
    meaning: "between integers and floats; .rn .rna .rz .rm .rp, .rni .rzi .rmi .rpi, .ftz, .sat, .relu; packs two f32 into .f16x2 .bf16x2",
    decode: cvt,
}];

#[derive(Clone, Copy, Default)]
struct Options {
    rounding: Option<Rounding>,
    /// Rounds to an integer.
    integral: bool,
    ftz: bool,
    sat: bool,
    relu: bool,
}

fn options(d: &mut Decode<'_>) -> Options {
    let mut options = Options::default();
    if let Some(rounding) = d.take_map(Rounding::parse) {
        options.rounding = Some(rounding);
    } else if let Some(rounding) =
        d.take_map(|m| Rounding::parse(m.strip_suffix('i')?).filter(|_| m.len() == 3))
    {
        options.rounding = Some(rounding);
        options.integral = true;
    }
    loop {
        let flag = match d.rest().first() {
            Some(&"ftz") if !options.ftz => &mut options.ftz,
            Some(&"sat") if !options.sat => &mut options.sat,
            Some(&"relu") if !options.relu => &mut options.relu,
            _ => return options,
        };
        *flag = true;
        let taken = d.rest()[0];
        d.take(taken);
    }
}

fn cvt(d: &mut Decode<'_>) -> Result<Action, Error> {
    let options = options(d);
    let to = d.ty()?;
    let from = d.ty()?;
    if matches!(to, Type::F16x2 | Type::Bf16x2) {
        return pack(d, options, to, from);
    }
    let fits = match (to, from) {
        (Type::Tf32, Type::F32) => {
            !options.integral && options.rounding.is_some() && !options.ftz && !options.sat
        }
        (Type::Tf32, _) | (_, Type::Tf32) => false,
        (Type::Pred | Type::B128, _)
        | (_, Type::Pred | Type::B128 | Type::F16x2 | Type::Bf16x2) => false,
        (to, from) if !to.is_float() && !from.is_float() => {
            options.rounding.is_none() && !options.ftz && is_integer(to) && is_integer(from)
        }
        (to, _) if !to.is_float() => options.integral && is_integer(to),
        (_, from) if !from.is_float() => {
            options.rounding.is_some() && !options.integral && is_integer(from)
        }
        (to, from) => {
            let shrinks = to.bits() < from.bits() || (to.bits() == 16 && to != from);
            options.integral || shrinks == options.rounding.is_some()
        }
    };
    let away = options.rounding == Some(Rounding::NearestAway) && to != Type::Tf32;
    let narrows = matches!(to, Type::F16 | Type::Bf16 | Type::Tf32);
    if !fits || away || (options.relu && !narrows) {
        return Err(d.error("no such conversion"));
    }
    let dst_bits = if to == Type::Tf32 { 32 } else { to.bits() };
    let (dst, width) = d.dst_wide(dst_bits)?;
    let a = d.src_wide(from)?;
    // The frequent ones without any choice per lane.
    let unsigned = |ty: Type| !ty.is_float() && !ty.is_signed();
    if !options.sat && unsigned(to) && unsigned(from) {
        let mask = u64::MAX >> (64 - to.bits().min(from.bits()));
        return Ok(map(dst, a, move |a: u64| a & mask));
    }
    let plain = !options.integral && !options.ftz && !options.sat;
    if to == from && plain {
        return Ok(map(dst, a, |a: u64| a));
    }
    if (to, from) == (Type::F32, Type::Bf16) && plain {
        return Ok(map(dst, a, |a: u16| u32::from(a) << 16));
    }
    if (to, from) == (Type::F32, Type::F16) && !options.sat {
        return Ok(map(dst, a, |a: half::f16| if a.is_nan() { NAN32 } else { a.to_f32() }));
    }
    Ok(map(dst, a, move |bits: u64| match (to.is_float(), from.is_float()) {
        (false, false) => to_integer(integer(bits, from), to, options.sat, width),
        (false, true) => {
            let value = round_integral(float(bits, from, options.ftz), options.rounding);
            if value.is_nan() {
                return to_integer(not_a_number(to, from), to, false, width);
            }
            to_integer(value as i128, to, true, width)
        }
        (true, false) => from_integer(integer(bits, from), to, options),
        (true, true) => {
            // Hardware does not flush what it converts to f16.
            let value = float(bits, from, options.ftz && to != Type::F16);
            match (to, from) {
                _ if !value.is_nan() || options.sat || options.integral => {
                    from_float(value, to, options)
                }
                (Type::F64, Type::F32) if options.ftz => 0x7fff_ffff_e000_0000,
                (Type::F32 | Type::F16, Type::F64) => narrow_nan(value, format(to)),
                (Type::Tf32, _) if options.rounding == Some(Rounding::NearestAway) => {
                    bits & 0xffff_e000
                }
                _ => from_float(value, to, options),
            }
        }
    }))
}

const NAN32: f32 = f32::from_bits(0x7fff_ffff);

/// What NaN becomes as an integer, on hardware: PTX says 0, which holds for 32 bits and less and sources
/// other than f64.
fn not_a_number(to: Type, from: Type) -> i128 {
    if to.bits() == 64 || from == Type::F64 { 1 << (to.bits() - 1) } else { 0 }
}

fn is_integer(ty: Type) -> bool {
    !ty.is_float()
        && !matches!(ty, Type::Pred | Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::B128)
}

fn integer(bits: u64, ty: Type) -> i128 {
    let shift = 64 - ty.bits();
    if ty.is_signed() {
        i128::from((bits << shift) as i64 >> shift)
    } else {
        i128::from(bits << shift >> shift)
    }
}

fn float(bits: u64, ty: Type, ftz: bool) -> f64 {
    match ty {
        Type::F16 => widen16(bits as u16, F16),
        Type::Bf16 => widen16(bits as u16, BF16),
        Type::F32 => flush32(f32::from_bits(bits as u32), ftz).into(),
        _ => f64::from_bits(bits),
    }
}

/// An integer in a register of `width` bits: sign-extended if its type is signed.
fn to_integer(value: i128, ty: Type, sat: bool, width: u32) -> u64 {
    let bits = ty.bits();
    let value = if sat {
        let (min, max) = if ty.is_signed() {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        };
        value.clamp(min, max)
    } else {
        value
    };
    let low = value as u64 & (u64::MAX >> (64 - bits));
    if ty.is_signed() && low >> (bits - 1) & 1 != 0 {
        (low | !(u64::MAX >> (64 - bits))) & (u64::MAX >> (64 - width))
    } else {
        low
    }
}

fn round_integral(value: f64, rounding: Option<Rounding>) -> f64 {
    match rounding {
        Some(Rounding::NearestEven) => value.round_ties_even(),
        Some(Rounding::NearestAway) => value.round(),
        Some(Rounding::Zero) => value.trunc(),
        Some(Rounding::Down) => value.floor(),
        Some(Rounding::Up) => value.ceil(),
        None => value,
    }
}

fn format(ty: Type) -> Format {
    match ty {
        Type::F16 | Type::F16x2 => F16,
        Type::Bf16 | Type::Bf16x2 => BF16,
        Type::Tf32 => TF32,
        _ => F32,
    }
}

fn from_integer(value: i128, to: Type, options: Options) -> u64 {
    let rounding = options.rounding.unwrap_or(Rounding::NearestEven);
    if options.sat {
        return from_float(value.clamp(0, 1) as f64, to, options);
    }
    if to == Type::F64 {
        return integer_to_f64(value, rounding).to_bits();
    }
    narrow(odd_integer(value), format(to), rounding)
}

fn from_float(value: f64, to: Type, options: Options) -> u64 {
    let value = if options.integral { round_integral(value, options.rounding) } else { value };
    let value = match value {
        v if options.sat && v.is_nan() => 0.0,
        v if options.sat => v.clamp(0.0, 1.0) + 0.0,
        v if options.relu && v <= 0.0 => 0.0,
        v => v,
    };
    if to == Type::F64 {
        return value.to_bits();
    }
    let exact = options.integral || options.rounding.is_none();
    let rounding = match options.rounding {
        Some(rounding) if !exact => rounding,
        _ => Rounding::NearestEven,
    };
    let format = format(to);
    let bits = narrow(value, format, rounding);
    if to == Type::F32 && options.ftz {
        return flush32(f32::from_bits(bits as u32), true).to_bits().into();
    }
    bits
}

/// `cvt.rn.f16x2.f32 d, a, b`: a in the upper half, b in the lower.
fn pack(d: &mut Decode<'_>, options: Options, to: Type, from: Type) -> Result<Action, Error> {
    let nearest = matches!(options.rounding, Some(Rounding::NearestEven | Rounding::Zero));
    if from != Type::F32 || !nearest || options.integral || options.ftz || options.sat {
        return Err(d.error("no such conversion"));
    }
    let (dst, a, b) = (d.dst(32)?, d.src(from)?, d.src(from)?);
    Ok(map2(dst, a, b, move |a: f32, b: f32| {
        let half = |value: f32| from_float(value.into(), to, options) as u32;
        half(a) << 16 | half(b)
    }))
}

//! Logic, shifts and bit fields (PTX ISA, "Logic and shift instructions", "bfe", "bfi", "prmt", ...).

use super::Opcode;
use super::lanes::{map, map2, map3};
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::{Action, Flow};
use crate::value::Type;

const FAMILY: &str = "bits";

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FAMILY, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("and", "a & b; .pred .b16 .b32 .b64", |d| logic(d, |a, b| a & b)),
    row!("or", "a | b; .pred .b16 .b32 .b64", |d| logic(d, |a, b| a | b)),
    row!("xor", "a ^ b; .pred .b16 .b32 .b64", |d| logic(d, |a, b| a ^ b)),
    row!("not", "!a; .pred .b16 .b32 .b64", not),
    row!("cnot", "1 if a is 0, else 0; .b16 .b32 .b64", cnot),
    row!("lop3", "any function of three bits, by table; .b32", lop3),
    row!("shl", "shift left, 0 from the width on; .b16 .b32 .b64", shl),
    row!("shr", "shift right, filled with 0 or the sign; .b16 to .s64", shr),
    row!("shf", "funnel shift: .l .r, .clamp .wrap; .b32", shf),
    row!("bfe", "extract a bit field; .u32 .s32 .u64 .s64", bfe),
    row!("bfi", "insert a bit field; .b32 .b64", bfi),
    row!("prmt", "pick bytes of two registers; .f4e .b4e .rc8 .ecl .ecr .rc16; .b32", prmt),
    row!("popc", "number of ones; .b32 .b64", popc),
    row!("clz", "leading zeros; .b32 .b64", clz),
    row!("brev", "bits in reverse; .b32 .b64", brev),
    row!("bfind", "highest bit that is not the sign; .shiftamt; .u32 .s32 .u64 .s64", bfind),
    row!("fns", "n-th set bit; .b32", fns),
];

const BITS: &[(&str, Type)] = &[("b16", Type::B16), ("b32", Type::B32), ("b64", Type::B64)];
const BITS_32_64: &[(&str, Type)] = &[("b32", Type::B32), ("b64", Type::B64)];

fn logic(d: &mut Decode<'_>, f: fn(u64, u64) -> u64) -> Result<Action, Error> {
    if d.take("pred") {
        let (dst, a, b) = (d.dst_pred()?, d.src_pred()?, d.src_pred()?);
        return Ok(Box::new(move |m| {
            let (x, y) = (super::lanes::pred_bits(m, a), super::lanes::pred_bits(m, b));
            let poison = m.pred_poison(a.0) | m.pred_poison(b.0);
            m.set_pred(dst, f(x.into(), y.into()) as u32, poison);
            Ok(Flow::Next)
        }));
    }
    let ty = d.one_of(BITS)?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    // One closure per function, so that the loop over the lanes is vectorised.
    Ok(match f(0b1100, 0b1010) {
        0b1000 => map2(dst, a, b, |a: u64, b: u64| a & b),
        0b1110 => map2(dst, a, b, |a: u64, b: u64| a | b),
        _ => map2(dst, a, b, |a: u64, b: u64| a ^ b),
    })
}

fn not(d: &mut Decode<'_>) -> Result<Action, Error> {
    if d.take("pred") {
        let (dst, a) = (d.dst_pred()?, d.src_pred()?);
        return Ok(Box::new(move |m| {
            let poison = m.pred_poison(a.0);
            m.set_pred(dst, !super::lanes::pred_bits(m, a), poison);
            Ok(Flow::Next)
        }));
    }
    let ty = d.one_of(BITS)?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    Ok(match ty {
        Type::B16 => map(dst, a, |a: u16| !a),
        Type::B32 => map(dst, a, |a: u32| !a),
        _ => map(dst, a, |a: u64| !a),
    })
}

fn cnot(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(BITS)?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    Ok(map(dst, a, |a: u64| u64::from(a == 0)))
}

fn lop3(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("b32")?;
    let (dst, a, b, c) = (d.dst(32)?, d.src(Type::B32)?, d.src(Type::B32)?, d.src(Type::B32)?);
    let table = d.immediate()?;
    if table > 255 {
        return Err(d.error("the table of lop3 has 8 bits"));
    }
    Ok(map3(dst, a, b, c, move |a: u32, b: u32, c: u32| {
        (0..8).filter(|bit| table >> bit & 1 != 0).fold(0, |out, bit| {
            let pick = |value: u32, flag: u32| if bit & flag != 0 { value } else { !value };
            out | pick(a, 4) & pick(b, 2) & pick(c, 1)
        })
    }))
}

fn shl(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(BITS)?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(Type::U32)?);
    Ok(match ty {
        Type::B16 => map2(dst, a, b, |a: u16, b: u32| if b < 16 { a << b } else { 0 }),
        Type::B32 => map2(dst, a, b, |a: u32, b: u32| if b < 32 { a << b } else { 0 }),
        _ => map2(dst, a, b, |a: u64, b: u32| if b < 64 { a << b } else { 0 }),
    })
}

fn shr(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(Type::U32)?);
    Ok(match ty {
        Type::B16 | Type::U16 => map2(dst, a, b, |a: u16, b: u32| if b < 16 { a >> b } else { 0 }),
        Type::B32 | Type::U32 => map2(dst, a, b, |a: u32, b: u32| if b < 32 { a >> b } else { 0 }),
        Type::B64 | Type::U64 => map2(dst, a, b, |a: u64, b: u32| if b < 64 { a >> b } else { 0 }),
        Type::S16 => map2(dst, a, b, |a: i16, b: u32| a >> b.min(15)),
        Type::S32 => map2(dst, a, b, |a: i32, b: u32| a >> b.min(31)),
        Type::S64 => map2(dst, a, b, |a: i64, b: u32| a >> b.min(63)),
        _ => return Err(d.error("an integer type of 16 to 64 bits expected")),
    })
}

fn shf(d: &mut Decode<'_>) -> Result<Action, Error> {
    let left = d.one_of(&[("l", true), ("r", false)])?;
    let wrap = d.one_of(&[("wrap", true), ("clamp", false)])?;
    d.expect("b32")?;
    let (dst, a, b, c) = (d.dst(32)?, d.src(Type::B32)?, d.src(Type::B32)?, d.src(Type::U32)?);
    Ok(map3(dst, a, b, c, move |a: u32, b: u32, c: u32| {
        let amount = if wrap { c & 31 } else { c.min(32) };
        let both = u64::from(b) << 32 | u64::from(a);
        if left { (both << amount >> 32) as u32 } else { (both >> amount) as u32 }
    }))
}

fn bfe(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.ty()?;
    let bits = ty.bits();
    if !matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64) {
        return Err(d.error("a type of 32 or 64 bits expected"));
    }
    let (dst, a) = (d.dst(bits)?, d.src(ty)?);
    let (b, c) = (d.src(Type::U32)?, d.src(Type::U32)?);
    let signed = ty.is_signed();
    Ok(map3(dst, a, b, c, move |a: u64, pos: u32, len: u32| extract(a, pos, len, bits, signed)))
}

/// `bfe`: `len` bits from `pos` on, above them 0 or the sign (that of the field's last bit inside `a`).
fn extract(a: u64, pos: u32, len: u32, bits: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    let all = u64::MAX >> (64 - bits);
    let field = if pos < bits { a >> pos } else { 0 };
    let kept = len.min(bits.saturating_sub(pos));
    let mask = if kept == 0 { 0 } else { u64::MAX >> (64 - kept) };
    let sign = signed && len != 0 && a >> (pos + len - 1).min(bits - 1) & 1 != 0;
    if sign { (field & mask | !mask) & all } else { field & mask }
}

fn bfi(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(BITS_32_64)?;
    let bits = ty.bits();
    let (dst, a, b) = (d.dst(bits)?, d.src(ty)?, d.src(ty)?);
    let (pos, len) = (d.src(Type::U32)?, d.src(Type::U32)?);
    Ok(Box::new(move |m| {
        let out = std::array::from_fn(|lane| {
            let (from, into) = (m.get(a)[lane], m.get(b)[lane]);
            insert(from, into, m.get(pos)[lane] as u32, m.get(len)[lane] as u32, bits)
        });
        m.set(dst, &out, m.poison_of(&[a, b, pos, len]));
        Ok(Flow::Next)
    }))
}

fn insert(from: u64, into: u64, pos: u32, len: u32, bits: u32) -> u64 {
    let (pos, len) = (pos & 0xff, len & 0xff);
    if pos >= bits || len == 0 {
        return into;
    }
    let mask = u64::MAX >> (64 - len.min(bits - pos)) << pos;
    into & !mask | from << pos & mask
}

fn prmt(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("b32")?;
    let modes = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"];
    let mode = d.take_map(|m| modes.iter().position(|name| *name == m));
    let (dst, a, b, c) = (d.dst(32)?, d.src(Type::B32)?, d.src(Type::B32)?, d.src(Type::B32)?);
    Ok(map3(dst, a, b, c, move |a: u32, b: u32, c: u32| {
        let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
        let byte = |i: usize| {
            let s = (c & 3) as usize;
            let pick = match mode {
                None => {
                    let selector = c >> (4 * i);
                    let value = bytes[(selector & 7) as usize];
                    return if selector & 8 == 0 { value } else { (value as i8 >> 7) as u8 };
                }
                Some(0) => s + i,
                Some(1) => (8 + s - i) % 8,
                Some(2) => s,
                Some(3) => i.max(s),
                Some(4) => i.min(s),
                _ => (s & 1) * 2 + (i & 1),
            };
            bytes[pick % 8]
        };
        u32::from_le_bytes(std::array::from_fn(byte))
    }))
}

fn popc(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(BITS_32_64)?;
    let (dst, a) = (d.dst(32)?, d.src(ty)?);
    Ok(map(dst, a, |a: u64| a.count_ones()))
}

fn clz(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(BITS_32_64)?;
    let (dst, a) = (d.dst(32)?, d.src(ty)?);
    let above = 64 - ty.bits();
    Ok(map(dst, a, move |a: u64| a.leading_zeros() - above))
}

fn brev(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.one_of(BITS_32_64)?;
    let (dst, a) = (d.dst(ty.bits())?, d.src(ty)?);
    let above = 64 - ty.bits();
    Ok(map(dst, a, move |a: u64| a.reverse_bits() >> above))
}

fn bfind(d: &mut Decode<'_>) -> Result<Action, Error> {
    let amount = d.take("shiftamt");
    let ty = d.ty()?;
    if !matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64) {
        return Err(d.error("a type of 32 or 64 bits expected"));
    }
    let bits = ty.bits();
    let (dst, a) = (d.dst(32)?, d.src(ty)?);
    Ok(map(dst, a, move |a: u64| {
        let negative = ty.is_signed() && a >> (bits - 1) & 1 != 0;
        let a = if negative { !a & (u64::MAX >> (64 - bits)) } else { a };
        match a.checked_ilog2() {
            None => u32::MAX,
            Some(found) if amount => bits - 1 - found,
            Some(found) => found,
        }
    }))
}

fn fns(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("b32")?;
    let (dst, mask) = (d.dst(32)?, d.src(Type::B32)?);
    let (base, offset) = (d.src(Type::U32)?, d.src(Type::S32)?);
    Ok(map3(dst, mask, base, offset, |mask: u32, base: u32, offset: i32| {
        let set = |bit: &u32| mask >> bit & 1 != 0;
        let found = match offset {
            0 => Some(base).filter(|bit| *bit < 32 && set(bit)),
            1.. => (base..32).filter(set).nth(offset as usize - 1),
            _ if base > 31 => None,
            _ => (0..=base).rev().filter(set).nth(offset.unsigned_abs() as usize - 1),
        };
        found.unwrap_or(u32::MAX)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_fields() {
        assert_eq!(extract(0xabcd_1234, 8, 8, 32, false), 0x12);
        assert_eq!(extract(0xabcd_1234, 24, 16, 32, false), 0xab);
        assert_eq!(extract(0xabcd_1234, 24, 4, 32, true), 0xffff_fffb);
        assert_eq!(extract(0x8000_0000, 40, 4, 32, true), 0xffff_ffff);
        assert_eq!(extract(0x8000_0000, 3, 0, 32, true), 0);
        assert_eq!(insert(0xff, 0, 28, 8, 32), 0xf000_0000);
        assert_eq!(insert(0x5, 0xffff, 4, 4, 32), 0xff5f);
    }
}

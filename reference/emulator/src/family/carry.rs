//! Extended-precision integer arithmetic with the carry flag (PTX ISA, "Extended-precision integer
//! arithmetic instructions").

use super::Opcode;
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::{Action, Flow, lanes_of};
use crate::value::Type;

const FAMILY: &str = "integer";

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FAMILY, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("add.cc", "a + b, sets the carry", |d| sum(d, false, true, false)),
    row!("addc.cc", "a + b + carry, sets the carry", |d| sum(d, true, true, false)),
    row!("addc", "a + b + carry", |d| sum(d, true, false, false)),
    row!("sub.cc", "a - b, sets the borrow", |d| sum(d, false, true, true)),
    row!("subc.cc", "a - b - borrow, sets the borrow", |d| sum(d, true, true, true)),
    row!("subc", "a - b - borrow", |d| sum(d, true, false, true)),
    row!("mad.lo.cc", "low product + c, sets the carry", |d| mad(d, false, false, true)),
    row!("mad.hi.cc", "high product + c, sets the carry", |d| mad(d, true, false, true)),
    row!("madc.lo.cc", "low product + c + carry, sets it", |d| mad(d, false, true, true)),
    row!("madc.hi.cc", "high product + c + carry, sets it", |d| mad(d, true, true, true)),
    row!("madc.lo", "low product + c + carry", |d| mad(d, false, true, false)),
    row!("madc.hi", "high product + c + carry", |d| mad(d, true, true, false)),
];

fn integer(d: &mut Decode<'_>) -> Result<Type, Error> {
    d.one_of(&[("u32", Type::U32), ("s32", Type::S32), ("u64", Type::U64), ("s64", Type::S64)])
}

fn sum(d: &mut Decode<'_>, uses: bool, sets: bool, minus: bool) -> Result<Action, Error> {
    let ty = integer(d)?;
    let bits = ty.bits();
    let (dst, a, b) = (d.dst(bits)?, d.src(ty)?, d.src(ty)?);
    Ok(Box::new(move |m| {
        let (x, y, carry) = (*m.get(a), *m.get(b), m.warp.carry);
        let mut out = [0; 32];
        for lane in lanes_of(m.lanes) {
            let carry_in = u128::from(uses && carry >> lane & 1 != 0);
            let (x, y) = (u128::from(x[lane]), u128::from(y[lane]));
            let wide =
                if minus { x.wrapping_sub(y).wrapping_sub(carry_in) } else { x + y + carry_in };
            out[lane] = wide as u64 & (u64::MAX >> (64 - bits));
            if sets {
                let flag = (wide >> bits & 1) as u32;
                m.warp.carry = m.warp.carry & !(1 << lane) | flag << lane;
            }
        }
        m.set(dst, &out, m.poison(a) | m.poison(b));
        Ok(Flow::Next)
    }))
}

fn mad(d: &mut Decode<'_>, high: bool, uses: bool, sets: bool) -> Result<Action, Error> {
    let ty = integer(d)?;
    let bits = ty.bits();
    let (dst, a, b, c) = (d.dst(bits)?, d.src(ty)?, d.src(ty)?, d.src(ty)?);
    let signed = move |value: u64| (value << (64 - bits)) as i64 as i128 >> (64 - bits);
    Ok(Box::new(move |m| {
        let (x, y, z, carry) = (*m.get(a), *m.get(b), *m.get(c), m.warp.carry);
        let mask = u64::MAX >> (64 - bits);
        let mut out = [0; 32];
        for lane in lanes_of(m.lanes) {
            let product = if ty.is_signed() {
                (signed(x[lane]) * signed(y[lane])) as u128
            } else {
                u128::from(x[lane]) * u128::from(y[lane])
            };
            let half = (if high { product >> bits } else { product }) as u64 & mask;
            let carry_in = u128::from(uses && carry >> lane & 1 != 0);
            let wide = u128::from(half) + u128::from(z[lane]) + carry_in;
            out[lane] = wide as u64 & mask;
            if sets {
                let flag = (wide >> bits & 1) as u32;
                m.warp.carry = m.warp.carry & !(1 << lane) | flag << lane;
            }
        }
        m.set(dst, &out, m.poison(a) | m.poison(b) | m.poison(c));
        Ok(Flow::Next)
    }))
}

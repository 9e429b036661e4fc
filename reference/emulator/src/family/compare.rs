//! Comparison and selection (PTX ISA, "Comparison and selection instructions").

use half::{bf16, f16};

use super::Opcode;
use super::integer::integers;
use super::lanes::{compare, pred_bits};
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::{Action, Flow, Machine};
use crate::value::Type;
use crate::warp::{Pred, Reg};

const FAMILY: &str = "compare";

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FAMILY, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("setp", "compare into predicates p|q; .and .or .xor with a third; .ftz", setp),
    row!("set", "compare into 0 or -1 (or 1.0)", set),
    row!("selp", "a or b, by a predicate", selp),
    row!("slct", "a if c >= 0, else b; .ftz", slct),
];

/// The 14 comparisons, and `num`, `nan`. Integers use the ordered ones.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Comparison {
    less: bool,
    equal: bool,
    greater: bool,
    unordered: bool,
}

fn comparison(d: &mut Decode<'_>) -> Result<(Comparison, bool, bool), Error> {
    let name = d.rest().first().copied().unwrap_or_default();
    // Unsigned names of integer comparisons.
    let (plain, unsigned) = match name {
        "lo" => ("lt", true),
        "ls" => ("le", true),
        "hi" => ("gt", true),
        "hs" => ("ge", true),
        other => (other, false),
    };
    let special = ["num", "nan"].contains(&plain);
    let unordered = (plain.ends_with('u') && plain.len() == 3) || plain == "nan";
    let known = ["eq", "ne", "lt", "le", "gt", "ge"];
    let base = if special { "" } else { plain.strip_suffix('u').unwrap_or(plain) };
    if !special && !known.contains(&base) {
        return Err(d.error("a comparison expected"));
    }
    d.take(name);
    let comparison = Comparison {
        less: ["lt", "le", "ne"].contains(&base) || plain == "num",
        equal: ["eq", "le", "ge"].contains(&base) || plain == "num",
        greater: ["gt", "ge", "ne"].contains(&base) || plain == "num",
        unordered,
    };
    Ok((comparison, unsigned, special || unordered))
}

impl Comparison {
    #[inline(always)]
    fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match a.partial_cmp(&b) {
            Some(std::cmp::Ordering::Less) => self.less,
            Some(std::cmp::Ordering::Equal) => self.equal,
            Some(std::cmp::Ordering::Greater) => self.greater,
            None => self.unordered,
        }
    }
}

#[derive(Clone, Copy)]
enum Combine {
    None,
    And((Pred, bool)),
    Or((Pred, bool)),
    Xor((Pred, bool)),
}

impl Combine {
    fn apply(self, m: &Machine<'_>, bits: u32) -> u32 {
        match self {
            Self::None => bits,
            Self::And(c) => bits & pred_bits(m, c),
            Self::Or(c) => bits | pred_bits(m, c),
            Self::Xor(c) => bits ^ pred_bits(m, c),
        }
    }

    fn poison(self, m: &Machine<'_>) -> u32 {
        match self {
            Self::None => 0,
            Self::And(c) | Self::Or(c) | Self::Xor(c) => m.pred_poison(c.0),
        }
    }
}

/// Compares two registers: bit per lane.
type Compare = Box<dyn Fn(&Machine<'_>) -> u32 + Send + Sync>;

/// Flushes subnormals to zero.
pub(super) fn flush32(value: f32, ftz: bool) -> f32 {
    if ftz && value.is_subnormal() { 0f32.copysign(value) } else { value }
}

fn comparer(
    d: &Decode<'_>,
    ty: Type,
    (how, unsigned, floating): (Comparison, bool, bool),
    ftz: bool,
    (a, b): (Reg, Reg),
) -> Result<Compare, Error> {
    if floating && !ty.is_float() || unsigned && (ty.is_float() || ty.is_signed()) {
        return Err(d.error("the comparison does not fit the type"));
    }
    macro_rules! typed {
        ($T:ty) => {
            // The common comparisons get a loop of their own.
            match (how.less, how.equal, how.greater) {
                (true, false, false) if !how.unordered => {
                    Box::new(move |m| compare(m.get(a), m.get(b), |a: $T, b: $T| a < b))
                }
                (false, true, false) if !how.unordered => {
                    Box::new(move |m| compare(m.get(a), m.get(b), |a: $T, b: $T| a == b))
                }
                _ => Box::new(move |m| compare(m.get(a), m.get(b), |a: $T, b: $T| how.holds(a, b))),
            }
        };
    }
    Ok(match ty {
        Type::F32 => Box::new(move |m| {
            compare(m.get(a), m.get(b), |a: f32, b: f32| {
                how.holds(flush32(a, ftz), flush32(b, ftz))
            })
        }),
        Type::F64 => typed!(f64),
        Type::F16 => typed!(f16),
        Type::Bf16 => typed!(bf16),
        Type::B16 => typed!(u16),
        Type::B32 => typed!(u32),
        Type::B64 => typed!(u64),
        _ => integers!(d, ty, T => typed!(T)),
    })
}

fn combination(d: &mut Decode<'_>) -> Option<u32> {
    let names = ["and", "or", "xor"];
    d.take_map(|m| names.iter().position(|name| *name == m)).map(|index| index as u32)
}

fn combine(d: &mut Decode<'_>, which: Option<u32>) -> Result<Combine, Error> {
    Ok(match which {
        None => Combine::None,
        Some(0) => Combine::And(d.src_pred()?),
        Some(1) => Combine::Or(d.src_pred()?),
        Some(_) => Combine::Xor(d.src_pred()?),
    })
}

fn setp(d: &mut Decode<'_>) -> Result<Action, Error> {
    let how = comparison(d)?;
    let which = combination(d);
    let ftz = d.take("ftz");
    let ty = d.ty()?;
    let (p, q) = match d.operand()? {
        crate::ast::Operand::Pair(p, q) => (d.pred_of(&p)?, Some(d.pred_of(&q)?)),
        one => (d.pred_of(&one)?, None),
    };
    let (a, b) = (d.src(ty)?, d.src(ty)?);
    let combine = combine(d, which)?;
    let packed = matches!(ty, Type::F16x2 | Type::Bf16x2);
    if packed {
        return packed_setp(d, ty, how.0, (p, q), (a, b), combine);
    }
    let holds = comparer(d, ty, how, ftz, (a, b))?;
    Ok(Box::new(move |m| {
        let bits = holds(m);
        let poison = m.poison(a) | m.poison(b) | combine.poison(m);
        let (first, second) = (combine.apply(m, bits), combine.apply(m, !bits));
        m.set_pred(p, first, poison);
        if let Some(q) = q {
            m.set_pred(q, second, poison);
        }
        Ok(Flow::Next)
    }))
}

/// `setp` of two halves: p is the low one's result, q the high one's.
fn packed_setp(
    d: &Decode<'_>,
    ty: Type,
    how: Comparison,
    (p, q): (Pred, Option<Pred>),
    (a, b): (Reg, Reg),
    combine: Combine,
) -> Result<Action, Error> {
    let Some(q) = q else { return Err(d.error("two predicates p|q expected")) };
    Ok(Box::new(move |m| {
        let poison = m.poison(a) | m.poison(b) | combine.poison(m);
        let half = |m: &Machine<'_>, shift: u32| {
            compare(m.get(a), m.get(b), |a: u32, b: u32| {
                let (a, b) = ((a >> shift) as u16, (b >> shift) as u16);
                match ty {
                    Type::F16x2 => how.holds(f16::from_bits(a), f16::from_bits(b)),
                    _ => how.holds(bf16::from_bits(a), bf16::from_bits(b)),
                }
            })
        };
        let (low, high) = (combine.apply(m, half(m, 0)), combine.apply(m, half(m, 16)));
        m.set_pred(p, low, poison);
        m.set_pred(q, high, poison);
        Ok(Flow::Next)
    }))
}

fn set(d: &mut Decode<'_>) -> Result<Action, Error> {
    let how = comparison(d)?;
    let which = combination(d);
    let ftz = d.take("ftz");
    let to = d.one_of(&[("u32", 0xffff_ffff), ("s32", 0xffff_ffff), ("f32", 0x3f80_0000)])?;
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(32)?, d.src(ty)?, d.src(ty)?);
    let combine = combine(d, which)?;
    let holds = comparer(d, ty, how, ftz, (a, b))?;
    Ok(Box::new(move |m| {
        let bits = combine.apply(m, holds(m));
        let out = std::array::from_fn(|lane| if bits >> lane & 1 != 0 { to } else { 0 });
        m.set(dst, &out, m.poison(a) | m.poison(b) | combine.poison(m));
        Ok(Flow::Next)
    }))
}

fn selp(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.ty()?;
    let (dst, a, b) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?);
    let pred = d.src_pred()?;
    Ok(Box::new(move |m| {
        let bits = pred_bits(m, pred);
        let (x, y) = (m.get(a), m.get(b));
        let out = std::array::from_fn(|lane| {
            let pick = u64::from(bits >> lane & 1).wrapping_neg();
            x[lane] & pick | y[lane] & !pick
        });
        let poison = m.poison(a) & bits | m.poison(b) & !bits | m.pred_poison(pred.0);
        m.set(dst, &out, poison);
        Ok(Flow::Next)
    }))
}

fn slct(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ftz = d.take("ftz");
    let ty = d.ty()?;
    let by = d.one_of(&[("s32", Type::S32), ("f32", Type::F32)])?;
    let (dst, a, b, c) = (d.dst(ty.bits())?, d.src(ty)?, d.src(ty)?, d.src(by)?);
    Ok(Box::new(move |m| {
        let out = std::array::from_fn(|lane| {
            let c = m.get(c)[lane] as u32;
            let first = match by {
                Type::S32 => c as i32 >= 0,
                _ => flush32(f32::from_bits(c), ftz) >= 0.0,
            };
            m.get(if first { a } else { b })[lane]
        });
        m.set(dst, &out, m.poison_of(&[a, b, c]));
        Ok(Flow::Next)
    }))
}

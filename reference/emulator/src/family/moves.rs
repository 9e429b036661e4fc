//! Moves, packing, and conversion of addresses (PTX ISA, "mov", "cvta", "isspacep", "mapa", ...).

use super::Opcode;
use super::lanes::{map, map2};
use crate::ast::Operand;
use crate::decode::Decode;
use crate::error::Error;
use crate::machine::{Action, Flow, Space};
use crate::memory::{LOCAL_WINDOW, SHARED_WINDOW};
use crate::value::Type;
use crate::warp::Reg;

const FAMILY: &str = "move";

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FAMILY, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("mov", "copy a register, constant, special register or address; pack and unpack", mov),
    row!("cvta", "generic address of an address; .to for the other way", cvta),
    row!("isspacep", "whether a generic address is in a space", isspacep),
    row!("mapa", "address of a shared variable in another block of the cluster", mapa),
    row!("getctarank", "rank of the block a shared address is in", getctarank),
    row!("createpolicy", "a cache policy (a token without meaning here)", createpolicy),
];

fn mov(d: &mut Decode<'_>) -> Result<Action, Error> {
    let ty = d.ty()?;
    if ty == Type::Pred {
        let (dst, a) = (d.dst_pred()?, d.src_pred()?);
        return Ok(Box::new(move |m| {
            let (bits, poison) = (super::lanes::pred_bits(m, a), m.pred_poison(a.0));
            m.set_pred(dst, bits, poison);
            Ok(Flow::Next)
        }));
    }
    let to = d.operand()?;
    let from = d.operand()?;
    match (&to, &from) {
        (Operand::Vector(parts), _) => {
            let part = ty.bits() / parts.len().max(1) as u32;
            let source = d.src_of(&from, ty, false)?;
            let parts: Result<Vec<Reg>, Error> =
                parts.iter().map(|p| d.dst_of(p, part, false)).collect();
            unpack(d, parts?, source, part)
        }
        (_, Operand::Vector(parts)) => {
            let part = ty.bits() / parts.len().max(1) as u32;
            let part_ty = match part {
                8 => Type::B8,
                16 => Type::B16,
                32 => Type::B32,
                _ => return Err(d.error("the parts do not fill the type")),
            };
            let parts: Result<Vec<Reg>, Error> =
                parts.iter().map(|p| d.src_of(p, part_ty, false)).collect();
            let dst = d.dst_of(&to, ty.bits(), false)?;
            pack(d, dst, parts?, part)
        }
        _ => {
            let dst = d.dst_of(&to, ty.bits(), false)?;
            let source = d.src_of(&from, ty, false)?;
            let bits = ty.bits();
            // A special register may be wider than the type.
            if d.width(source) > bits {
                return Ok(map(dst, source, move |a: u64| a & (u64::MAX >> (64 - bits))));
            }
            Ok(Box::new(move |m| {
                let values = *m.get(source);
                m.set(dst, &values, m.poison(source));
                Ok(Flow::Next)
            }))
        }
    }
}

fn unpack(d: &Decode<'_>, parts: Vec<Reg>, source: Reg, bits: u32) -> Result<Action, Error> {
    if !matches!((parts.len(), bits), (2 | 4, 8 | 16 | 32)) {
        return Err(d.error("2 or 4 parts that fill the type expected"));
    }
    let mask = u64::MAX >> (64 - bits);
    Ok(Box::new(move |m| {
        let (values, poison) = (*m.get(source), m.poison(source));
        for (index, part) in parts.iter().enumerate() {
            let out = values.map(|value| value >> (index as u32 * bits) & mask);
            m.set(*part, &out, poison);
        }
        Ok(Flow::Next)
    }))
}

fn pack(d: &Decode<'_>, dst: Reg, parts: Vec<Reg>, bits: u32) -> Result<Action, Error> {
    if !matches!((parts.len(), bits), (2 | 4, 8 | 16 | 32)) {
        return Err(d.error("2 or 4 parts that fill the type expected"));
    }
    Ok(Box::new(move |m| {
        let out = std::array::from_fn(|lane| {
            let place = |(i, part): (usize, &Reg)| m.get(*part)[lane] << (i as u32 * bits);
            parts.iter().enumerate().map(place).fold(0, |a, b| a | b)
        });
        m.set(dst, &out, m.poison_of(&parts));
        Ok(Flow::Next)
    }))
}

/// Takes `.global`, `.shared`, ... Constants and module variables have generic addresses already, and so
/// have parameters here (see [`crate::program`]).
fn space(d: &mut Decode<'_>) -> Result<Space, Error> {
    d.one_of(&[
        ("global", Space::Global),
        ("const", Space::Global),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("shared::cluster", Space::Shared),
        ("local", Space::Local),
        ("param", Space::Param),
        ("param::entry", Space::Param),
    ])
}

fn window(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        Space::Global | Space::Param | Space::Generic => 0,
    }
}

fn cvta(d: &mut Decode<'_>) -> Result<Action, Error> {
    let back = d.take("to");
    let base = window(space(d)?);
    d.one_of(&[("u64", ())])?;
    let (dst, a) = (d.dst(64)?, d.src(Type::U64)?);
    Ok(if back {
        map(dst, a, move |a: u64| a.wrapping_sub(base))
    } else {
        map(dst, a, move |a: u64| a.wrapping_add(base))
    })
}

fn isspacep(d: &mut Decode<'_>) -> Result<Action, Error> {
    let cta = d.rest().first() != Some(&"shared::cluster");
    let space = space(d)?;
    let (dst, a) = (d.dst_pred()?, d.src(Type::U64)?);
    Ok(Box::new(move |m| {
        let mut bits = 0;
        for lane in 0..32 {
            let (found, address) = m.resolve(m.get(a)[lane]);
            let mine =
                space != Space::Shared || !cta || { m.shared_target(address).0 == m.warp.block };
            bits |= u32::from(found == space && mine) << lane;
        }
        m.set_pred(dst, bits, m.poison(a));
        Ok(Flow::Next)
    }))
}

fn mapa(d: &mut Decode<'_>) -> Result<Action, Error> {
    let shared = d.take("shared::cluster");
    let ty = d.one_of(&[("u32", Type::U32), ("u64", Type::U64)])?;
    if ty == Type::U32 && !shared {
        return Err(d.error(".u32 needs .shared::cluster"));
    }
    let (dst, a, rank) = (d.dst(ty.bits())?, d.src(ty)?, d.src(Type::U32)?);
    Ok(map2(dst, a, rank, move |a: u64, rank: u32| a & !0xff00_0000 | (u64::from(rank) + 1) << 24))
}

fn getctarank(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.take("shared::cluster");
    let ty = d.one_of(&[("u32", Type::U32), ("u64", Type::U64)])?;
    let (dst, a) = (d.dst(32)?, d.src(ty)?);
    Ok(Box::new(move |m| {
        let out = m.get(a).map(|address| m.shared_target(address & 0xffff_ffff).0 as u64);
        m.set(dst, &out, m.poison(a));
        Ok(Flow::Next)
    }))
}

fn createpolicy(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("fractional")?;
    let levels = [
        ("L2::evict_first", ()),
        ("L2::evict_last", ()),
        ("L2::evict_normal", ()),
        ("L2::evict_unchanged", ()),
    ];
    d.one_of(&levels)?;
    d.take_map(|m| m.starts_with("L2::evict").then_some(()));
    d.expect("b64")?;
    let dst = d.dst(64)?;
    if d.more() {
        d.src(Type::F32)?;
    }
    Ok(Box::new(move |m| {
        m.set(dst, &[0; 32], 0);
        Ok(Flow::Next)
    }))
}

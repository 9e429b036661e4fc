//! Exchange between the lanes of a warp (PTX ISA, "shfl.sync", "vote.sync", "match.sync", "redux.sync",
//! "activemask", "elect.sync").
//!
//! The lanes of the member mask wait for each other. A value taken from a lane that does not take part
//! is poison.

use super::Opcode;
use super::lanes::pred_bits;
use crate::ast::Operand;
use crate::decode::Decode;
use crate::error::Error;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, MERGE, Machine, lanes_of};
use crate::value::Type;
use crate::warp::Reg;

const FAMILY: &str = "shuffle";

macro_rules! row {
    ($name:literal, $meaning:literal, $decode:expr) => {
        Opcode { name: $name, family: FAMILY, meaning: $meaning, decode: $decode }
    };
}

pub(super) const TABLE: &[Opcode] = &[
    row!("shfl.sync", "value of another lane; .up .down .bfly .idx; d|p; .b32", shfl),
    row!("vote.sync", "combine a predicate; .all .any .uni .pred, .ballot.b32", vote),
    row!("match.any.sync", "lanes with the same value; .b32 .b64", |d| matching(d, false)),
    row!("match.all.sync", "whether all lanes have one value; d|p; .b32 .b64", |d| matching(
        d, true
    )),
    row!("redux.sync", "combine a value of all lanes; .add .min .max .and .or .xor", redux),
    row!("activemask", "lanes of the warp that are at this instruction; .b32", activemask),
    row!("elect.sync", "true in one lane; d|p", elect),
];

/// The lanes that take part, or what to return while some of them are not here yet.
fn members(m: &mut Machine<'_>, mask: Reg, what: &'static str) -> Result<u32, Flow> {
    let mask = m.uniform(mask, "the member mask") as u32;
    let outside = m.lanes & !mask;
    if outside != 0 {
        m.report(FindingKind::Illegal, Some(outside.trailing_zeros()), || {
            format!("{what} by a lane outside its member mask {mask:#010x}")
        });
    }
    let absent = mask & m.warp.alive() & !m.path_lanes;
    if absent != 0 {
        return Err(Flow::Wait { ticket: MERGE, on: what });
    }
    let guarded = mask & m.path_lanes & !m.lanes;
    if guarded != 0 {
        m.report(FindingKind::Divergence, Some(guarded.trailing_zeros()), || {
            format!("{what} skipped by lanes {guarded:#010x} of its member mask {mask:#010x}")
        });
    }
    Ok(m.lanes)
}

const SHFL: &str = "the other lanes of shfl.sync";
const VOTE: &str = "the other lanes of vote.sync";
const MATCH: &str = "the other lanes of match.sync";
const REDUX: &str = "the other lanes of redux.sync";
const ELECT: &str = "the other lanes of elect.sync";

#[derive(Clone, Copy)]
enum Mode {
    Up,
    Down,
    Butterfly,
    Index,
}

fn shfl(d: &mut Decode<'_>) -> Result<Action, Error> {
    let mode = d.one_of(&[
        ("up", Mode::Up),
        ("down", Mode::Down),
        ("bfly", Mode::Butterfly),
        ("idx", Mode::Index),
    ])?;
    d.expect("b32")?;
    let (dst, pred) = match d.operand()? {
        Operand::Pair(dst, pred) => (d.dst_of(&dst, 32, false)?, Some(d.pred_of(&pred)?)),
        one => (d.dst_of(&one, 32, false)?, None),
    };
    let (a, b, c) = (d.src(Type::B32)?, d.src(Type::B32)?, d.src(Type::B32)?);
    let mask = d.src(Type::B32)?;
    Ok(Box::new(move |m| {
        let present = match members(m, mask, SHFL) {
            Ok(present) => present,
            Err(wait) => return Ok(wait),
        };
        m.demand((m.poison(b) | m.poison(c)) & m.lanes, "the lane of shfl.sync");
        let (values, bad) = (*m.get(a), m.poison(a));
        let (mut out, mut poison, mut inside) = ([0; 32], 0, 0);
        for lane in lanes_of(m.lanes) {
            let (b, c) = ((m.get(b)[lane] & 31) as i32, m.get(c)[lane] as i32);
            let (clamp, segment) = (c & 31, c >> 8 & 31);
            let own = lane as i32;
            let max = own & segment | clamp & !segment;
            let min = own & segment;
            let (from, ok) = match mode {
                Mode::Up => (own - b, own - b >= max),
                Mode::Down => (own + b, own + b <= max),
                Mode::Butterfly => (own ^ b, own ^ b <= max),
                Mode::Index => {
                    let from = min | b & !segment;
                    (from, from <= max)
                }
            };
            let from = if ok { from as usize & 31 } else { lane };
            out[lane] = values[from];
            inside |= u32::from(ok) << lane;
            let missing = (bad | !present) >> from & 1;
            poison |= missing << lane;
        }
        m.set(dst, &out, poison);
        if let Some(pred) = pred {
            m.set_pred(pred, inside, 0);
        }
        Ok(Flow::Next)
    }))
}

fn vote(d: &mut Decode<'_>) -> Result<Action, Error> {
    let mode = d.one_of(&[("all", 0), ("any", 1), ("uni", 2), ("ballot", 3)])?;
    d.expect(if mode == 3 { "b32" } else { "pred" })?;
    let ballot = if mode == 3 { Some(d.dst(32)?) } else { None };
    let truth = if mode == 3 { None } else { Some(d.dst_pred()?) };
    let (a, mask) = (d.src_pred()?, d.src(Type::B32)?);
    Ok(Box::new(move |m| {
        let present = match members(m, mask, VOTE) {
            Ok(present) => present,
            Err(wait) => return Ok(wait),
        };
        let votes = pred_bits(m, a) & present;
        let poison = if m.pred_poison(a.0) & present != 0 { u32::MAX } else { 0 };
        if let Some(dst) = ballot {
            m.set(dst, &[votes.into(); 32], poison);
        }
        if let Some(dst) = truth {
            let value = match mode {
                0 => votes == present,
                1 => votes != 0,
                _ => votes == present || votes == 0,
            };
            m.set_pred(dst, if value { u32::MAX } else { 0 }, poison);
        }
        Ok(Flow::Next)
    }))
}

fn matching(d: &mut Decode<'_>, all: bool) -> Result<Action, Error> {
    let ty = d.one_of(&[("b32", Type::B32), ("b64", Type::B64)])?;
    let (dst, pred) = match d.operand()? {
        Operand::Pair(dst, pred) if all => (d.dst_of(&dst, 32, false)?, Some(d.pred_of(&pred)?)),
        one => (d.dst_of(&one, 32, false)?, None),
    };
    let (a, mask) = (d.src(ty)?, d.src(Type::B32)?);
    Ok(Box::new(move |m| {
        let present = match members(m, mask, MATCH) {
            Ok(present) => present,
            Err(wait) => return Ok(wait),
        };
        let values = *m.get(a);
        let same = |value| {
            lanes_of(present).filter(|&l| values[l] == value).fold(0u32, |mask, l| mask | 1 << l)
        };
        let poison = if m.poison(a) & present != 0 { u32::MAX } else { 0 };
        let mut out = [0; 32];
        let mut equal = 0;
        for lane in lanes_of(present) {
            let group = same(values[lane]);
            let whole = group == present;
            equal |= u32::from(whole) << lane;
            out[lane] = u64::from(if all && !whole { 0 } else { group });
        }
        m.set(dst, &out, poison);
        if let Some(pred) = pred {
            m.set_pred(pred, equal, poison);
        }
        Ok(Flow::Next)
    }))
}

fn redux(d: &mut Decode<'_>) -> Result<Action, Error> {
    let operations = ["add", "min", "max", "and", "or", "xor"];
    let operation = d
        .take_map(|m| operations.iter().position(|name| *name == m))
        .ok_or_else(|| d.error("an operation of redux expected"))?;
    let ty = if operation < 3 {
        d.one_of(&[("u32", Type::U32), ("s32", Type::S32)])?
    } else {
        d.one_of(&[("b32", Type::B32)])?
    };
    let (dst, a, mask) = (d.dst(32)?, d.src(ty)?, d.src(Type::B32)?);
    Ok(Box::new(move |m| {
        let present = match members(m, mask, REDUX) {
            Ok(present) => present,
            Err(wait) => return Ok(wait),
        };
        let values = *m.get(a);
        let combine = |x: u32, y: u32| match (operation, ty) {
            (0, _) => x.wrapping_add(y),
            (1, Type::U32) => x.min(y),
            (1, _) => (x as i32).min(y as i32) as u32,
            (2, Type::U32) => x.max(y),
            (2, _) => (x as i32).max(y as i32) as u32,
            (3, _) => x & y,
            (4, _) => x | y,
            _ => x ^ y,
        };
        let result = lanes_of(present).map(|lane| values[lane] as u32).reduce(combine);
        let poison = if m.poison(a) & present != 0 { u32::MAX } else { 0 };
        m.set(dst, &[result.unwrap_or(0).into(); 32], poison);
        Ok(Flow::Next)
    }))
}

fn activemask(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("b32")?;
    let dst = d.dst(32)?;
    Ok(Box::new(move |m| {
        m.set(dst, &[m.lanes.into(); 32], 0);
        Ok(Flow::Next)
    }))
}

fn elect(d: &mut Decode<'_>) -> Result<Action, Error> {
    let Operand::Pair(dst, pred) = d.operand()? else {
        return Err(d.error("d|p expected"));
    };
    let (dst, pred) = (d.dst_of(&dst, 32, false)?, d.pred_of(&pred)?);
    let mask = d.src(Type::B32)?;
    Ok(Box::new(move |m| {
        let present = match members(m, mask, ELECT) {
            Ok(present) => present,
            Err(wait) => return Ok(wait),
        };
        let leader = present.trailing_zeros();
        m.set(dst, &[leader.into(); 32], 0);
        m.set_pred(pred, 1 << (leader & 31), 0);
        Ok(Flow::Next)
    }))
}

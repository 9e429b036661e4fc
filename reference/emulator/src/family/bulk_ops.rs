//! The bulk copies of plain bytes, and the groups of bulk copies (PTX ISA, "cp.async.bulk",
//! "cp.reduce.async.bulk", "cp.async.bulk.commit_group", "cp.async.bulk.wait_group",
//! "cp.async.bulk.prefetch").

use super::bulk::{Source, count_global, start_loads};
use super::bulk_store::{Combine, Target, commit, start_store, wait};
use super::cp_async::take_policy;
use super::mbarrier::locate;
use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::family::Opcode;
use crate::family::fragment::round_f16;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::shared::{Accessor, NO_LANE, Proxy};
use crate::value::Type;
use crate::warp::Reg;
use half::{bf16, f16};

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "cp.async.bulk",
        family: "cp.async.bulk",
        meaning: "copies bytes: .shared::cluster.global.mbarrier::complete_tx::bytes{.multicast::cluster}, .shared::cluster.shared::cta.mbarrier::..., .global.shared::cta.bulk_group; {.L2::cache_hint}",
        decode: decode_bulk,
    },
    Opcode {
        name: "cp.reduce.async.bulk",
        family: "cp.async.bulk",
        meaning: "combines bytes with global memory: .global.shared::cta.bulk_group{.L2::cache_hint}.{add,min,max,and,or,xor}{.noftz} and a type",
        decode: decode_reduce,
    },
    Opcode {
        name: "cp.async.bulk.prefetch.L2.global",
        family: "cp.async.bulk",
        meaning: "fetches into L2: only checks the range",
        decode: decode_prefetch,
    },
    Opcode {
        name: "cp.async.bulk.commit_group",
        family: "cp.async.bulk",
        meaning: "closes each lane's group of bulk copies out of shared memory",
        decode: decode_commit,
    },
    Opcode {
        name: "cp.async.bulk.wait_group",
        family: "cp.async.bulk",
        meaning: "waits until at most N of each lane's newest groups are under way, or {.read} still read shared memory",
        decode: decode_wait,
    },
];

/// The active lanes' blocks to deliver to: one, or those of a multicast mask.
pub(super) fn decode_multicast(d: &mut Decode<'_>, multicast: bool) -> Result<Option<Reg>, Error> {
    if multicast { Ok(Some(d.src(Type::B16)?)) } else { Ok(None) }
}

/// Where a lane's copy goes: blocks, offset of the data, offset of the mbarrier.
pub(super) fn destinations(
    m: &mut Machine<'_>,
    lane: usize,
    to: u64,
    mbarrier: u64,
    mask: Option<Reg>,
    align: usize,
) -> Option<(Vec<usize>, usize, usize)> {
    let (block, at) = m.shared_range(lane, to, align, 0)?;
    let (home, mbarrier) = locate(m, lane, Space::Shared, mbarrier)?;
    let Some(mask) = mask else {
        if home != block {
            m.report(FindingKind::Illegal, Some(lane as u32), || {
                "the mbarrier of a bulk copy lies in another block than its destination".into()
            });
        }
        return Some((vec![block], at, mbarrier));
    };
    m.demand(m.poison(mask) & 1 << lane, "the block mask of a multicast");
    let mask = m.get(mask)[lane];
    let count = m.unit.blocks.len();
    if mask == 0 || mask >> count != 0 {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("a multicast to {mask:#x} in a cluster of {count} blocks")
        });
    }
    // Every block needs an initialised mbarrier at the same offset.
    let there = (0..count).filter(|block| mask >> block & 1 != 0).filter(|block| {
        let address = (*block as u64 + 1) << 24 | mbarrier as u64;
        locate(m, lane, Space::Shared, address).is_some()
    });
    let there = there.collect();
    Some((there, at, mbarrier))
}

/// Checks that a number of bytes can be copied in bulk.
fn check_size(m: &mut Machine<'_>, lane: usize, size: u64) -> Option<usize> {
    if !size.is_multiple_of(16) || size == 0 || size > crate::launch::MAX_SHARED as u64 {
        m.report(FindingKind::Illegal, Some(lane as u32), || {
            format!("a bulk copy of {size} bytes, not a multiple of 16 up to 227 KiB")
        });
    }
    (size > 0 && size <= crate::launch::MAX_SHARED as u64).then_some(size as usize)
}

fn decode_bulk(d: &mut Decode<'_>) -> Result<Action, Error> {
    if d.take("global") {
        return decode_store(d, false);
    }
    if !d.take("shared::cluster") {
        d.expect("shared::cta")?;
    }
    let from_global = d.take("global");
    if !from_global {
        d.expect("shared::cta")?;
    }
    d.expect("mbarrier::complete_tx::bytes")?;
    let multicast = from_global && d.take("multicast::cluster");
    let policy = from_global && d.take("L2::cache_hint");
    let (to, from, size) = (d.address()?, d.address()?, d.src(Type::U32)?);
    let mbarrier = d.address()?;
    if policy {
        take_policy(d)?;
    }
    let mask = decode_multicast(d, multicast)?;
    Ok(Box::new(move |m| {
        let (to, from, mbarrier) = (to.checked(m), from.checked(m), mbarrier.checked(m));
        m.demand(m.poison(size) & m.lanes, "the size of a bulk copy");
        for lane in lanes_of(m.lanes) {
            let Some(len) = check_size(m, lane, m.get(size)[lane]) else { continue };
            let source = if from_global {
                count_global(m, len);
                m.unit.tally.totals.bytes.global_read += len as u64;
                if m.global_range(lane, from[lane], 16, len).is_none() {
                    continue;
                }
                Source::Global(from[lane], len)
            } else {
                let Some((block, at)) = m.shared_range(lane, from[lane], 16, len) else { continue };
                let index = m.warp.index;
                let who = Accessor {
                    warp: index,
                    clock: &m.warp.clock,
                    proxy: Proxy::Async,
                    lane: NO_LANE,
                };
                let conflict = m.unit.blocks[block].shared.note_read(at, len, who);
                if let Some(conflict) = conflict {
                    m.conflict(conflict, lane, from[lane], "asynchronous read");
                }
                Source::Shared(block, at, len)
            };
            let found = destinations(m, lane, to[lane], mbarrier[lane], mask, 16);
            if let Some((blocks, at, mbarrier)) = found {
                start_loads(m, lane, &blocks, at, len, mbarrier, source);
            }
        }
        Ok(Flow::Next)
    }))
}

/// `.shared::cta.bulk_group{.L2::cache_hint} [to], [from], size`.
fn decode_store(d: &mut Decode<'_>, reduces: bool) -> Result<Action, Error> {
    d.expect("shared::cta")?;
    d.expect("bulk_group")?;
    let policy = d.take("L2::cache_hint");
    let combine = if reduces {
        let operation = decode_operation(d)?;
        let _ = d.take("noftz");
        let combine = combine_of(operation, d.ty()?);
        Some(combine.ok_or_else(|| d.error("this reduction is not supported"))?)
    } else {
        None
    };
    let (to, from, size): (Address, Address, Reg) = (d.address()?, d.address()?, d.src(Type::U32)?);
    if policy {
        take_policy(d)?;
    }
    Ok(Box::new(move |m| {
        let (to, from) = (to.checked(m), from.checked(m));
        m.demand(m.poison(size) & m.lanes, "the size of a bulk copy");
        for lane in lanes_of(m.lanes) {
            let Some(len) = check_size(m, lane, m.get(size)[lane]) else { continue };
            if m.global_range(lane, to[lane], 16, len).is_some() {
                start_store(m, lane, from[lane], len, Target::Global(to[lane]), combine);
            }
        }
        Ok(Flow::Next)
    }))
}

fn decode_reduce(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("global")?;
    decode_store(d, true)
}

/// Takes the operation of a reduction.
pub(super) fn decode_operation(d: &mut Decode<'_>) -> Result<&'static str, Error> {
    const NAMES: [&str; 6] = ["add", "min", "max", "and", "or", "xor"];
    let name = d.take_map(|m| NAMES.into_iter().find(|name| *name == m));
    name.ok_or_else(|| d.error("a reduction operation expected"))
}

/// How an operation combines elements of a type, if it does.
pub(super) fn combine_of(operation: &str, ty: Type) -> Option<Combine> {
    let combine: Option<fn(u64, u64) -> u64> = match (operation, ty) {
        ("add", Type::U32 | Type::S32 | Type::U64 | Type::S64) => Some(u64::wrapping_add),
        ("add", Type::F32) => {
            Some(|a, b| (f32::from_bits(a as u32) + f32::from_bits(b as u32)).to_bits().into())
        }
        ("add", Type::F64) => Some(|a, b| (f64::from_bits(a) + f64::from_bits(b)).to_bits()),
        ("add", Type::F16) => Some(|a, b| f16_of(a, b, |a, b| a + b)),
        ("min", Type::F16) => Some(|a, b| f16_of(a, b, f64::min)),
        ("max", Type::F16) => Some(|a, b| f16_of(a, b, f64::max)),
        ("add", Type::Bf16) => Some(|a, b| bf16_of(a, b, |a, b| a + b)),
        ("min", Type::Bf16) => Some(|a, b| bf16_of(a, b, f32::min)),
        ("max", Type::Bf16) => Some(|a, b| bf16_of(a, b, f32::max)),
        ("min", Type::U32 | Type::U64) => Some(u64::min),
        ("max", Type::U32 | Type::U64) => Some(u64::max),
        ("min", Type::S32) => Some(|a, b| (a as i32).min(b as i32) as u32 as u64),
        ("max", Type::S32) => Some(|a, b| (a as i32).max(b as i32) as u32 as u64),
        ("min", Type::S64) => Some(|a, b| (a as i64).min(b as i64) as u64),
        ("max", Type::S64) => Some(|a, b| (a as i64).max(b as i64) as u64),
        ("and", ty) if !ty.is_float() => Some(|a, b| a & b),
        ("or", ty) if !ty.is_float() => Some(|a, b| a | b),
        ("xor", ty) if !ty.is_float() => Some(|a, b| a ^ b),
        _ => None,
    };
    Some((ty.bytes(), combine?))
}

fn f16_of(a: u64, b: u64, f: fn(f64, f64) -> f64) -> u64 {
    let [a, b] = [a, b].map(|bits| f16::from_bits(bits as u16).to_f64());
    round_f16(f(a, b)).into()
}

fn bf16_of(a: u64, b: u64, f: fn(f32, f32) -> f32) -> u64 {
    let [a, b] = [a, b].map(|bits| bf16::from_bits(bits as u16).to_f32());
    bf16::from_f32(f(a, b)).to_bits().into()
}

fn decode_prefetch(d: &mut Decode<'_>) -> Result<Action, Error> {
    let policy = d.take("L2::cache_hint");
    let (from, size) = (d.address()?, d.src(Type::U32)?);
    if policy {
        take_policy(d)?;
    }
    Ok(Box::new(move |m| {
        let from = from.checked(m);
        m.demand(m.poison(size) & m.lanes, "the size of a prefetch");
        for lane in lanes_of(m.lanes) {
            let len = m.get(size)[lane];
            if !len.is_multiple_of(16) {
                m.report(FindingKind::Illegal, Some(lane as u32), || {
                    format!("a prefetch of {len} bytes, not a multiple of 16")
                });
            }
            m.global_range(lane, from[lane], 16, len as usize);
        }
        Ok(Flow::Next)
    }))
}

fn decode_commit(_: &mut Decode<'_>) -> Result<Action, Error> {
    Ok(Box::new(|m| {
        commit(m);
        Ok(Flow::Next)
    }))
}

fn decode_wait(d: &mut Decode<'_>) -> Result<Action, Error> {
    let only_read = d.take("read");
    let newest = d.immediate()?;
    Ok(Box::new(move |m| {
        wait(m, newest, only_read);
        Ok(Flow::Next)
    }))
}

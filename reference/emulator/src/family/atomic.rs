//! Atomics (PTX ISA, "atom", "red"), and what orders shared memory through them.
//!
//! An atomic, volatile, release or acquire access to shared memory both acquires and releases the clock
//! kept for its offset. That orders flags and counters as programs use them; a relaxed access without a
//! fence is taken to be ordered, too.

use half::{bf16, f16};

use super::Opcode;
use super::load_store::{cache_hints, space};
use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::shared::Proxy;
use crate::value::Type;
use crate::warp::Reg;

const FAMILY: &str = "atomic";

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "atom",
        family: FAMILY,
        meaning: "read, modify, write: .add .min .max .and .or .xor .inc .dec .exch .cas",
        decode: |d| atomic(d, true),
    },
    Opcode {
        name: "red",
        family: FAMILY,
        meaning: "atom without the old value",
        decode: |d| atomic(d, false),
    },
];

/// What an atomic makes of the old value, b and c.
type Update = fn(u64, u64, u64) -> u64;

fn atomic(d: &mut Decode<'_>, returns: bool) -> Result<Action, Error> {
    let semantics = ["relaxed", "acquire", "release", "acq_rel"];
    d.take_map(|m| semantics.contains(&m).then_some(()));
    let scopes = ["cta", "cluster", "gpu", "sys"];
    d.take_map(|m| scopes.contains(&m).then_some(()));
    let space = space(d);
    let operations = ["add", "min", "max", "and", "or", "xor", "inc", "dec", "exch", "cas"];
    let operation = d
        .take_map(|m| operations.iter().find(|name| **name == m).copied())
        .ok_or_else(|| d.error("an operation of atom expected"))?;
    if !returns && matches!(operation, "exch" | "cas") {
        return Err(d.error("no such operation of red"));
    }
    let noftz = d.take("noftz");
    let policy = cache_hints(d, &[]);
    let ty = d.ty()?;
    let update = update(operation, ty, noftz).ok_or_else(|| d.error("no such atomic"))?;
    let bits = ty.bits();
    if matches!(space, Space::Shared | Space::Generic) {
        d.shared_access(ty.bytes());
    }
    let dst = if returns { Some(d.dst(bits)?) } else { None };
    let address = d.address()?;
    let b = d.src(ty)?;
    let c = if operation == "cas" { d.src(ty)? } else { b };
    if policy {
        d.src(Type::B64)?;
    }
    Ok(action(space, ty, dst, address, (b, c), update))
}

fn update(operation: &str, ty: Type, noftz: bool) -> Option<Update> {
    let half = matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2);
    if noftz != (half && operation == "add") {
        return None;
    }
    Some(match (operation, ty) {
        ("add", Type::U32 | Type::S32 | Type::U64 | Type::S64) => |a, b, _| a.wrapping_add(b),
        ("add", Type::F32) => {
            |a, b, _| (f32::from_bits(a as u32) + f32::from_bits(b as u32)).to_bits().into()
        }
        ("add", Type::F64) => |a, b, _| (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        ("add", Type::F16 | Type::F16x2) => {
            |a, b, _| halves(a, b, |x, y| (f16::from_bits(x) + f16::from_bits(y)).to_bits())
        }
        ("add", Type::Bf16 | Type::Bf16x2) => {
            |a, b, _| halves(a, b, |x, y| (bf16::from_bits(x) + bf16::from_bits(y)).to_bits())
        }
        ("min", Type::U32 | Type::U64) => |a, b, _| a.min(b),
        ("max", Type::U32 | Type::U64) => |a, b, _| a.max(b),
        ("min", Type::S32) => |a, b, _| (a as i32).min(b as i32) as u32 as u64,
        ("max", Type::S32) => |a, b, _| (a as i32).max(b as i32) as u32 as u64,
        ("min", Type::S64) => |a, b, _| (a as i64).min(b as i64) as u64,
        ("max", Type::S64) => |a, b, _| (a as i64).max(b as i64) as u64,
        ("and", Type::B32 | Type::B64) => |a, b, _| a & b,
        ("or", Type::B32 | Type::B64) => |a, b, _| a | b,
        ("xor", Type::B32 | Type::B64) => |a, b, _| a ^ b,
        ("inc", Type::U32) => |a, b, _| if a >= b { 0 } else { a + 1 },
        ("dec", Type::U32) => |a, b, _| if a == 0 || a > b { b } else { a - 1 },
        ("exch", Type::B32 | Type::B64) => |_, b, _| b,
        ("cas", Type::B16 | Type::B32 | Type::B64) => |a, b, c| if a == b { c } else { a },
        _ => return None,
    })
}

fn halves(a: u64, b: u64, f: impl Fn(u16, u16) -> u16) -> u64 {
    u64::from(f(a as u16, b as u16)) | u64::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

fn action(
    space: Space,
    ty: Type,
    dst: Option<Reg>,
    address: Address,
    (b, c): (Reg, Reg),
    update: Update,
) -> Action {
    let bytes = ty.bytes();
    Box::new(move |m| {
        let addresses = address.checked(m);
        for lane in lanes_of(m.lanes) {
            let (space, at) = match space {
                Space::Generic => m.resolve(addresses[lane]),
                known => (known, addresses[lane]),
            };
            let (vb, vc) = (m.get(b)[lane], m.get(c)[lane]);
            let bad = (m.poison(b) | m.poison(c)) >> lane & 1 != 0;
            let old = match space {
                Space::Shared => shared(m, lane, at, bytes, bad, |old| update(old, vb, vc)),
                Space::Global => global(m, lane, at, bytes, bad, |old| update(old, vb, vc)),
                _ => return Err(m.unsupported("an atomic outside shared and global memory")),
            };
            if let Some(dst) = dst {
                let (value, poison) = old.unwrap_or((0, true));
                m.set_lane(dst, lane, value, poison);
            }
        }
        m.unit.changed();
        // Whoever spins on the value lets the others run.
        Ok(Flow::Yield)
    })
}

fn shared(
    m: &mut Machine<'_>,
    lane: usize,
    address: u64,
    bytes: usize,
    bad: bool,
    f: impl Fn(u64) -> u64,
) -> Option<(u64, bool)> {
    m.shared_range(lane, address, bytes, bytes)?;
    strong_acquire(m, address);
    let mut word = [0; 8];
    let poison = m.read_shared(lane, address, 1, &mut word[..bytes], Proxy::Strong) != 0;
    let old = u64::from_le_bytes(word);
    let new = f(old).to_le_bytes();
    let mask = if poison || bad { u64::MAX } else { 0 };
    m.write_shared(lane, address, 1, &new[..bytes], mask, Proxy::Strong);
    strong_release(m, address);
    Some((old, poison))
}

fn global(
    m: &mut Machine<'_>,
    lane: usize,
    address: u64,
    bytes: usize,
    bad: bool,
    f: impl Fn(u64) -> u64,
) -> Option<(u64, bool)> {
    let (buffer, at) = m.global_range(lane, address, bytes, bytes)?;
    let buffer = m.unit.buffers[buffer].clone();
    if !buffer.writable {
        m.report(FindingKind::ReadOnly, Some(lane as u32), || format!("atomic on {}", buffer.name));
        return None;
    }
    let (old, poison) = buffer.atomic(at, bytes, f);
    if poison || bad {
        m.report(FindingKind::Poison, Some(lane as u32), || {
            let what = if poison { "memory" } else { "a value" };
            format!("an atomic at {address:#x} uses {what} that nothing initialised")
        });
    }
    m.unit.tally.totals.bytes.global_read += bytes as u64;
    m.unit.tally.totals.bytes.global_written += bytes as u64;
    Some((old, poison))
}

/// Orders this warp after what was released to the shared address.
pub(super) fn strong_acquire(m: &mut Machine<'_>, address: u64) {
    let (block, at) = m.shared_target(address);
    if let Some(clock) = m.unit.blocks.get(block).and_then(|b| b.strong.get(&at)) {
        m.warp.clock.join(clock);
    }
}

/// Releases what this warp has done to the shared address.
pub(super) fn strong_release(m: &mut Machine<'_>, address: u64) {
    let (block, at) = m.shared_target(address);
    let Some(block) = m.unit.blocks.get_mut(block) else { return };
    block.strong.entry(at).or_default().join(&m.warp.clock);
    m.warp.clock.tick(m.warp.index);
    m.unit.changed();
}

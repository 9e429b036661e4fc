//! Loads and stores (PTX ISA, "ld", "st", "ld.global.nc", "prefetch").

use super::Opcode;
use super::atomic::{strong_acquire, strong_release};
use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::shared::Proxy;
use crate::value::Type;
use crate::warp::Reg;

const FAMILY: &str = "memory";

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "ld",
        family: FAMILY,
        meaning: "load 1 to 4 values; all spaces, .nc, .volatile .relaxed .acquire, cache hints",
        decode: ld,
    },
    Opcode {
        name: "st",
        family: FAMILY,
        meaning: "store 1 to 4 values; all spaces, .volatile .relaxed .release, cache hints",
        decode: st,
    },
    Opcode {
        name: "prefetch",
        family: FAMILY,
        meaning: "fetch into a cache (nothing to do here)",
        decode: prefetch,
    },
];

/// Space of an access. Parameters have generic addresses (see [`crate::program`]).
pub(super) fn space(d: &mut Decode<'_>) -> Space {
    d.take_map(|m| {
        Some(match m {
            "global" | "const" => Space::Global,
            "shared" | "shared::cta" | "shared::cluster" => Space::Shared,
            "local" => Space::Local,
            "param" | "param::entry" | "param::func" => Space::Generic,
            _ => return None,
        })
    })
    .unwrap_or(Space::Generic)
}

const SCOPES: &[(&str, ())] = &[("cta", ()), ("cluster", ()), ("gpu", ()), ("sys", ())];

/// Takes `.weak`, `.volatile`, `.relaxed.scope` or the given ordered form; whether it is strong.
fn semantics(d: &mut Decode<'_>, ordered: &str) -> Result<bool, Error> {
    if d.take("weak") {
        return Ok(false);
    }
    if d.take("volatile") {
        return Ok(true);
    }
    d.take("mmio");
    if d.take("relaxed") || d.take(ordered) {
        d.one_of(SCOPES)?;
        return Ok(true);
    }
    Ok(false)
}

/// Takes cache operators, eviction priorities and prefetch sizes: none changes a result. Returns whether
/// a cache policy follows the operands.
pub(super) fn cache_hints(d: &mut Decode<'_>, operators: &[&str]) -> bool {
    d.take_map(|m| operators.contains(&m).then_some(()));
    let mut policy = false;
    while let Some(hint) = d.take_map(|m| {
        let (level, hint) = m.split_once("::")?;
        let known = match level {
            "L1" | "L2" => [
                "evict_normal",
                "evict_unchanged",
                "evict_first",
                "evict_last",
                "no_allocate",
                "cache_hint",
                "64B",
                "128B",
                "256B",
            ]
            .contains(&hint),
            _ => false,
        };
        known.then(|| hint == "cache_hint")
    }) {
        policy |= hint;
    }
    policy
}

fn vector(d: &mut Decode<'_>) -> usize {
    let count = |m: &str| match m {
        "v2" => Some(2),
        "v4" => Some(4),
        "v8" => Some(8),
        _ => None,
    };
    d.take_map(count).unwrap_or(1)
}

/// The type of an element in memory.
fn element(d: &mut Decode<'_>, count: usize) -> Result<Type, Error> {
    let ty = d.ty()?;
    let bytes = ty.bytes() * count;
    if matches!(ty, Type::Pred | Type::B128 | Type::Tf32) || bytes > 32 {
        return Err(d.error("no such access"));
    }
    Ok(ty)
}

/// Says what the access means for the granularity of race detection.
fn note_shared(d: &mut Decode<'_>, space: Space, ty: Type) {
    if matches!(space, Space::Shared | Space::Generic) {
        d.shared_access(ty.bytes());
    }
}

fn ld(d: &mut Decode<'_>) -> Result<Action, Error> {
    let strong = semantics(d, "acquire")?;
    let is_param = d.rest().first().is_some_and(|m| m.starts_with("param"));
    let space = space(d);
    let operators = ["ca", "cg", "cs", "lu", "cv"];
    d.take_map(|m| operators.contains(&m).then_some(()));
    let nc = space == Space::Global && d.take("nc");
    let policy = cache_hints(d, if nc { &[] } else { &operators });
    let count = vector(d);
    let ty = element(d, count)?;
    if !is_param {
        note_shared(d, space, ty);
    }
    let to = d.operand()?;
    let targets = match &to {
        crate::ast::Operand::Vector(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    if targets.len() != count {
        return Err(d.error(format!("{count} registers expected")));
    }
    let mut regs = Vec::new();
    for target in targets {
        let reg = d.dst_of(target, ty.bits(), true)?;
        regs.push((reg, d.width(reg)));
    }
    let address = d.address()?;
    if policy {
        d.src(Type::B64)?;
    }
    if strong {
        return Ok(strong_ld(space, ty, regs, address));
    }
    // One copy of the loop per access size.
    Ok(match ty.bytes() * count {
        1 => load::<1>(space, ty, regs, address),
        2 => load::<2>(space, ty, regs, address),
        4 => load::<4>(space, ty, regs, address),
        8 => load::<8>(space, ty, regs, address),
        16 => load::<16>(space, ty, regs, address),
        _ => load::<32>(space, ty, regs, address),
    })
}

/// An element as the register holds it: zero- or sign-extended to the register's width.
#[inline(always)]
fn extend(bytes: &[u8], ty: Type, width: u32) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(word);
    if !ty.is_signed() || width == ty.bits() {
        return value;
    }
    let value = (value << (64 - ty.bits())) as i64 >> (64 - ty.bits());
    value as u64 & (u64::MAX >> (64 - width))
}

/// Counts a warp-wide access; generic ones by the space of their first lane.
fn count(m: &mut Machine<'_>, space: Space, addresses: &[u64; 32], bytes: usize) {
    let lanes = m.lanes;
    match space {
        Space::Shared => m.count_shared(addresses, lanes, bytes),
        Space::Global => m.count_global(addresses, lanes, bytes),
        Space::Generic => {
            let first = addresses[lanes.trailing_zeros() as usize % 32];
            match m.resolve(first).0 {
                Space::Shared => m.count_shared(addresses, lanes, bytes),
                Space::Global => m.count_global(addresses, lanes, bytes),
                _ => {}
            }
        }
        Space::Local | Space::Param => {}
    }
}

fn load<const N: usize>(space: Space, ty: Type, regs: Vec<(Reg, u32)>, address: Address) -> Action {
    let size = ty.bytes();
    let all = u64::MAX >> (64 - size);
    Box::new(move |m| {
        let addresses = address.checked(m);
        count(m, space, &addresses, N);
        for lane in lanes_of(m.lanes) {
            let mut bytes = [0; N];
            let poison = m.read(space, lane, addresses[lane], N, &mut bytes);
            for (index, (reg, width)) in regs.iter().enumerate() {
                let value = extend(&bytes[index * size..(index + 1) * size], ty, *width);
                let bad = poison >> (index * size) & all != 0;
                m.set_lane(*reg, lane, value, bad);
            }
        }
        Ok(Flow::Next)
    })
}

/// A volatile, relaxed or acquire load: ordered after what was released to the address.
fn strong_ld(space: Space, ty: Type, regs: Vec<(Reg, u32)>, address: Address) -> Action {
    let size = ty.bytes();
    let len = size * regs.len();
    Box::new(move |m| {
        let addresses = address.checked(m);
        count(m, space, &addresses, len);
        for lane in lanes_of(m.lanes) {
            let (space, at) = match space {
                Space::Generic => m.resolve(addresses[lane]),
                known => (known, addresses[lane]),
            };
            let mut bytes = [0; 32];
            let out = &mut bytes[..len];
            let poison = if space == Space::Shared {
                strong_acquire(m, at);
                m.read_shared(lane, at, len, out, Proxy::Strong)
            } else {
                m.read(space, lane, at, len, out)
            };
            for (index, (reg, width)) in regs.iter().enumerate() {
                let value = extend(&bytes[index * size..(index + 1) * size], ty, *width);
                let bad = poison >> (index * size) & (u64::MAX >> (64 - size)) != 0;
                m.set_lane(*reg, lane, value, bad);
            }
        }
        // Whoever spins on the value lets the others run.
        Ok(Flow::Yield)
    })
}

fn st(d: &mut Decode<'_>) -> Result<Action, Error> {
    let strong = semantics(d, "release")?;
    let is_param = d.rest().first().is_some_and(|m| m.starts_with("param"));
    let space = space(d);
    let policy = cache_hints(d, &["wb", "cg", "cs", "wt"]);
    let count = vector(d);
    let ty = element(d, count)?;
    if !is_param {
        note_shared(d, space, ty);
    }
    let address = d.address()?;
    let from = d.operand()?;
    let sources = match &from {
        crate::ast::Operand::Vector(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    if sources.len() != count {
        return Err(d.error(format!("{count} values expected")));
    }
    let mut regs = Vec::new();
    for source in sources {
        regs.push(d.src_of(source, ty, true)?);
    }
    if policy {
        d.src(Type::B64)?;
    }
    Ok(match ty.bytes() * count {
        1 => store::<1>(space, ty, regs, address, strong),
        2 => store::<2>(space, ty, regs, address, strong),
        4 => store::<4>(space, ty, regs, address, strong),
        8 => store::<8>(space, ty, regs, address, strong),
        16 => store::<16>(space, ty, regs, address, strong),
        _ => store::<32>(space, ty, regs, address, strong),
    })
}

fn store<const N: usize>(
    space: Space,
    ty: Type,
    regs: Vec<Reg>,
    address: Address,
    strong: bool,
) -> Action {
    let size = ty.bytes();
    let all = u64::MAX >> (64 - size);
    Box::new(move |m| {
        let addresses = address.checked(m);
        count(m, space, &addresses, N);
        for lane in lanes_of(m.lanes) {
            let mut bytes = [0; N];
            let mut poison = 0;
            for (index, reg) in regs.iter().enumerate() {
                let value = m.get(*reg)[lane].to_le_bytes();
                bytes[index * size..(index + 1) * size].copy_from_slice(&value[..size]);
                if m.poison(*reg) >> lane & 1 != 0 {
                    poison |= all << (index * size);
                }
            }
            let at = addresses[lane];
            let (target, at) =
                if strong && space == Space::Generic { m.resolve(at) } else { (space, at) };
            if strong && target == Space::Shared {
                strong_acquire(m, at);
                m.write_shared(lane, at, N, &bytes, poison, Proxy::Strong);
                strong_release(m, at);
            } else {
                m.write(target, lane, at, N, &bytes, poison);
            }
        }
        Ok(Flow::Next)
    })
}

fn prefetch(d: &mut Decode<'_>) -> Result<Action, Error> {
    space(d);
    d.one_of(&[
        ("L1", ()),
        ("L2", ()),
        ("L2::evict_last", ()),
        ("L2::evict_normal", ()),
        ("tensormap", ()),
    ])?;
    d.address()?;
    Ok(Box::new(|_| Ok(Flow::Next)))
}

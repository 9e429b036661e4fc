//! The mbarrier instructions except the waits (PTX ISA, "mbarrier.init", "mbarrier.inval",
//! "mbarrier.arrive", "mbarrier.expect_tx", "mbarrier.complete_tx", "mbarrier.pending_count").

use super::mbarrier::{Step, apply, fence_init, init, invalidate, locate};
use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::family::Opcode;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::value::Type;
use crate::warp::Reg;

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "mbarrier.init",
        family: "mbarrier",
        meaning: "makes an mbarrier of that many arrivals: {.shared}.b64",
        decode: decode_init,
    },
    Opcode {
        name: "mbarrier.inval",
        family: "mbarrier",
        meaning: "ends an mbarrier: {.shared}.b64",
        decode: decode_inval,
    },
    Opcode {
        name: "mbarrier.arrive",
        family: "mbarrier",
        meaning: "arrives: {.expect_tx}{.noComplete}{.release,.relaxed}{.cta,.cluster}{.shared::cta,.shared::cluster}.b64",
        decode: |d| decode_arrive(d, false),
    },
    Opcode {
        name: "mbarrier.arrive_drop",
        family: "mbarrier",
        meaning: "arrives and lowers the count of later phases, as mbarrier.arrive",
        decode: |d| decode_arrive(d, true),
    },
    Opcode {
        name: "mbarrier.expect_tx",
        family: "mbarrier",
        meaning: "lets the phase wait for that many bytes more",
        decode: |d| decode_tx(d, 1),
    },
    Opcode {
        name: "mbarrier.complete_tx",
        family: "mbarrier",
        meaning: "lets the phase wait for that many bytes less",
        decode: |d| decode_tx(d, -1),
    },
    Opcode {
        name: "mbarrier.pending_count",
        family: "mbarrier",
        meaning: "arrivals pending in a state that mbarrier.arrive returned: .b64",
        decode: decode_pending_count,
    },
    Opcode {
        name: "fence.mbarrier_init",
        family: "mbarrier",
        meaning: "makes initialised mbarriers known to the cluster and the async proxy: .release.cluster",
        decode: decode_fence,
    },
];

/// Takes `{.release,.acquire,.relaxed}{.cta,.cluster}`; returns whether it orders anything.
pub(super) fn decode_order(d: &mut Decode<'_>, ordering: &str) -> bool {
    let relaxed = d.take("relaxed");
    let _ = !relaxed && d.take(ordering);
    let _ = d.take("cta") || d.take("cluster");
    !relaxed
}

/// Takes `{.shared, .shared::cta, .shared::cluster}.b64`.
pub(super) fn decode_space(d: &mut Decode<'_>) -> Result<Space, Error> {
    let shared = d.take("shared") || d.take("shared::cta") || d.take("shared::cluster");
    d.expect("b64")?;
    Ok(if shared { Space::Shared } else { Space::Generic })
}

fn decode_init(d: &mut Decode<'_>) -> Result<Action, Error> {
    let space = decode_space(d)?;
    let (address, count) = (d.address()?, d.src(Type::U32)?);
    Ok(Box::new(move |m| {
        let addresses = address.checked(m);
        m.demand(m.poison(count) & m.lanes, "the count of an mbarrier");
        for lane in lanes_of(m.lanes) {
            init(m, lane, space, addresses[lane], m.get(count)[lane]);
        }
        Ok(Flow::Next)
    }))
}

fn decode_inval(d: &mut Decode<'_>) -> Result<Action, Error> {
    let space = decode_space(d)?;
    let address = d.address()?;
    Ok(Box::new(move |m| {
        let addresses = address.checked(m);
        for lane in lanes_of(m.lanes) {
            invalidate(m, lane, space, addresses[lane]);
        }
        Ok(Flow::Next)
    }))
}

/// Applies a step per active lane; writes the states to `dst` if there is one.
fn act(
    m: &mut Machine<'_>,
    address: Address,
    space: Space,
    operand: Option<Reg>,
    dst: Option<Reg>,
    step: impl Fn(u64) -> Step,
) {
    let addresses = address.checked(m);
    if let Some(reg) = operand {
        m.demand(m.poison(reg) & m.lanes, "an mbarrier's count");
    }
    let (mut states, mut releases) = ([0; 32], false);
    // Lanes that arrive together see the same state (so on an H200).
    let mut last = None;
    for lane in lanes_of(m.lanes) {
        let step = step(operand.map_or(1, |reg| m.get(reg)[lane]));
        releases |= step.release;
        if let Some(at) = locate(m, lane, space, addresses[lane]) {
            let state = apply(m, lane, at, step);
            let together =
                last.filter(|(place, first)| *place == at && *first >> 20 == state >> 20);
            states[lane] = together.map_or(state, |(_, first)| first);
            last = Some((at, states[lane]));
        }
    }
    if releases {
        m.warp.clock.tick(m.warp.index);
    }
    if let Some(dst) = dst {
        m.set(dst, &states, 0);
    }
}

fn decode_arrive(d: &mut Decode<'_>, drop: bool) -> Result<Action, Error> {
    let expects = d.take("expect_tx");
    // Without completing the phase: the program promises that, the counts show it.
    let _ = !expects && d.take("noComplete");
    let release = decode_order(d, "release");
    let space = decode_space(d)?;
    let dst = d.dst(64)?;
    let address = d.address()?;
    let operand = if expects || d.more() { Some(d.src(Type::U32)?) } else { None };
    Ok(Box::new(move |m| {
        act(m, address, space, operand, Some(dst), |value| {
            let (arrivals, expect) = if expects { (1, value as i64) } else { (value, 0) };
            Step { arrivals, expect, drop, release }
        });
        Ok(Flow::Next)
    }))
}

fn decode_tx(d: &mut Decode<'_>, sign: i64) -> Result<Action, Error> {
    decode_order(d, "relaxed");
    let space = decode_space(d)?;
    let (address, bytes) = (d.address()?, d.src(Type::U32)?);
    Ok(Box::new(move |m| {
        act(m, address, space, Some(bytes), None, |value| Step {
            expect: sign * value as i64,
            ..Step::default()
        });
        Ok(Flow::Next)
    }))
}

fn decode_pending_count(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("b64")?;
    let (dst, state) = (d.dst(32)?, d.src(Type::B64)?);
    Ok(crate::family::lanes::map(dst, state, |state: u64| (state & 0xf_ffff) as u32))
}

fn decode_fence(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("release")?;
    d.expect("cluster")?;
    Ok(Box::new(|m| {
        fence_init(m);
        Ok(Flow::Next)
    }))
}

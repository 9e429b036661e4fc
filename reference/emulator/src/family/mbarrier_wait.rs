//! `mbarrier.test_wait` and `mbarrier.try_wait` (PTX ISA of that name).
//!
//! Both let the path wait until the phase is complete instead of spinning: a program cannot tell that
//! from a loop around them. But now and then, as the seed decides, the first answer is "not yet". See [`Patience`](super::mbarrier::Patience) for programs that want "not
//! yet" as an answer.

use super::mbarrier::{acquire, deliver_if_complete, gives_up, locate, phase_of, waits_no_more};
use super::mbarrier_ops::{decode_order, decode_space};
use crate::decode::Decode;
use crate::error::Error;
use crate::family::Opcode;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::value::Type;
use crate::warp::Reg;

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "mbarrier.test_wait",
        family: "mbarrier",
        meaning: "whether a phase is complete, by state or {.parity}: {.acquire,.relaxed}{.cta,.cluster}{.shared}.b64",
        decode: |d| decode_wait(d, false),
    },
    Opcode {
        name: "mbarrier.try_wait",
        family: "mbarrier",
        meaning: "as mbarrier.test_wait; takes a time limit, which is not measured",
        decode: |d| decode_wait(d, true),
    },
];

fn decode_wait(d: &mut Decode<'_>, suspends: bool) -> Result<Action, Error> {
    let parity = d.take("parity");
    let acquires = decode_order(d, "acquire");
    let space = decode_space(d)?;
    let (dst, address) = (d.dst_pred()?, d.address()?);
    let phase = d.src(if parity { Type::U32 } else { Type::B64 })?;
    if suspends && d.more() {
        d.src(Type::U32)?;
    }
    let wait = Wait { parity, acquires, space, phase };
    Ok(Box::new(move |m| {
        let addresses = address.checked(m);
        m.demand(m.poison(phase) & m.lanes, "the phase of an mbarrier");
        let mut done = wait.look(m, &addresses, false);
        if done == 0 {
            if answers_not_yet(m, &addresses, phase) {
                m.set_pred(dst, 0, 0);
                return Ok(Flow::Yield);
            }
            done = wait.look(m, &addresses, true);
        }
        let waiter = (m.warp.index, m.pc, m.lanes);
        if done == 0 && !gives_up(m.unit, waiter) {
            return Ok(Flow::Wait { ticket: 0, on: "an mbarrier phase" });
        }
        waits_no_more(m.unit, waiter);
        m.warp.family.not_yet.remove(&(m.pc, m.lanes));
        m.set_pred(dst, done, 0);
        Ok(Flow::Next)
    }))
}

/// Whether to answer false at once: for every other wait, as the seed decides, and not twice in a row
/// for the same one. A program that does not look at the answer goes on too early then.
fn answers_not_yet(m: &mut Machine<'_>, addresses: &[u64; 32], phase: Reg) -> bool {
    let lane = m.lanes.trailing_zeros() as usize % 32;
    let (key, about) = ((m.pc, m.lanes), (addresses[lane], m.get(phase)[lane]));
    let draw = (m.context.seed ^ m.warp.executed << 32 ^ m.warp.index as u64)
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    if m.ticket.is_some() || draw >> 63 == 0 || m.warp.family.not_yet.get(&key) == Some(&about) {
        return false;
    }
    m.warp.family.not_yet.insert(key, about);
    true
}

/// A decoded wait.
#[derive(Clone, Copy)]
struct Wait {
    parity: bool,
    acquires: bool,
    space: Space,
    phase: Reg,
}

impl Wait {
    fn is_complete(self, current: u64, wanted: u64) -> bool {
        if self.parity { current & 1 != wanted & 1 } else { current > wanted >> 20 }
    }

    /// The lanes whose phase is complete, acquired if it is to be; `deliver` lets arrive what is on its
    /// way and completes a phase. A lane without an mbarrier (reported) does not wait.
    fn look(self, m: &mut Machine<'_>, addresses: &[u64; 32], deliver: bool) -> u32 {
        let mut done = 0u32;
        // Mostly all lanes wait for the same phase of the same mbarrier.
        let mut last = None;
        for lane in lanes_of(m.lanes) {
            let wanted = m.get(self.phase)[lane];
            let same = last.filter(|(place, _)| *place == (addresses[lane], wanted));
            let complete = if let Some((_, complete)) = same {
                complete
            } else if let Some(at) = locate(m, lane, self.space, addresses[lane]) {
                if deliver && !self.is_complete(phase_of(m.unit, at), wanted) {
                    deliver_if_complete(m.unit, at);
                }
                let complete = self.is_complete(phase_of(m.unit, at), wanted);
                if complete && self.acquires {
                    acquire(m, at);
                }
                complete
            } else {
                true
            };
            last = Some(((addresses[lane], wanted), complete));
            done |= u32::from(complete) << lane;
        }
        done
    }
}

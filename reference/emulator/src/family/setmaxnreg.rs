//! `setmaxnreg`: registers that warps give back to their block and take from it (PTX ISA,
//! "setmaxnreg").
//!
//! How many registers a kernel starts with is the decision of ptxas. Here a block starts with as many
//! per thread as fit into 65536, in steps of 8, at most 256, and nothing is left over: what one
//! warpgroup takes, another must have given back. Taking waits until it has.

use std::collections::BTreeMap;

use crate::decode::Decode;
use crate::error::Error;
use crate::family::Opcode;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow};

pub(super) const TABLE: &[Opcode] = &[Opcode {
    name: "setmaxnreg",
    family: "setmaxnreg",
    meaning: "changes the registers per thread of a warp: .{inc,dec}.sync.aligned.u32, 24 to 256 in steps of 8",
    decode: decode_setmaxnreg,
}];

/// Registers per thread of the warps of a block that have changed them.
#[derive(Default)]
pub(super) struct RegisterPool(BTreeMap<u32, u32>);

const REGISTERS: u32 = 65536;

fn decode_setmaxnreg(d: &mut Decode<'_>) -> Result<Action, Error> {
    let takes = d.one_of(&[("inc", true), ("dec", false)])?;
    d.expect("sync")?;
    d.expect("aligned")?;
    d.expect("u32")?;
    let count = d.immediate()?;
    if !(24..=256).contains(&count) || count % 8 != 0 {
        return Err(d.error("setmaxnreg takes 24 to 256 registers, a multiple of 8"));
    }
    let count = count as u32;
    Ok(Box::new(move |m| {
        m.require_whole_warp("setmaxnreg");
        let warps = m.context.block.iter().product::<u32>().div_ceil(32);
        let at_start = (REGISTERS / (warps * 32) / 8 * 8).min(256);
        let (block, warp) = (m.warp.block, m.warp.in_block);
        let pool = &mut m.unit.blocks[block].family.registers.0;
        let mine = pool.get(&warp).copied().unwrap_or(at_start);
        let taken: u32 = pool.values().sum::<u32>() + (warps - pool.len() as u32) * at_start;
        if takes && taken - mine + count > warps * at_start {
            return Ok(Flow::Wait { ticket: 0, on: "registers (setmaxnreg.inc)" });
        }
        pool.insert(warp, count);
        if !takes && count > mine {
            m.report(FindingKind::Illegal, None, || {
                format!("setmaxnreg.dec to {count} registers, the warp has {mine}")
            });
        }
        m.unit.changed();
        Ok(Flow::Next)
    }))
}

//! `mma.sync` m16n8k8 and m16n8k16 with f16 and bf16 operands (PTX ISA, "Matrix multiply-accumulate
//! operation using mma instruction").

use crate::decode::Decode;
use crate::error::Error;
use crate::family::Opcode;
use crate::family::fragment::{
    Accumulator, Half, TileC, contents, gather_a, gather_b, gather_c, multiply, poisoned_c,
    scatter_c,
};
use crate::machine::{Action, Flow, Machine};
use crate::value::Type;
use crate::warp::Reg;

pub(super) const TABLE: &[Opcode] = &[Opcode {
    name: "mma",
    family: "mma",
    meaning: "dense product of a warp: .sync.aligned.{m16n8k8,m16n8k16}.row.col, f16 or bf16 operands, f16 or f32 sums",
    decode: decode_mma,
}];

/// Operand and accumulator types, from the modifiers `.dtype.atype.btype.ctype`.
pub(super) fn decode_types(d: &mut Decode<'_>) -> Result<(Half, Accumulator), Error> {
    const SUM: &[(&str, Accumulator)] = &[("f16", Accumulator::F16), ("f32", Accumulator::F32)];
    const OPERAND: &[(&str, Half)] = &[("f16", Half::F16), ("bf16", Half::Bf16)];
    let (sum, half, b, c) =
        (d.one_of(SUM)?, d.one_of(OPERAND)?, d.one_of(OPERAND)?, d.one_of(SUM)?);
    if b != half || c != sum || (half == Half::Bf16 && sum == Accumulator::F16) {
        return Err(d.error("this combination of types is not supported"));
    }
    Ok((half, sum))
}

/// A vector operand of exactly `count` 32-bit values.
pub(super) fn sources(d: &mut Decode<'_>, count: usize, what: &str) -> Result<Vec<Reg>, Error> {
    let regs = d.src_vector(Type::B32)?;
    if regs.len() == count {
        Ok(regs)
    } else {
        Err(d.error(format!("{count} registers expected for {what}, not {}", regs.len())))
    }
}

/// The vector operand that is written, of exactly `count` 32-bit registers.
pub(super) fn targets(d: &mut Decode<'_>, count: usize) -> Result<Vec<Reg>, Error> {
    let regs = d.dst_vector(32)?;
    if regs.len() == count {
        Ok(regs)
    } else {
        Err(d.error(format!("{count} registers expected for D, not {}", regs.len())))
    }
}

fn decode_mma(d: &mut Decode<'_>) -> Result<Action, Error> {
    d.expect("sync")?;
    d.expect("aligned")?;
    let k = d.one_of(&[("m16n8k8", 8), ("m16n8k16", 16)])?;
    d.expect("row")?;
    d.expect("col")?;
    let (half, sum) = decode_types(d)?;
    let dst = targets(d, sum.registers(4))?;
    let a = sources(d, k / 4, "A")?;
    let b = sources(d, k / 8, "B")?;
    let c = sources(d, sum.registers(4), "C")?;
    Ok(Box::new(move |m| {
        m.require_whole_warp("mma.sync");
        let tile_a = gather_a(half, contents(m, &a));
        let tile_b = gather_b(half, contents(m, &b));
        let mut sums = gather_c(sum, c.iter().map(|reg| m.get(*reg)));
        if k == 8 {
            multiply::<8>(&mut sums, &tile_a.values, &tile_b.values);
        } else {
            multiply::<16>(&mut sums, &tile_a.values, &tile_b.values);
        }
        store(m, sum, &sums, &dst, &c, tile_a.poison, tile_b.poison);
        m.unit.tally.totals.mma += 1;
        Ok(Flow::Next)
    }))
}

/// Writes a 16x8 accumulator; `rows` and `columns` are those of A and B that hold poison.
pub(super) fn store(
    m: &mut Machine<'_>,
    sum: Accumulator,
    sums: &TileC,
    dst: &[Reg],
    c: &[Reg],
    rows: u32,
    columns: u32,
) {
    // D may overlap C in any order: all poison is read first.
    let mut old = [0; 4];
    for (old, reg) in old.iter_mut().zip(c) {
        *old = m.poison(*reg);
    }
    for (i, reg) in dst.iter().enumerate() {
        let poison = old[i & 3] | poisoned_c(sum, i, rows, columns);
        m.set(*reg, &scatter_c(sum, sums, i), poison);
    }
}

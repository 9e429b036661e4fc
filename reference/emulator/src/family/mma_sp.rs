//! `mma.sp` and `mma.sp::ordered_metadata` m16n8k16 and m16n8k32 with f16 and bf16 operands (PTX ISA,
//! "Matrix multiply-accumulate operation using mma.sp instruction with sparse matrix A").
//!
//! A is 2:4 sparse: of each four columns two are kept. A nibble of metadata holds the positions of the
//! two, the first in its low bits. Lane `4g + j` supplies the nibbles of row g in the low and of row
//! g + 8 in the high half of its word, for the 16 columns from 16j on; the selector names the lane of
//! each four (m16n8k16), or the pair of lanes (m16n8k32), that supply them.

use crate::decode::Decode;
use crate::error::Error;
use crate::family::Opcode;
use crate::family::fragment::{TileC, contents, gather_a, gather_b, gather_c};
use crate::family::mma::{decode_types, sources, store, targets};
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine};
use crate::value::Type;
use crate::warp::Reg;

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "mma.sp",
        family: "mma.sp",
        meaning: "2:4 sparse product of a warp: .sync.aligned.{m16n8k16,m16n8k32}.row.col, f16 or bf16 operands, f16 or f32 sums",
        decode: |d| decode_mma_sp(d, false),
    },
    Opcode {
        name: "mma.sp::ordered_metadata",
        family: "mma.sp",
        meaning: "as mma.sp; the two positions of each nibble must be in order",
        decode: |d| decode_mma_sp(d, true),
    },
];

/// Kept positions of the groups of four of 16 rows: `[row][group]`.
pub(super) struct Positions {
    /// The two positions in the group.
    pub kept: [[[u8; 2]; 8]; 16],
    /// Rows whose metadata is poison.
    pub poison: u32,
}

/// Reads the metadata of `groups` groups (4 or 8) per row; an illegal nibble is a finding.
pub(super) fn positions(
    m: &mut Machine<'_>,
    metadata: &[u64; 32],
    poison: u32,
    selector: usize,
    groups: usize,
    ordered: bool,
) -> Positions {
    let mut out = Positions { kept: [[[0; 2]; 8]; 16], poison: 0 };
    // Lanes of each four that supply words, 4 groups each.
    let suppliers = groups / 4;
    for row in 0..16 {
        for group in 0..groups {
            let lane = 4 * (row % 8) + (selector * suppliers + group / 4) % 4;
            let nibble = (metadata[lane] >> (16 * (row / 8) + 4 * (group % 4))) as u8 & 0xf;
            let (first, second) = (nibble & 3, nibble >> 2);
            out.kept[row][group] = [first, second];
            if poison >> lane & 1 != 0 {
                out.poison |= 1 << row;
            } else if first == second || (ordered && first > second) {
                illegal(m, lane, row, group, nibble);
            }
        }
    }
    out
}

#[cold]
fn illegal(m: &mut Machine<'_>, lane: usize, row: usize, group: usize, nibble: u8) {
    m.report(FindingKind::Illegal, Some(lane as u32), || {
        format!(
            "illegal metadata nibble {nibble:#x} of lane {lane}, group {group} of row {row} \
             (columns {} to {})",
            4 * group,
            4 * group + 3
        )
    });
}

/// `c += a . b`, `a` compressed: its columns 2g and 2g+1 are the kept ones of group g.
#[inline(always)]
fn multiply(
    c: &mut TileC,
    a: &[[f64; 16]; 16],
    kept: &[[[u8; 2]; 8]; 16],
    b: &[[f64; 8]; 32],
    groups: usize,
) {
    for ((row, kept), sums) in a.iter().zip(kept).zip(c) {
        for (group, positions) in kept.iter().enumerate().take(groups) {
            for (h, position) in positions.iter().enumerate() {
                let k = (4 * group + usize::from(*position)) & 31;
                let a = row[2 * group + h];
                for (sum, b) in sums.iter_mut().zip(&b[k]) {
                    *sum += a * b;
                }
            }
        }
    }
}

/// The immediate selector, below `limit`.
pub(super) fn decode_selector(d: &mut Decode<'_>, limit: u64) -> Result<usize, Error> {
    let selector = d.immediate()?;
    if selector < limit {
        Ok(selector as usize)
    } else {
        Err(d.error(format!("the sparsity selector must be below {limit}")))
    }
}

fn decode_mma_sp(d: &mut Decode<'_>, ordered: bool) -> Result<Action, Error> {
    d.expect("sync")?;
    d.expect("aligned")?;
    let k = d.one_of(&[("m16n8k16", 16), ("m16n8k32", 32)])?;
    d.expect("row")?;
    d.expect("col")?;
    let (half, sum) = decode_types(d)?;
    let dst = targets(d, sum.registers(4))?;
    let a = sources(d, k / 8, "A")?;
    let b = sources(d, k / 8, "B")?;
    let c = sources(d, sum.registers(4), "C")?;
    let metadata: Reg = d.src(Type::B32)?;
    let selector = decode_selector(d, 64 / k as u64)?;
    let groups = k / 4;
    Ok(Box::new(move |m| {
        m.require_whole_warp("mma.sp");
        let words = *m.get(metadata);
        let poison = m.poison(metadata);
        let positions = positions(m, &words, poison, selector, groups, ordered);
        let tile_a = gather_a(half, contents(m, &a));
        let tile_b = gather_b(half, contents(m, &b));
        let mut sums = gather_c(sum, c.iter().map(|reg| m.get(*reg)));
        multiply(&mut sums, &tile_a.values, &positions.kept, &tile_b.values, groups);
        let rows = tile_a.poison | positions.poison;
        store(m, sum, &sums, &dst, &c, rows, tile_b.poison);
        m.unit.tally.totals.mma += 1;
        Ok(Flow::Next)
    }))
}

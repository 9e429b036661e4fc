//! Carrying out a product of a warpgroup on a warp's 16 rows.

use super::fragment::{Accumulator, Half, contents, gather_a, round_f16, round_f32};
use super::mma_sp::{Positions, positions};
use super::wgmma::{Product, SourceA};
use super::wgmma_flight::Issued;
use super::wgmma_tiles::{Bits, Tiles};
use crate::finding::FindingKind;
use crate::machine::Machine;

/// Carries out a product on the warp's 16 rows, now.
pub(super) fn complete(m: &mut Machine<'_>, mut issued: Issued, tiles: &Tiles) {
    let product = issued.product.clone();
    check_inputs(m, &mut issued);
    let first = 16 * (m.warp.in_block as usize % 4);
    let (mut a, mut rows) = match product.a {
        SourceA::Registers(regs) => {
            let tile = gather_a(product.half, contents(m, &regs));
            (tile.values, tile.poison)
        }
        SourceA::Descriptor(_) => {
            let mut values = [[0.0; 16]; 16];
            for (row, stored) in values.iter_mut().zip(tiles.a.chunks_exact(16).skip(first)) {
                row.copy_from_slice(stored);
            }
            (values, ((tiles.a_poison[0] | issued.glance.a_poison[0]) >> first) as u32 & 0xffff)
        }
    };
    let scale = product.scale_a * product.scale_b;
    if scale != 1.0 {
        a.iter_mut().flatten().for_each(|value| *value *= scale);
    }
    if let Some(positions) = &issued.positions {
        rows |= positions.poison;
    }
    let columns: Bits = std::array::from_fn(|i| tiles.b_poison[i] | issued.glance.b_poison[i]);
    let mut sums = read_sums(m, &product, issued.reads_d);
    multiply(&mut sums.values, &a, &tiles.b, product.n, issued.positions.as_ref());
    write_sums(m, &product, &sums, rows, &columns);
}

/// Reports A and metadata registers that have changed since the issue; takes metadata as it is now.
fn check_inputs(m: &mut Machine<'_>, issued: &mut Issued) {
    let metadata = issued.product.sparse;
    for (reg, values) in &issued.inputs {
        let now = m.get(*reg);
        if now == values {
            continue;
        }
        let lane = (0..32).find(|lane| now[*lane] != values[*lane]);
        let is_metadata = metadata.is_some_and(|(metadata, _)| metadata == *reg);
        let what = if is_metadata { "metadata" } else { "A" };
        m.report(FindingKind::InFlight, lane.map(|lane| lane as u32), || {
            format!("the {what} register of a wgmma was changed before its wgmma.wait_group")
        });
        if let Some((metadata, selector)) = metadata.filter(|_| is_metadata) {
            let words = *m.get(metadata);
            issued.positions = Some(positions(m, &words, m.poison(metadata), selector, 8, true));
        }
    }
}

/// 16 rows of accumulators, and per register the lanes that are poison.
struct Sums {
    values: Vec<f64>,
    poison: Vec<u32>,
}

/// Row and first column of an accumulator register.
#[inline(always)]
fn place(sum: Accumulator, lane: usize, i: usize) -> (usize, usize) {
    match sum {
        Accumulator::F32 => (lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2),
        Accumulator::F16 => (lane / 4 + 8 * (i % 2), 8 * (i / 2) + 2 * (lane % 4)),
    }
}

/// Takes the accumulators as they are now; one that was written in flight is a finding.
fn read_sums(m: &mut Machine<'_>, product: &Product, reads: bool) -> Sums {
    let mut sums = Sums { values: vec![0.0; 16 * product.n], poison: Vec::new() };
    for (i, reg) in product.d.iter().enumerate() {
        let at = reg.0 as usize;
        let now = m.warp.poison[at];
        let Some(busy) = m.warp.family.wgmma.busy.get_mut(reg) else { continue };
        let changed = now != u32::MAX || busy.values != m.warp.regs[at];
        if changed {
            busy.values = m.warp.regs[at];
            busy.poison = now;
            m.report(FindingKind::InFlight, None, || {
                "an accumulator of a wgmma was changed before its wgmma.wait_group".into()
            });
        }
        let Some(busy) = m.warp.family.wgmma.busy.get(reg) else { continue };
        sums.poison.push(if reads { busy.poison } else { 0 });
        if !reads {
            continue;
        }
        for (lane, bits) in busy.values.iter().enumerate() {
            let (row, column) = place(product.sum, lane, i);
            let at = row * product.n + column;
            match product.sum {
                Accumulator::F32 => sums.values[at] = f32::from_bits(*bits as u32).into(),
                Accumulator::F16 => {
                    sums.values[at..at + 2].copy_from_slice(&Half::F16.pair(*bits));
                }
            }
        }
    }
    sums
}

/// `sums += a . b`; with positions, columns 2g and 2g+1 of `a` are the kept ones of group g.
fn multiply(
    sums: &mut [f64],
    a: &[[f64; 16]; 16],
    b: &[f64],
    n: usize,
    positions: Option<&Positions>,
) {
    for (row, (a, sums)) in a.iter().zip(sums.chunks_exact_mut(n)).enumerate() {
        for (column, a) in a.iter().enumerate() {
            let k = match positions {
                None => column,
                Some(positions) => {
                    let kept = positions.kept[row][column / 2][column % 2];
                    4 * (column / 2) + usize::from(kept)
                }
            };
            let Some(b) = b.get(k * n..(k + 1) * n) else { continue };
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
}

/// Puts the rounded sums into the accumulators; those that no other product will write are free again.
fn write_sums(m: &mut Machine<'_>, product: &Product, sums: &Sums, rows: u32, columns: &Bits) {
    let bad = |column: usize| columns[(column / 64) & 3] >> (column % 64) & 1 != 0;
    let any = rows != 0 || columns.iter().any(|bits| *bits != 0);
    for (i, reg) in product.d.iter().enumerate() {
        let mut poison = sums.poison.get(i).copied().unwrap_or(u32::MAX);
        let values: [u64; 32] = std::array::from_fn(|lane| {
            let (row, column) = place(product.sum, lane, i);
            let at = row * product.n + column;
            let hit = any
                && (rows >> row & 1 != 0
                    || bad(column)
                    || (product.sum == Accumulator::F16 && bad(column + 1)));
            poison |= u32::from(hit) << lane;
            match product.sum {
                Accumulator::F32 => round_f32(sums.values[at]).into(),
                Accumulator::F16 => {
                    u64::from(round_f16(sums.values[at]))
                        | u64::from(round_f16(sums.values[at + 1])) << 16
                }
            }
        });
        let at = reg.0 as usize;
        m.warp.regs[at] = values;
        let flight = &mut m.warp.family.wgmma;
        if let Some((fenced, fenced_poison)) = &mut flight.fence {
            fenced[at] = values;
            fenced_poison[at] = poison;
        }
        if let Some(busy) = flight.busy.get_mut(reg) {
            busy.values = values;
            busy.poison = poison;
            busy.uses -= 1;
            if busy.uses == 0 {
                flight.busy.remove(reg);
                m.warp.poison[at] = poison;
            } else {
                m.warp.poison[at] = u32::MAX;
            }
        }
    }
}

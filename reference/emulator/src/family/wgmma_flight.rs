//! Products of warpgroups in flight.
//!
//! A product is carried out at the `wgmma.wait_group` that guarantees it, with the registers and the
//! shared memory of that moment: as late as the rules allow. Until then its accumulators are poison.
//! Registers that have changed since the issue are findings; so are accumulators or A registers that
//! were written after the last `wgmma.fence`.
//!
//! Each warp computes its 16 rows. The four warps of a warpgroup meet at the wait: it lets a warp pass
//! when all four have committed the group, the first one reads A and B from shared memory for all of
//! them, and each is then ordered after what all four had done. (One warp's wait therefore is enough to
//! hand a stage back to its producer, as on hardware.)

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::descriptor::Descriptor;
use super::fragment::Accumulator;
use super::mma_sp::{Positions, positions};
use super::wgmma::{Product, SourceA};
use super::wgmma_complete::complete;
use super::wgmma_tiles::{Glance, Tiles, fetch_tiles, glance};
use crate::clock::Clock;
use crate::error::Stop;
use crate::finding::FindingKind;
use crate::machine::{Flow, Machine};
use crate::warp::Reg;

/// What a warp has in flight.
#[derive(Default)]
pub(super) struct Flight {
    /// Registers and their poison at the last `wgmma.fence`.
    pub(super) fence: Option<(Vec<[u64; 32]>, Vec<u32>)>,
    /// Issued, not committed.
    open: Vec<Issued>,
    /// Committed, not waited for, oldest first.
    groups: VecDeque<Vec<Issued>>,
    /// Number of groups committed so far.
    committed: u64,
    /// Accumulators in flight.
    pub(super) busy: HashMap<Reg, Busy>,
}

/// An accumulator register in flight.
pub(super) struct Busy {
    /// Products that will write it.
    pub(super) uses: u32,
    /// What it holds, and its own poison (the register itself is all poison).
    pub(super) values: [u64; 32],
    pub(super) poison: u32,
    /// Shape of the products.
    shape: (usize, Accumulator),
}

/// A product as a warp issued it.
pub(super) struct Issued {
    pc: u32,
    pub(super) product: Arc<Product>,
    /// Descriptors of A (0 if in registers) and B.
    descriptors: (u64, u64),
    pub(super) reads_d: bool,
    /// A and metadata registers at issue.
    pub(super) inputs: Vec<(Reg, [u64; 32])>,
    pub(super) positions: Option<Positions>,
    /// A and B in shared memory as they were at issue.
    pub(super) glance: Glance,
}

/// The four warps of a warpgroup.
#[derive(Default)]
pub(super) struct Warpgroup {
    /// Groups each warp has committed.
    committed: [u64; 4],
    /// Number of the first of `groups`.
    first: u64,
    groups: VecDeque<Group>,
}

/// A group of products, as the warpgroup sees it.
#[derive(Default)]
struct Group {
    /// Instruction and descriptors of each product, as the first warp committed them.
    products: Vec<(u32, u64, u64)>,
    /// A and B of each product, once a warp has waited.
    tiles: Option<Vec<Arc<Tiles>>>,
    /// What the warps had done when they committed, and the reads of A and B.
    clock: Clock,
    /// Warps that have waited.
    done: u32,
}

/// `wgmma.fence`.
pub(super) fn fence(m: &mut Machine<'_>) {
    m.require_whole_warp("wgmma.fence");
    let warp = &mut *m.warp;
    let (values, poison) = warp.family.wgmma.fence.get_or_insert_default();
    values.clone_from(&warp.regs);
    poison.clone_from(&warp.poison);
}

/// Number of warps of this warp's warpgroup.
fn warps(m: &Machine<'_>) -> u32 {
    let warps = m.context.block.iter().product::<u32>().div_ceil(32);
    (warps - m.warp.in_block / 4 * 4).min(4)
}

fn warpgroup<'m>(m: &'m mut Machine<'_>) -> &'m mut Warpgroup {
    let index = (m.warp.in_block / 4) as usize;
    let groups = &mut m.unit.blocks[m.warp.block].family.warpgroups;
    if groups.len() <= index {
        groups.resize_with(index + 1, Warpgroup::default);
    }
    &mut groups[index]
}

/// `wgmma.mma_async`.
pub(super) fn issue(m: &mut Machine<'_>, product: &Arc<Product>) -> Result<(), Stop> {
    m.require_whole_warp("wgmma.mma_async");
    if warps(m) < 4 {
        return Err(m.unsupported("wgmma needs all four warps of a warpgroup"));
    }
    let a = match product.a {
        SourceA::Descriptor(reg) => m.uniform(reg, "the descriptor of A"),
        SourceA::Registers(_) => 0,
    };
    let b = m.uniform(product.b, "the descriptor of B");
    if let Some(bits) = [a, b].into_iter().map(Descriptor::reserved).find(|bits| *bits != 0) {
        m.report(FindingKind::Illegal, None, || {
            format!("a matrix descriptor with reserved bits {bits:#x}")
        });
    }
    let (pred, negated) = product.scale_d;
    m.demand(m.pred_poison(pred) & m.lanes, "scale-d");
    let scale_d = m.pred(pred) & m.lanes;
    if scale_d != 0 && scale_d != m.lanes {
        m.report(FindingKind::Illegal, None, || "scale-d differs between lanes".into());
    }
    let glance = glance(m, product, (a, b));
    let mut inputs: Vec<Reg> = match product.a {
        SourceA::Registers(regs) => regs.to_vec(),
        SourceA::Descriptor(_) => Vec::new(),
    };
    check_fence(m, &inputs, product);
    let positions = product.sparse.map(|(metadata, selector)| {
        let words = *m.get(metadata);
        positions(m, &words, m.poison(metadata), selector, 8, true)
    });
    inputs.extend(product.sparse.map(|(metadata, _)| metadata));
    let issued = Issued {
        pc: m.pc,
        product: product.clone(),
        descriptors: (a, b),
        reads_d: (scale_d != 0) != negated,
        inputs: inputs.into_iter().map(|reg| (reg, *m.get(reg))).collect(),
        positions,
        glance,
    };
    let warp = &mut *m.warp;
    for reg in &product.d {
        let at = reg.0 as usize;
        let busy = warp.family.wgmma.busy.entry(*reg).or_insert_with(|| Busy {
            uses: 0,
            values: warp.regs[at],
            poison: warp.poison[at],
            shape: (product.n, product.sum),
        });
        busy.uses += 1;
        warp.poison[at] = u32::MAX;
    }
    warp.family.wgmma.open.push(issued);
    m.unit.tally.totals.mma += u64::from(m.warp.in_block.is_multiple_of(4));
    Ok(())
}

/// Checks that no register of the product was written after the last `wgmma.fence`, except accumulators
/// that products of the same shape have in flight.
fn check_fence(m: &mut Machine<'_>, inputs: &[Reg], product: &Product) {
    let flight = &m.warp.family.wgmma;
    let shape = (product.n, product.sum);
    let (mut written, mut other_shape) = (false, false);
    for reg in inputs.iter().chain(&product.d) {
        match flight.busy.get(reg) {
            Some(busy) => other_shape |= busy.shape != shape,
            None => {
                let at = reg.0 as usize;
                written |= flight.fence.as_ref().is_none_or(|(values, poison)| {
                    values[at] != m.warp.regs[at] || poison[at] != m.warp.poison[at]
                });
            }
        }
    }
    if written {
        m.report(FindingKind::Proxy, None, || {
            "an accumulator or A register was written after the last wgmma.fence".into()
        });
    }
    if other_shape {
        m.report(FindingKind::InFlight, None, || {
            "a register of this product is in flight as an accumulator of another shape".into()
        });
    }
}

/// `wgmma.commit_group`.
pub(super) fn commit(m: &mut Machine<'_>) {
    m.require_whole_warp("wgmma.commit_group");
    let issued = std::mem::take(&mut m.warp.family.wgmma.open);
    let products: Vec<_> =
        issued.iter().map(|i| (i.pc, i.descriptors.0, i.descriptors.1)).collect();
    let index = m.warp.family.wgmma.committed;
    m.warp.family.wgmma.committed += 1;
    m.warp.family.wgmma.groups.push_back(issued);
    let snapshot = m.release_snapshot();
    let in_group = (m.warp.in_block % 4) as usize;
    let warpgroup = warpgroup(m);
    warpgroup.committed[in_group] += 1;
    let at = index.saturating_sub(warpgroup.first) as usize;
    let is_first = warpgroup.groups.len() <= at;
    if is_first {
        warpgroup.groups.resize_with(at + 1, Group::default);
        warpgroup.groups[at].products.clone_from(&products);
    }
    let group = &mut warpgroup.groups[at];
    group.clock.join(&snapshot);
    if group.products != products {
        m.report(FindingKind::Divergence, None, || {
            "the warps of a warpgroup commit different products or descriptors".into()
        });
    }
    m.unit.changed();
}

/// `wgmma.wait_group`.
pub(super) fn wait(m: &mut Machine<'_>, newest: u64) -> Result<Flow, Stop> {
    m.require_whole_warp("wgmma.wait_group");
    while m.warp.family.wgmma.groups.len() as u64 > newest {
        let flight = &m.warp.family.wgmma;
        let index = flight.committed - flight.groups.len() as u64;
        let warpgroup = warpgroup(m);
        if warpgroup.committed.iter().any(|committed| *committed <= index) {
            return Ok(Flow::Wait { ticket: 0, on: "the other warps of its warpgroup (wgmma)" });
        }
        let at = index.saturating_sub(warpgroup.first) as usize;
        let Some(issued) = m.warp.family.wgmma.groups.pop_front() else { break };
        let pc = m.pc;
        let tiles = tiles_of(m, at, &issued);
        for (issued, tiles) in issued.into_iter().zip(&tiles) {
            // What goes wrong is the product's doing, not the wait's.
            m.pc = issued.pc;
            complete(m, issued, tiles);
        }
        m.pc = pc;
        let warpgroup = self::warpgroup(m);
        if let Some(group) = warpgroup.groups.get_mut(at) {
            group.done += 1;
            let clock = std::mem::take(&mut group.clock);
            m.acquire(&clock);
            let warpgroup = self::warpgroup(m);
            warpgroup.groups[at].clock = clock;
            while warpgroup.groups.front().is_some_and(|group| group.done == 4) {
                warpgroup.groups.pop_front();
                warpgroup.first += 1;
            }
        }
    }
    Ok(Flow::Next)
}

/// Operands of a group; the first warp to ask reads them.
fn tiles_of(m: &mut Machine<'_>, at: usize, issued: &[Issued]) -> Vec<Arc<Tiles>> {
    let known = warpgroup(m).groups.get(at).and_then(|group| group.tiles.clone());
    if let Some(tiles) = known {
        return tiles;
    }
    let pc = m.pc;
    let tiles: Vec<_> = issued
        .iter()
        .map(|issued| {
            m.pc = issued.pc;
            Arc::new(fetch_tiles(m, &issued.product, issued.descriptors, &issued.glance))
        })
        .collect();
    m.pc = pc;
    let snapshot = m.release_snapshot();
    if let Some(group) = warpgroup(m).groups.get_mut(at) {
        group.tiles = Some(tiles.clone());
        group.clock.join(&snapshot);
    }
    tiles
}

/// A warp that exits with products in flight.
pub(super) fn on_exit(m: &mut Machine<'_>) {
    let flight = &m.warp.family.wgmma;
    if !flight.open.is_empty() || !flight.groups.is_empty() {
        m.report(FindingKind::InFlight, None, || {
            "exits with wgmma in flight, without wgmma.wait_group".into()
        });
    }
}

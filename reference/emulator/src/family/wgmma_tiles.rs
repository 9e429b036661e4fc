//! Operands of `wgmma` in shared memory: checked when a product is issued, read when it is carried out.

use super::descriptor::Descriptor;
use super::fragment::Half;
use super::wgmma::{Product, SourceA};
use crate::finding::FindingKind;
use crate::machine::Machine;
use crate::shared::{Accessor, NO_LANE, Proxy};

/// A bit per row of A or column of B.
pub(super) type Bits = [u64; 4];

/// Operands read from shared memory.
pub(super) struct Tiles {
    /// 64 rows of 16, empty if A is in registers; rows that are poison.
    pub(super) a: Vec<f64>,
    pub(super) a_poison: Bits,
    /// k rows of n; columns that are poison.
    pub(super) b: Vec<f64>,
    pub(super) b_poison: Bits,
}

/// What a warp saw of A and B when it issued a product.
#[derive(Default)]
pub(super) struct Glance {
    /// Rows of A, columns of B that were poison.
    pub(super) a_poison: Bits,
    pub(super) b_poison: Bits,
    /// A sum over the bytes of both.
    sum: u64,
}

/// Adds 16 bytes to a sum that depends on their order.
fn add(sum: u64, bytes: [u8; 16]) -> u64 {
    let halves = u128::from_le_bytes(bytes);
    let step =
        |sum: u64, half: u64| (sum ^ half).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    step(step(sum, halves as u64), (halves >> 64) as u64)
}

/// An operand in shared memory.
struct Tile {
    descriptor: Descriptor,
    trans: bool,
    /// Rows of A or columns of B.
    extent: usize,
    k: usize,
}

impl Tile {
    fn a(product: &Product, descriptor: u64) -> Self {
        let (descriptor, trans) = (Descriptor::new(descriptor), product.trans_a);
        Self { descriptor, trans, extent: 64, k: Product::STORED_K }
    }

    fn b(product: &Product, descriptor: u64) -> Self {
        let (descriptor, trans) = (Descriptor::new(descriptor), product.trans_b);
        Self { descriptor, trans, extent: product.n, k: product.k() }
    }

    /// Calls `f` with row (or column), k and address of the first element of every chunk.
    fn chunks(&self, mut f: impl FnMut(usize, usize, u64)) {
        if self.trans {
            for k in 0..self.k {
                for chunk in 0..self.extent / 8 {
                    f(8 * chunk, k, self.descriptor.mn_major(chunk, k) as u64);
                }
            }
        } else {
            for mn in 0..self.extent {
                for chunk in 0..self.k / 8 {
                    f(mn, 8 * chunk, self.descriptor.k_major(mn, chunk) as u64);
                }
            }
        }
    }

    /// Marks the rows (or columns) of the poisoned elements of a chunk: two bits of `bytes` each.
    fn mark(&self, mn: usize, bytes: u64, poison: &mut Bits) {
        for element in (0..8).filter(|element| bytes >> (2 * element) & 3 != 0) {
            let mn = if self.trans { mn + element } else { mn };
            poison[(mn / 64) & 3] |= 1 << (mn % 64);
        }
    }
}

/// Checks and records that the async proxy may read a tile from now on.
fn note(m: &mut Machine<'_>, tile: Tile, poison: &mut Bits, sum: &mut u64) {
    tile.chunks(|mn, _, address| {
        let Some((block, at)) = m.shared_range(0, address, 16, 16) else { return };
        let who = Accessor {
            warp: m.warp.index,
            clock: &m.warp.clock,
            proxy: Proxy::Async,
            lane: NO_LANE,
        };
        let mut bytes = [0; 16];
        let shared = &mut m.unit.blocks[block].shared;
        let (bad, conflict) = shared.read(at, &mut bytes, who);
        *sum = add(*sum, bytes);
        if bad != 0 {
            tile.mark(mn, bad, poison);
        }
        if let Some(conflict) = conflict {
            m.conflict(conflict, 0, address, "wgmma's read");
        }
    });
}

/// Checks the operands of a product that is issued now.
pub(super) fn glance(m: &mut Machine<'_>, product: &Product, (a, b): (u64, u64)) -> Glance {
    let mut glance = Glance::default();
    if let SourceA::Descriptor(_) = product.a {
        note(m, Tile::a(product, a), &mut glance.a_poison, &mut glance.sum);
    }
    note(m, Tile::b(product, b), &mut glance.b_poison, &mut glance.sum);
    glance
}

/// Reads a tile: `store(mn, k, value)` for every element.
fn fetch(
    m: &mut Machine<'_>,
    tile: Tile,
    half: Half,
    sum: &mut u64,
    mut store: impl FnMut(usize, usize, f64),
) -> Bits {
    let mut poison = Bits::default();
    tile.chunks(|mn, k, address| {
        let mut bytes = [0; 16];
        let bad = m.read_shared(0, address, 16, &mut bytes, Proxy::Async);
        *sum = add(*sum, bytes);
        if bad != 0 {
            tile.mark(mn, bad, &mut poison);
        }
        for (i, pair) in bytes.as_chunks::<2>().0.iter().enumerate() {
            let value = half.widen(u16::from_le_bytes(*pair));
            if tile.trans { store(mn + i, k, value) } else { store(mn, k + i, value) }
        }
    });
    poison
}

/// Reads the operands of a product now; bytes that have changed since the issue are a finding.
pub(super) fn fetch_tiles(
    m: &mut Machine<'_>,
    product: &Product,
    (a_bits, b_bits): (u64, u64),
    glance: &Glance,
) -> Tiles {
    let (mut a, mut a_poison, mut sum) = (Vec::new(), Bits::default(), 0);
    if let SourceA::Descriptor(_) = product.a {
        a = vec![0.0; 64 * Product::STORED_K];
        a_poison = fetch(m, Tile::a(product, a_bits), product.half, &mut sum, |row, k, value| {
            a[row * Product::STORED_K + k] = value;
        });
    }
    let mut b = vec![0.0; product.k() * product.n];
    let b_tile = Tile::b(product, b_bits);
    let b_poison = fetch(m, b_tile, product.half, &mut sum, |column, k, value| {
        b[k * product.n + column] = value;
    });
    if sum != glance.sum {
        m.report(FindingKind::InFlight, None, || {
            "an operand of a wgmma in shared memory was changed before its wgmma.wait_group".into()
        });
    }
    Tiles { a, a_poison, b, b_poison }
}

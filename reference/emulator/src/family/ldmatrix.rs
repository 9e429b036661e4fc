//! `ldmatrix` and `stmatrix` (PTX ISA, "Warp-level matrix load instruction: ldmatrix" and "...
//! stmatrix"): 8x8 matrices of 16-bit elements between shared memory and fragments.

use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::family::Opcode;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::shared::Proxy;
use crate::value::Type;

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "ldmatrix",
        family: "ldmatrix",
        meaning: "loads one, two or four 8x8 b16 matrices: .sync.aligned.m8n8.{x1,x2,x4}{.trans}{.shared}.b16",
        decode: decode_ldmatrix,
    },
    Opcode {
        name: "stmatrix",
        family: "ldmatrix",
        meaning: "stores one, two or four 8x8 b16 matrices: .sync.aligned.m8n8.{x1,x2,x4}{.trans}{.shared}.b16",
        decode: decode_stmatrix,
    },
];

/// Modifiers that both take: the number of matrices, whether they are transposed, and the space.
fn decode_shape(d: &mut Decode<'_>) -> Result<(usize, bool, Space), Error> {
    d.expect("sync")?;
    d.expect("aligned")?;
    d.expect("m8n8")?;
    let count = d.one_of(&[("x1", 1), ("x2", 2), ("x4", 4)])?;
    let trans = d.take("trans");
    let shared = d.take("shared") || d.take("shared::cta");
    d.expect("b16")?;
    Ok((count, trans, if shared { Space::Shared } else { Space::Generic }))
}

/// The shared addresses of the rows, one per lane of the first `8 * count`.
fn row_addresses(
    m: &mut Machine<'_>,
    address: Address,
    count: usize,
    space: Space,
    what: &str,
) -> Option<([u64; 32], u32)> {
    m.require_whole_warp(what);
    let rows = u32::MAX >> (32 - 8 * count);
    let poison = m.poison(address.base) & rows & m.lanes;
    m.demand(poison, "an address");
    let mut addresses = address.of(m);
    if space == Space::Generic {
        for lane in lanes_of(rows & m.lanes) {
            match m.resolve(addresses[lane]) {
                (Space::Shared, offset) => addresses[lane] = offset,
                _ => {
                    m.report(FindingKind::OutOfBounds, Some(lane as u32), || {
                        format!("{what} at {:#x}, which is not shared memory", addresses[lane])
                    });
                    return None;
                }
            }
        }
    }
    m.count_shared(&addresses, rows & m.lanes, 16);
    Some((addresses, rows & m.lanes))
}

fn decode_ldmatrix(d: &mut Decode<'_>) -> Result<Action, Error> {
    let (count, trans, space) = decode_shape(d)?;
    let regs = d.dst_vector(32)?;
    if regs.len() != count {
        return Err(d.error(format!("{count} registers expected")));
    }
    let address = d.address()?;
    Ok(Box::new(move |m| {
        let mut matrices = [[[0u8; 16]; 8]; 4];
        let mut poison = [[u16::MAX; 8]; 4];
        if let Some((addresses, rows)) = row_addresses(m, address, count, space, "ldmatrix") {
            for lane in lanes_of(rows) {
                let row = &mut matrices[lane / 8][lane % 8];
                poison[lane / 8][lane % 8] =
                    m.read_shared(lane, addresses[lane], 16, row, Proxy::Generic) as u16;
            }
        }
        for (i, reg) in regs.iter().enumerate() {
            let (matrix, poison) = (&matrices[i], &poison[i]);
            let bad = poison.iter().fold(0, |any, row| any | row);
            let mut lanes = [0; 32];
            let mut mask = 0;
            for (lane, out) in lanes.iter_mut().enumerate() {
                let [low, high] = elements(lane, trans);
                *out = get(matrix, low) | get(matrix, high) << 16;
                if bad != 0 {
                    let hit = [low, high].iter().any(|&(r, c)| poison[r] >> (2 * c) & 3 != 0);
                    mask |= u32::from(hit) << lane;
                }
            }
            m.set(*reg, &lanes, mask);
        }
        Ok(Flow::Next)
    }))
}

/// Row and column of the two elements that a lane holds.
#[inline(always)]
fn elements(lane: usize, trans: bool) -> [(usize, usize); 2] {
    let (row, column) = (lane / 4, 2 * (lane % 4));
    if trans { [(column, row), (column + 1, row)] } else { [(row, column), (row, column + 1)] }
}

#[inline(always)]
fn get(matrix: &[[u8; 16]; 8], (row, column): (usize, usize)) -> u64 {
    u16::from_le_bytes([matrix[row][2 * column], matrix[row][2 * column + 1]]).into()
}

fn decode_stmatrix(d: &mut Decode<'_>) -> Result<Action, Error> {
    let (count, trans, space) = decode_shape(d)?;
    let address = d.address()?;
    let regs = d.src_vector(Type::B32)?;
    if regs.len() != count {
        return Err(d.error(format!("{count} registers expected")));
    }
    Ok(Box::new(move |m| {
        let Some((addresses, rows)) = row_addresses(m, address, count, space, "stmatrix") else {
            return Ok(Flow::Next);
        };
        let mut matrices = [[[0u8; 16]; 8]; 4];
        let mut poison = [[0u16; 8]; 4];
        for (i, reg) in regs.iter().enumerate() {
            let bad = m.poison(*reg);
            for (lane, bits) in m.get(*reg).iter().enumerate() {
                for (h, (row, column)) in elements(lane, trans).into_iter().enumerate() {
                    let bytes = ((bits >> (16 * h)) as u16).to_le_bytes();
                    matrices[i][row][2 * column..][..2].copy_from_slice(&bytes);
                    poison[i][row] |= ((bad >> lane & 1) as u16 * 3) << (2 * column);
                }
            }
        }
        for lane in lanes_of(rows) {
            let (i, row) = (lane / 8, lane % 8);
            let poison = poison[i][row].into();
            m.write_shared(lane, addresses[lane], 16, &matrices[i][row], poison, Proxy::Generic);
        }
        Ok(Flow::Next)
    }))
}

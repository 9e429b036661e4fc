//! Bulk copies of boxes of tensors (PTX ISA, "cp.async.bulk.tensor", "cp.reduce.async.bulk.tensor",
//! "cp.async.bulk.prefetch.tensor", "prefetch.tensormap"). Tiled mode.

use super::bulk::{Source, count_global, start_loads};
use super::bulk_ops::{combine_of, decode_multicast, decode_operation, destinations};
use super::bulk_store::{Target, start_store};
use super::cp_async::take_policy;
use super::tensor_map::{BYTES, Element, TensorMap};
use crate::ast::Operand;
use crate::decode::{Address, Decode};
use crate::error::Error;
use crate::family::Opcode;
use crate::finding::FindingKind;
use crate::machine::{Action, Flow, Machine, Space, lanes_of};
use crate::value::Type;
use crate::warp::Reg;

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "cp.async.bulk.tensor",
        family: "cp.async.bulk",
        meaning: "copies a box: .{1d..5d}.shared::cluster.global{.tile}.mbarrier::complete_tx::bytes{.multicast::cluster}, .{1d..5d}.global.shared::cta{.tile}.bulk_group; {.L2::cache_hint}",
        decode: decode_tensor,
    },
    Opcode {
        name: "cp.reduce.async.bulk.tensor",
        family: "cp.async.bulk",
        meaning: "combines a box with global memory: .{1d..5d}.global.shared::cta.{add,min,max,and,or,xor}{.tile}.bulk_group{.L2::cache_hint}",
        decode: decode_reduce,
    },
    Opcode {
        name: "cp.async.bulk.prefetch.tensor",
        family: "cp.async.bulk",
        meaning: "fetches a box into L2: only checks its tensor map",
        decode: decode_prefetch,
    },
    Opcode {
        name: "prefetch.tensormap",
        family: "cp.async.bulk",
        meaning: "fetches a tensor map: only checks it",
        decode: decode_prefetch_map,
    },
    Opcode {
        name: "prefetch.param.tensormap",
        family: "cp.async.bulk",
        meaning: "as prefetch.tensormap",
        decode: decode_prefetch_map,
    },
    Opcode {
        name: "prefetch.const.tensormap",
        family: "cp.async.bulk",
        meaning: "as prefetch.tensormap",
        decode: decode_prefetch_map,
    },
];

/// `[map, {x, y, ...}]`.
struct BoxOperand {
    map: Address,
    coordinates: Vec<Reg>,
}

fn decode_rank(d: &mut Decode<'_>) -> Result<usize, Error> {
    d.one_of(&[("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)])
}

fn decode_box(d: &mut Decode<'_>, rank: usize) -> Result<BoxOperand, Error> {
    let (map, items) = d.address_and_items()?;
    let items = match <[Operand; 1]>::try_from(items) {
        Ok([Operand::Vector(items)]) => items,
        Ok([one]) => vec![one],
        Err(_) => return Err(d.error("a tensor map and coordinates expected")),
    };
    if items.len() != rank {
        return Err(d.error(format!("{rank} coordinates expected, not {}", items.len())));
    }
    let coordinates: Result<_, _> =
        items.iter().map(|item| d.src_of(item, Type::S32, false)).collect();
    Ok(BoxOperand { map, coordinates: coordinates? })
}

/// The tensor map at a generic address of a lane.
fn load_map(m: &mut Machine<'_>, lane: usize, address: u64, rank: usize) -> Option<TensorMap> {
    let mut bytes = [0; BYTES];
    let poison = m.read(Space::Generic, lane, address, 64, &mut bytes);
    let map = TensorMap::decode(&bytes);
    let message = match &map {
        _ if poison != 0 => "the bytes at its address are not initialised".to_owned(),
        Err(error) => error.to_string(),
        Ok(map) if rank != 0 && map.rank() != rank => {
            format!("the map has {} dimensions, the copy {rank}", map.rank())
        }
        Ok(_) => return map.ok(),
    };
    m.report(FindingKind::Illegal, Some(lane as u32), || {
        format!("tensor map at {address:#x}: {message}")
    });
    None
}

impl BoxOperand {
    /// Map and coordinates of a lane, after checks of both and of the memory behind them.
    fn of(&self, m: &mut Machine<'_>, lane: usize, map: u64) -> Option<(TensorMap, [i32; 5])> {
        let rank = self.coordinates.len();
        let map = load_map(m, lane, map, rank)?;
        let mut coordinates = [0; 5];
        for (out, reg) in coordinates.iter_mut().zip(&self.coordinates) {
            m.demand(m.poison(*reg) & 1 << lane, "a tensor coordinate");
            *out = m.get(*reg)[lane] as i32;
        }
        // The hardware stops with "illegal instruction" here (seen on an H200).
        if coordinates[0] as i64 * map.element.bytes() as i64 % 16 != 0 {
            m.report(FindingKind::Illegal, Some(lane as u32), || {
                format!(
                    "the innermost coordinate {} times {} bytes is not a multiple of 16",
                    coordinates[0],
                    map.element.bytes()
                )
            });
        }
        let mut bytes = 0;
        for run in map.runs(&coordinates) {
            m.global_range(lane, run.address, 1, run.bytes)?;
            bytes += run.bytes;
        }
        m.unit.tally.totals.bytes.global_read += bytes as u64;
        Some((map, coordinates))
    }
}

/// Smallest alignment of a box in shared memory.
const BOX_ALIGN: usize = 128;

fn decode_tensor(d: &mut Decode<'_>) -> Result<Action, Error> {
    let rank = decode_rank(d)?;
    if d.take("global") {
        return decode_store(d, rank, false);
    }
    if !d.take("shared::cluster") {
        d.expect("shared::cta")?;
    }
    d.expect("global")?;
    let _ = d.take("tile");
    d.expect("mbarrier::complete_tx::bytes")?;
    let multicast = d.take("multicast::cluster");
    let policy = d.take("L2::cache_hint");
    let to = d.address()?;
    let source = decode_box(d, rank)?;
    let mbarrier = d.address()?;
    if policy {
        take_policy(d)?;
    }
    let mask = decode_multicast(d, multicast)?;
    Ok(Box::new(move |m| {
        let (to, maps) = (to.checked(m), source.map.checked(m));
        let mbarrier = mbarrier.checked(m);
        for lane in lanes_of(m.lanes) {
            let Some((map, coordinates)) = source.of(m, lane, maps[lane]) else { continue };
            let found = destinations(m, lane, to[lane], mbarrier[lane], mask, BOX_ALIGN);
            let Some((blocks, at, mbarrier)) = found else { continue };
            let bytes = map.box_bytes();
            count_global(m, bytes);
            let source = Source::Tensor(map, coordinates);
            start_loads(m, lane, &blocks, at, bytes, mbarrier, source);
        }
        Ok(Flow::Next)
    }))
}

fn decode_store(d: &mut Decode<'_>, rank: usize, reduces: bool) -> Result<Action, Error> {
    d.expect("shared::cta")?;
    // The type of a reduction is the map's; the operation alone stands in the text.
    let operation = if reduces { Some(decode_operation(d)?) } else { None };
    let _ = d.take("tile");
    d.expect("bulk_group")?;
    let policy = d.take("L2::cache_hint");
    let target = decode_box(d, rank)?;
    let from = d.address()?;
    if policy {
        take_policy(d)?;
    }
    Ok(Box::new(move |m| {
        let (from, maps) = (from.checked(m), target.map.checked(m));
        for lane in lanes_of(m.lanes) {
            let Some((map, coordinates)) = target.of(m, lane, maps[lane]) else { continue };
            let mut combine = None;
            if let Some(operation) = operation {
                combine = combine_of(operation, type_of(map.element));
                if combine.is_none() {
                    let message = format!("no .{operation} of {:?}", map.element);
                    return Err(m.unsupported(message));
                }
            }
            m.shared_range(lane, from[lane], BOX_ALIGN, 0);
            // Loads of such boxes work; an H200 answers a store with an illegal instruction.
            if let Some(negative) = coordinates.iter().find(|c| **c < 0) {
                m.report(FindingKind::Illegal, Some(lane as u32), || {
                    format!("a store to a box that starts at coordinate {negative}")
                });
                continue;
            }
            let bytes = map.box_bytes();
            start_store(m, lane, from[lane], bytes, Target::Tensor(map, coordinates), combine);
        }
        Ok(Flow::Next)
    }))
}

fn decode_reduce(d: &mut Decode<'_>) -> Result<Action, Error> {
    let rank = decode_rank(d)?;
    d.expect("global")?;
    decode_store(d, rank, true)
}

/// The PTX type of a map's elements.
fn type_of(element: Element) -> Type {
    match element {
        Element::U8 => Type::U8,
        Element::U16 => Type::U16,
        Element::U32 => Type::U32,
        Element::S32 => Type::S32,
        Element::U64 => Type::U64,
        Element::S64 => Type::S64,
        Element::F16 => Type::F16,
        Element::F32 => Type::F32,
        Element::F64 => Type::F64,
        Element::Bf16 => Type::Bf16,
    }
}

/// `.{1d..5d}.L2.global{.tile}{.L2::cache_hint} [map, {x, y}]`.
fn decode_prefetch(d: &mut Decode<'_>) -> Result<Action, Error> {
    let rank = decode_rank(d)?;
    d.expect("L2")?;
    d.expect("global")?;
    let _ = d.take("tile");
    let policy = d.take("L2::cache_hint");
    let map = decode_box(d, rank)?.map;
    if policy {
        take_policy(d)?;
    }
    Ok(check_map(map, rank))
}

fn decode_prefetch_map(d: &mut Decode<'_>) -> Result<Action, Error> {
    Ok(check_map(d.address()?, 0))
}

fn check_map(map: Address, rank: usize) -> Action {
    Box::new(move |m| {
        let maps = map.checked(m);
        for lane in lanes_of(m.lanes) {
            load_map(m, lane, maps[lane], rank);
        }
        Ok(Flow::Next)
    })
}

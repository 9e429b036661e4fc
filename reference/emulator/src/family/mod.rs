//! The instruction families: one file each, and one table from opcode to meaning.
//!
//! # How a family file is written
//!
//! A family file has a `pub(super) const TABLE: &[Opcode]` with one row per opcode: its name without
//! modifiers (`"add"`, `"cp.async.commit_group"`; the longest row that is a prefix at a dot wins, so
//! `mma.sp::ordered_metadata` and `mma` are two rows), the family it counts for, what it means (one
//! line for docs/emulator.md), and a decode function
//! `fn(&mut Decode) -> Result<Action, Error>`. Add the file's `TABLE` to [`tables`] here.
//!
//! The decode function takes modifiers (`d.take("x")`, `d.one_of(&[...])`, `d.ty()`) and operands
//! (`d.dst(32)`, `d.src(Type::U32)`, `d.src_vector(..)`, `d.address()`, `d.src_pred()`,
//! `d.immediate()`) from left to right. What it does not take is an error, raised by the caller. It
//! returns a closure that holds the resolved registers and works on a `Machine`, whole warp at once:
//!
//! ```ignore
//! fn decode_popc(d: &mut Decode) -> Result<Action, Error> {
//!     let ty = d.one_of(&[("b32", Type::B32), ("b64", Type::B64)])?;
//!     let (dst, a) = (d.dst(32)?, d.src(ty)?);
//!     Ok(map(dst, a, |a: u64| u64::from(a.count_ones())))
//! }
//! ```
//!
//! - Registers (`Reg`) are `[u64; 32]`, zero-extended; immediates, special registers and
//!   symbol addresses are constant registers, so a source is always a register. Predicates are a `u32`
//!   bit mask. Both have a poison bit per lane: the result of an operation is poison where an input is.
//!   The helpers of `lanes` do that for element-wise operations.
//! - Work on the lanes of `m.lanes` only. `m.set` keeps the others.
//! - Memory: `m.read_shared/write_shared/read_global/write_global(lane, address, align, bytes, ..)`
//!   check bounds, alignment, races, poison and proxies and report findings themselves; they return or
//!   take a poison bit per byte. Count each warp-wide access with `m.count_shared`/`m.count_global`.
//! - Lanes of one warp need `bar.warp.sync` between a write and another lane's read. An instruction that
//!   called `m.require_whole_warp` touches memory for the warp as a whole; one that works for no lane in
//!   particular says `NO_LANE` in its `Accessor`.
//! - An address or decision made of poison: `m.demand(mask, "what")`; operands that must be equal in all
//!   lanes: `m.uniform(reg, "what")`; `.sync.aligned`: `m.require_whole_warp("mma.sync")`.
//! - Waiting: return `Flow::Wait { ticket, on }`. The path leaves the schedule and the SAME instruction
//!   is executed again after the unit changed, with `m.ticket == Some(ticket)`. Whatever others may wait
//!   for must call `m.unit.changed()`.
//! - Ordering for race detection: `m.release(&mut clock)` into the object that others acquire from
//!   (barrier, mbarrier phase), `m.acquire(&clock)` when the wait is over. `m.warp.clock.fence_proxy()`
//!   for `fence.proxy.async`.
//! - Asynchronous data: at issue call `shared.start_copy` (bytes become poison, touching them from
//!   another warp is a race) and keep bytes and a `m.release_snapshot()` in the state structs of
//!   `state`; at the wait that guarantees the data call `shared.land`, stamped with a warp and epoch
//!   the waiter is ordered after (the issuer's at issue, if the waiter acquires the snapshot).
//! - `m.report(kind, lane, || message)` records a finding and goes on; `Err(m.unsupported("..."))` ends
//!   the launch. Never panic, never print.

mod approximate;
mod atomic;
pub(crate) mod barrier;
mod bits;
mod bulk;
mod bulk_ops;
mod bulk_store;
mod bulk_tensor;
mod carry;
mod cluster;
mod compare;
mod control;
mod convert;
mod cp_async;
mod descriptor;
mod fence;
mod fence_proxy;
mod float;
mod fragment;
mod integer;
mod lanes;
mod ldmatrix;
mod load_store;
mod mbarrier;
mod mbarrier_ops;
mod mbarrier_wait;
mod mma;
mod mma_sp;
mod moves;
mod setmaxnreg;
mod shuffle;
pub(crate) mod state;
mod tensor_box;
pub mod tensor_map;
mod wgmma;
mod wgmma_complete;
mod wgmma_flight;
mod wgmma_tiles;
mod wmma;
mod wmma_fragment;

use crate::decode::Decode;
use crate::error::Error;
use crate::machine::Action;
use crate::value::Type;

/// A row of the opcode table.
#[derive(Clone, Copy)]
pub struct Opcode {
    /// Opcode without modifiers.
    pub name: &'static str,
    /// Family, as in the counters.
    pub family: &'static str,
    /// What it does and which modifiers it takes, in one line.
    pub meaning: &'static str,
    /// Makes the action.
    pub(crate) decode: fn(&mut Decode<'_>) -> Result<Action, Error>,
}

/// All family tables, in the order of the documentation.
pub fn tables() -> &'static [&'static [Opcode]] {
    &[
        control::TABLE,
        barrier::TABLE,
        fence::TABLE,
        integer::TABLE,
        bits::TABLE,
        carry::TABLE,
        compare::TABLE,
        moves::TABLE,
        float::TABLE,
        approximate::TABLE,
        convert::TABLE,
        load_store::TABLE,
        atomic::TABLE,
        shuffle::TABLE,
        ldmatrix::TABLE,
        cp_async::TABLE,
        wmma::TABLE,
        mma::TABLE,
        mma_sp::TABLE,
        mbarrier_ops::TABLE,
        mbarrier_wait::TABLE,
        bulk_ops::TABLE,
        bulk_tensor::TABLE,
        fence_proxy::TABLE,
        cluster::TABLE,
        wgmma::TABLE,
        setmaxnreg::TABLE,
    ]
}

/// All opcodes.
pub fn table() -> impl Iterator<Item = &'static Opcode> {
    tables().iter().flat_map(|table| table.iter())
}

/// The row of a full opcode such as `ld.global.v4.b32`, with its index in [`table`]: the longest name
/// that is a prefix at a dot. Two rows may have one name if one is of family `float`: it is meant where
/// the last modifier is a floating-point type.
pub fn lookup(opcode: &str) -> Option<(usize, &'static Opcode)> {
    let float = opcode.rsplit('.').next().and_then(Type::parse).is_some_and(Type::is_float);
    table()
        .enumerate()
        .filter(|(_, row)| {
            opcode
                .strip_prefix(row.name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .max_by_key(|(_, row)| (row.name.len(), (row.family == FLOAT) == float))
}

/// Family of floating-point arithmetic.
pub const FLOAT: &str = "float";

//! `wgmma`: asynchronous products of a warpgroup (PTX ISA, "Asynchronous warpgroup level matrix
//! instructions"): m64nNk16 and, with 2:4 sparse A, m64nNk32, of f16 and bf16.
//!
//! Here the instructions are decoded; `wgmma_flight` carries them out.

use std::sync::Arc;

use super::fragment::{Accumulator, Half};
use super::mma::{sources, targets};
use super::mma_sp::decode_selector;
use super::wgmma_flight::{commit, fence, issue, wait};
use crate::ast::Operand;
use crate::decode::Decode;
use crate::error::Error;
use crate::family::Opcode;
use crate::machine::{Action, Flow};
use crate::value::Type;
use crate::warp::{Pred, Reg};

pub(super) const TABLE: &[Opcode] = &[
    Opcode {
        name: "wgmma.mma_async",
        family: "wgmma",
        meaning: "product of a warpgroup: .sync.aligned.m64nNk16, f16 or bf16 operands, f16 or f32 sums; A by descriptor or in registers, B by descriptor",
        decode: |d| decode_product(d, false),
    },
    Opcode {
        name: "wgmma.mma_async.sp",
        family: "wgmma",
        meaning: "2:4 sparse product of a warpgroup: .sync.aligned.m64nNk32, with metadata and selector, else as wgmma.mma_async",
        decode: |d| decode_product(d, true),
    },
    Opcode {
        name: "wgmma.fence",
        family: "wgmma",
        meaning: "orders accesses to registers before the following products: .sync.aligned",
        decode: decode_fence,
    },
    Opcode {
        name: "wgmma.commit_group",
        family: "wgmma",
        meaning: "closes the warpgroup's group of products: .sync.aligned",
        decode: decode_commit,
    },
    Opcode {
        name: "wgmma.wait_group",
        family: "wgmma",
        meaning: "waits until at most N groups are in flight: .sync.aligned",
        decode: decode_wait,
    },
];

/// Where A comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceA {
    /// Four registers per lane.
    Registers([Reg; 4]),
    /// A descriptor.
    Descriptor(Reg),
}

/// A decoded `wgmma.mma_async`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    pub(super) n: usize,
    pub(super) half: Half,
    pub(super) sum: Accumulator,
    pub(super) d: Vec<Reg>,
    pub(super) a: SourceA,
    pub(super) b: Reg,
    /// Metadata register and selector of a sparse A.
    pub(super) sparse: Option<(Reg, usize)>,
    /// Whether D is read (else it counts as zero), and whether the predicate is negated.
    pub(super) scale_d: (Pred, bool),
    /// 1 or -1.
    pub(super) scale_a: f64,
    /// 1 or -1.
    pub(super) scale_b: f64,
    /// Whether A, B are MN-major in shared memory.
    pub(super) trans_a: bool,
    pub(super) trans_b: bool,
}

impl Product {
    /// Columns of A that are stored: k, or half of it if A is sparse.
    pub(super) const STORED_K: usize = 16;

    /// Extent along K.
    pub(super) fn k(&self) -> usize {
        if self.sparse.is_some() { 32 } else { 16 }
    }
}

/// `m64nNkK`.
fn decode_shape(d: &mut Decode<'_>, k: &str) -> Result<usize, Error> {
    let n = d.take_map(|m| {
        let n = m.strip_prefix("m64n")?.strip_suffix(k)?.parse::<usize>().ok()?;
        (n % 8 == 0 && (8..=256).contains(&n)).then_some(n)
    });
    n.ok_or_else(|| d.error(format!("m64nN{k} expected, N a multiple of 8 up to 256")))
}

fn decode_scale(d: &mut Decode<'_>) -> Result<f64, Error> {
    match d.immediate()? as i64 {
        1 => Ok(1.0),
        -1 | 0xffff_ffff => Ok(-1.0),
        _ => Err(d.error("imm-scale-a and imm-scale-b are 1 or -1")),
    }
}

fn decode_flag(d: &mut Decode<'_>) -> Result<bool, Error> {
    match d.immediate()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(d.error("0 or 1 expected for imm-trans")),
    }
}

fn decode_product(d: &mut Decode<'_>, sparse: bool) -> Result<Action, Error> {
    d.expect("sync")?;
    d.expect("aligned")?;
    let n = decode_shape(d, if sparse { "k32" } else { "k16" })?;
    let sum = d.one_of(&[("f16", Accumulator::F16), ("f32", Accumulator::F32)])?;
    let half = d.one_of(&[("f16", Half::F16), ("bf16", Half::Bf16)])?;
    d.expect(if half == Half::F16 { "f16" } else { "bf16" })?;
    if half == Half::Bf16 && sum == Accumulator::F16 {
        return Err(d.error("bf16 needs f32 accumulators"));
    }
    let dst = targets(d, sum.registers(n / 2))?;
    let in_registers = matches!(d.operands.front(), Some(Operand::Vector(_)));
    let a = if in_registers {
        let regs = sources(d, 4, "A")?;
        SourceA::Registers([regs[0], regs[1], regs[2], regs[3]])
    } else {
        SourceA::Descriptor(d.src(Type::B64)?)
    };
    let b = d.src(Type::B64)?;
    let sparse = if sparse { Some((d.src(Type::B32)?, decode_selector(d, 2)?)) } else { None };
    let scale_d = d.src_pred()?;
    let (scale_a, scale_b) = (decode_scale(d)?, decode_scale(d)?);
    let trans_a = !in_registers && decode_flag(d)?;
    let trans_b = decode_flag(d)?;
    let product = Arc::new(Product {
        n,
        half,
        sum,
        d: dst,
        a,
        b,
        sparse,
        scale_d,
        scale_a,
        scale_b,
        trans_a,
        trans_b,
    });
    Ok(Box::new(move |m| {
        issue(m, &product)?;
        Ok(Flow::Next)
    }))
}

fn decode_aligned(d: &mut Decode<'_>) -> Result<(), Error> {
    d.expect("sync")?;
    d.expect("aligned")
}

fn decode_fence(d: &mut Decode<'_>) -> Result<Action, Error> {
    decode_aligned(d)?;
    Ok(Box::new(|m| {
        fence(m);
        Ok(Flow::Next)
    }))
}

fn decode_commit(d: &mut Decode<'_>) -> Result<Action, Error> {
    decode_aligned(d)?;
    Ok(Box::new(|m| {
        commit(m);
        Ok(Flow::Next)
    }))
}

fn decode_wait(d: &mut Decode<'_>) -> Result<Action, Error> {
    decode_aligned(d)?;
    let newest = d.immediate()?;
    Ok(Box::new(move |m| wait(m, newest)))
}

//! Runs compiled PTX on the CPU, and catches what hardware hides.
//!
//! [`Module::parse`] reads PTX text, [`Memory`] holds global memory, [`Launch`] runs an entry and returns
//! a [`Report`]: counters (instructions by family, bank conflicts, sectors, bytes) and findings (races,
//! uninitialised values, bad addresses, broken synchronisation). `examples/vector_add.rs` shows it all.
//!
//! # How it works
//!
//! Text becomes tokens (`lexer`), a tree (`parser`, `ast`), and per entry a `program`: every
//! instruction is a closure over resolved registers, made by the row of the opcode table it belongs to
//! ([`family`]). `schedule` runs the warps of a block, or of a cluster, in an order that the launch's
//! seed permutes; blocks run side by side on rayon's threads. A warp executes an instruction for all its
//! active lanes at once; lanes that diverge form paths (`warp`) that meet at the branch's immediate
//! post-dominator (`control_flow`).
//!
//! Every register lane and every byte of memory knows whether anything initialised it (`machine`,
//! `shared`, `memory`); shared memory knows who read and wrote it last, and vector clocks (`clock`)
//! tell whether a barrier lies between.
//!
//! # Why a parser of our own
//!
//! The crate `ptx-syntax` (0.5) was considered: an AST of all of PTX 9.0, generated from the
//! specification, some 85 s to compile. It has one type per form of every instruction, which would have
//! to be translated by hand into the table of opcodes that decodes the text directly here, and it
//! rejected what is needed (`wgmma` with an immediate scale-d). rustc's backend and inline assembly use a
//! small, regular part of the grammar; what this parser does not know, it refuses with line and text.
//!
//! # How it is checked
//!
//! Scalar instructions agree bit for bit with an H200 (`tests/scalar.rs`: some 900 forms, 2048 inputs
//! each); approximate functions are computed in f64 and rounded once, within the documented errors.

mod access;
mod ast;
mod builder;
mod clock;
mod control_flow;
mod counters;
mod decode;
mod error;
pub mod family;
mod finding;
mod launch;
mod lexer;
mod machine;
mod memory;
mod module;
mod names;
mod parser;
mod program;
mod round;
mod schedule;
mod shared;
mod special;
mod unit;
mod value;
mod warp;

pub use counters::{Bytes, Counters, GlobalSite, SharedSite};
pub use error::{Error, Standing, Stop};
pub use finding::{Finding, FindingKind, Place};
pub use launch::{Launch, MAX_SHARED, Report};
pub use memory::{Memory, Plain};
pub use module::Module;

//! How a block of the Hopper kernels divides its threads and its shared memory.
//!
//! Two consumer warpgroups and one that produces, or three consumers, one thread of which produces. A block computes
//! tiles of `bn` features by `bm` tokens of Y^T: W is the instruction's operand A (64 rows an instruction), X its
//! operand B (`bm` columns). Three consumers have 64 features each, and may leave the last 64 out
//! ([`columns`](crate::columns)).
//!
//! ```text
//!   cooperative: both consumers work on a tile       ping-pong: each has a tile of its own, and finishes
//!            X: bm tokens                            it while the other one multiplies
//!           +------------+
//!   W: bn   | consumer 0 |                             +------------+      +------------+
//!  features +------------+                             | consumer 0 |      | consumer 1 |
//!           | consumer 1 |                             +------------+      +------------+
//!           +------------+
//!
//!   shared memory   | stage 0: X, W, metadata | stage 1 | ... | staging 0 | staging 1 | barriers |
//! ```

use crate::tiled24;

/// Threads of a warpgroup.
pub const WARPGROUP: u32 = 128;
/// Threads of a block: three warpgroups.
pub const THREADS: u32 = 3 * WARPGROUP;
/// Features of an instruction: rows of its operand A.
pub const ROWS: u32 = 64;
/// Columns of X, or a dense W, in a box: 128 bytes, the widest swizzle.
pub const X_COLUMNS: u32 = 64;
/// Dynamic shared memory that a block of sm_90 can have.
pub const MAX_SHARED: u32 = 227 * 1024;
/// Swizzled boxes lie at multiples of it.
const ALIGN: u32 = 1024;
/// Barriers of all stages, full and empty, of the consumers' turns, and a word for each of them.
const BARRIER_BYTES: u32 = 256;
/// See [`Shape::shares`].
const MOST_SHARED: u32 = 160;
/// See [`Shape::streams`]: tokens.
const MOST_STREAMED: u32 = 128;
/// See [`Shape::lead`]: in columns of K.
const LEAD_K: u32 = 128;
/// Most boxes of Y that a consumer stages at a time.
const MOST_BOXES: u32 = 4;
/// Tokens and padding of what is staged for the epilogue in f32.
pub const PART_TOKENS: u32 = 32;
/// See `Family::staging_padding`: lanes 4g + q write element (2q, g).
pub const PART_PADDING: u32 = 4;

/// A block's work and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whether W is Packed24, in the order of [`tiled24`].
    pub sparse: bool,
    /// Tokens of a tile, 16 to 256.
    pub bm: u32,
    /// Features of a tile; of a sparse W a multiple of [`tiled24::ROWS`].
    pub bn: u32,
    /// K per stage, 64 or 128.
    pub bk: u32,
    /// Stages of the pipeline.
    pub stages: u32,
    /// Blocks of a cluster that have the same tokens, and load X together.
    pub cluster: u32,
    /// Blocks of a cluster that share the K of a tile, 1 or 2; with 2, `cluster` is 1.
    pub slices: u32,
    /// Whether consumers have tiles of their own.
    pub ping_pong: bool,
}

impl Shape {
    /// Warpgroups that multiply.
    pub const fn consumers(self) -> u32 {
        if self.ping_pong || self.bn.is_multiple_of(2 * ROWS) { 2 } else { 3 }
    }

    /// Consumers that share a tile.
    pub const fn team(self) -> u32 {
        if self.ping_pong { 1 } else { self.consumers() }
    }

    /// Whether a tile may have [`ROWS`] features fewer.
    pub const fn mixes(self) -> bool {
        self.consumers() == 3
    }

    /// Instructions that make a consumer's features.
    pub const fn subtiles(self) -> u32 {
        self.bn / (ROWS * self.team())
    }

    /// Stages by which the first of a consumer's two instructions runs ahead of the second at both ends of a tile,
    /// so that one's features are finished while the other multiplies; 0 where they do not.
    pub const fn lead(self) -> u32 {
        if self.ping_pong || self.subtiles() != 2 { 0 } else { LEAD_K / self.bk }
    }

    /// Stages behind whose products the tile before is finished, where a consumer has registers to keep it in beside its
    /// accumulators; 0 where it has not, or tiles are so small that a block has only one. It is four boxes, each of which
    /// the kernel names, one behind every other stage: one behind each is up to 1% slower.
    pub const fn behind(self) -> u32 {
        let one = !self.ping_pong && self.subtiles() == 1 && self.consumers() == 2;
        if one && self.parts() == 4 && self.slices == 1 { 2 * self.parts() } else { 0 }
    }

    /// Stages by which the first consumer of a block's last tile ends before the second, which waits meanwhile: it
    /// finishes its features behind the other's products. As many as the pipeline can hold; 0 where both end together.
    pub const fn stagger(self) -> u32 {
        if self.behind() > 0 { self.stages - 1 } else { 0 }
    }

    /// Stages that the main loop has code for: two sets of metadata registers take turns.
    pub const fn unrolled(self) -> u32 {
        if self.sparse { 2 } else { 1 }
    }

    /// Fewest K-blocks of a tile that may be finished, in part, behind the products of the next; 0 where none may.
    pub const fn overlapping_blocks(self) -> u32 {
        if self.behind() > 0 { self.behind() } else { 2 * self.lead() }
    }

    /// Whether tiles have so few tokens that W streams from memory, if they are all there are: then it is not kept in L2.
    pub const fn streams(self) -> bool {
        self.bm <= MOST_STREAMED
    }

    /// Whether several blocks may share a tile by the schedule, and Y may be of any type, alignment and epilogue. With
    /// more accumulators than this, or the registers that three consumers get, a thread has none left for partial sums
    /// and the long way to Y; blocks that share each tile do without.
    pub const fn shares(self) -> bool {
        self.bm / 2 * self.subtiles() <= MOST_SHARED && self.consumers() == 2 && self.slices == 1
    }

    /// Bytes of the X tile of a stage: blocks of [`X_COLUMNS`] columns, one after the other.
    pub const fn x_bytes(self) -> u32 {
        self.bm * self.bk * 2
    }

    /// Bytes of W in a stage for `features` features: boxes of [`X_COLUMNS`] columns, one after the other; sparse, the
    /// blocks of [`tiled24`], those of the same rows side by side.
    pub const fn w_bytes(self, features: u32) -> u32 {
        if self.sparse {
            features / tiled24::ROWS * self.w_row_bytes()
        } else {
            features * self.bk * 2
        }
    }

    /// Bytes of a sparse W in a stage that belong to the same rows.
    pub const fn w_row_bytes(self) -> u32 {
        self.bk / tiled24::COLUMNS * tiled24::BLOCK_BYTES
    }

    /// What arrives in a block for one stage of a tile of `features` features.
    pub const fn filled_bytes(self, features: u32) -> u32 {
        self.x_bytes() + self.w_bytes(features)
    }

    /// From one stage to the next.
    pub const fn stage_bytes(self) -> u32 {
        self.filled_bytes(self.bn).next_multiple_of(ALIGN)
    }

    /// Features of a box of a dense W.
    pub const fn w_box(self) -> u32 {
        if self.mixes() { ROWS } else { self.bn }
    }

    /// Tokens of a box of Y, which has [`ROWS`] features.
    pub const fn box_tokens(self) -> u32 {
        if self.bm.is_multiple_of(64) {
            64
        } else if self.bm.is_multiple_of(32) {
            32
        } else {
            16
        }
    }

    /// Boxes of Y that an instruction makes.
    pub const fn parts(self) -> u32 {
        self.bm / self.box_tokens()
    }

    /// Where box `part` of Y begins in an instruction's accumulators, in pairs of tokens.
    pub const fn box_words(self, part: u32) -> usize {
        (part * self.box_tokens() / 4) as usize
    }

    /// Bytes of a box of Y in a 16-bit type.
    pub const fn box_bytes(self) -> u32 {
        self.box_tokens() * ROWS * 2
    }

    /// Boxes of Y that a consumer stages: as many as the stages leave room for.
    pub const fn boxes(self) -> u32 {
        let room = MAX_SHARED - BARRIER_BYTES - self.stages * self.stage_bytes();
        let fit = room / self.consumers() / self.box_bytes();
        if fit < MOST_BOXES { fit } else { MOST_BOXES }
    }

    /// Where a consumer's staging area is.
    pub const fn staging_at(self, consumer: u32) -> u32 {
        self.stages * self.stage_bytes() + consumer * self.staging_bytes()
    }

    /// A staging area: boxes of Y, or a part of the tile in f32.
    const fn staging_bytes(self) -> u32 {
        let boxes = self.boxes() * self.box_bytes();
        let part = (PART_TOKENS * (ROWS + PART_PADDING) * 4).next_multiple_of(ALIGN);
        if boxes > part { boxes } else { part }
    }

    /// Where the barrier is that stage `stage` is full.
    pub const fn full_at(self, stage: u32) -> u32 {
        self.staging_at(self.consumers()) + stage * 16
    }

    /// Where the barrier is that it is empty.
    pub const fn empty_at(self, stage: u32) -> u32 {
        self.full_at(stage) + 8
    }

    /// Where the barrier is that it is a consumer's turn to multiply.
    pub const fn turn_at(self, consumer: u32) -> u32 {
        self.full_at(self.stages) + consumer * 8
    }

    /// A word that a consumer's team uses to tell itself something.
    pub const fn flag_at(self, consumer: u32) -> u32 {
        self.turn_at(self.consumers()) + consumer * 4
    }

    /// Dynamic shared memory of a block in bytes.
    pub const fn shared_bytes(self) -> u32 {
        self.staging_at(self.consumers()) + BARRIER_BYTES
    }
}

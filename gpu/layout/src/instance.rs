//! The list of GEMM kernel instances, written once.
//!
//! Each family's macro hands its list to a macro of the caller: `gpu` turns a line into two kernels
//! (f16 and bf16), [`INSTANCES`] into two entries of the registry. To add a tile shape, add a line.
//! Kernels that sum in f16 take f16 only: a line of theirs is one kernel.
//! The columns: entry names, `[BM tokens, BN features, BK]`, `[warps along tokens, along features]`,
//! pipeline stages, blocks per SM (which caps the registers).

use crate::hopper;

/// `wmma_dense_*`: wmma m16n16k16 from padded shared memory.
#[macro_export]
macro_rules! wmma_dense_instances {
    ($each:ident) => {
        $each! {
            WmmaDense
            wmma_dense_f16_128x128x32 wmma_dense_bf16_128x128x32 [128, 128, 32] [2, 4] 3 1;
        }
    };
}

/// `sm80_dense_*`: mma.sync m16n8k16 from swizzled shared memory.
#[macro_export]
macro_rules! sm80_dense_instances {
    ($each:ident) => {
        $each! {
            Sm80Dense
            sm80_dense_f16_128x256x64 sm80_dense_bf16_128x256x64 [128, 256, 64] [2, 4] 3 1;
            sm80_dense_f16_128x256x32 sm80_dense_bf16_128x256x32 [128, 256, 32] [2, 4] 4 1;
            sm80_dense_f16_256x128x32 sm80_dense_bf16_256x128x32 [256, 128, 32] [4, 2] 4 1;
            sm80_dense_f16_128x128x32 sm80_dense_bf16_128x128x32 [128, 128, 32] [2, 2] 5 2;
            sm80_dense_f16_64x128x64 sm80_dense_bf16_64x128x64 [64, 128, 64] [2, 2] 4 2;
            sm80_dense_f16_64x64x128 sm80_dense_bf16_64x64x128 [64, 64, 128] [2, 2] 3 2;
            sm80_dense_f16_64x64x64 sm80_dense_bf16_64x64x64 [64, 64, 64] [2, 2] 4 3;
            sm80_dense_f16_32x64x128 sm80_dense_bf16_32x64x128 [32, 64, 128] [1, 4] 4 2;
            sm80_dense_f16_16x64x128 sm80_dense_bf16_16x64x128 [16, 64, 128] [1, 4] 5 2;
            sm80_dense_f16_16x128x64 sm80_dense_bf16_16x128x64 [16, 128, 64] [1, 4] 5 2;
        }
    };
}

/// `sm80_sparse24_*`: mma.sp::ordered_metadata m16n8k32, W packed in Packed24.
#[macro_export]
macro_rules! sm80_sparse24_instances {
    ($each:ident) => {
        $each! {
            Sm80Sparse24
            sm80_sparse24_f16_128x256x64 sm80_sparse24_bf16_128x256x64 [128, 256, 64] [2, 4] 4 1;
            sm80_sparse24_f16_256x128x64 sm80_sparse24_bf16_256x128x64 [256, 128, 64] [4, 2] 5 1;
            sm80_sparse24_f16_128x128x64 sm80_sparse24_bf16_128x128x64 [128, 128, 64] [2, 2] 3 2;
            sm80_sparse24_f16_64x256x64 sm80_sparse24_bf16_64x256x64 [64, 256, 64] [1, 4] 4 2;
            sm80_sparse24_f16_64x128x64 sm80_sparse24_bf16_64x128x64 [64, 128, 64] [2, 2] 6 2;
            sm80_sparse24_f16_64x64x64 sm80_sparse24_bf16_64x64x64 [64, 64, 64] [2, 2] 6 3;
            sm80_sparse24_f16_32x128x128 sm80_sparse24_bf16_32x128x128 [32, 128, 128] [1, 4] 4 2;
            sm80_sparse24_f16_32x64x64 sm80_sparse24_bf16_32x64x64 [32, 64, 64] [1, 4] 6 3;
            sm80_sparse24_f16_16x64x64 sm80_sparse24_bf16_16x64x64 [16, 64, 64] [1, 4] 8 4;
            sm80_sparse24_f16_16x64x128 sm80_sparse24_bf16_16x64x128 [16, 64, 128] [1, 4] 6 3;
            sm80_sparse24_f16_16x128x128 sm80_sparse24_bf16_16x128x128 [16, 128, 128] [1, 4] 4 3;
        }
    };
}

/// `sm80_dense_*_acc16`: sums in f16. They are for RTX 3090 and 4090, whose tensor cores take twice as long
/// to sum in f32: every tile fits their 99 KiB a block, and two blocks of the smallest their 100 KiB a
/// multiprocessor. A warp's part is 32x64 at most: f16 sums of 64x64 take half of the registers of f32 ones,
/// but all have to be widened at once for the workspace of a shared tile, which spilled on sm_90.
#[macro_export]
macro_rules! sm80_dense_acc16_instances {
    ($each:ident) => {
        $each! {
            Sm80Dense
            sm80_dense_f16_128x256x32_acc16 [128, 256, 32] [4, 4] 4 1;
            sm80_dense_f16_128x128x32_acc16 [128, 128, 32] [4, 2] 5 1;
            sm80_dense_f16_64x64x64_acc16 [64, 64, 64] [2, 2] 3 3;
        }
    };
}

/// `sm80_sparse24_*_acc16`: sums in f16. The largest tile is beyond the 99 KiB of RTX 3090 and 4090.
#[macro_export]
macro_rules! sm80_sparse24_acc16_instances {
    ($each:ident) => {
        $each! {
            Sm80Sparse24
            sm80_sparse24_f16_128x256x64_acc16 [128, 256, 64] [2, 4] 4 1;
            sm80_sparse24_f16_128x128x64_acc16 [128, 128, 64] [2, 2] 3 2;
            sm80_sparse24_f16_64x64x64_acc16 [64, 64, 64] [2, 2] 3 3;
        }
    };
}

/// `sm90_dense_*`: wgmma m64nNk16, operands by tensor maps. The columns here and in the next list: entry names,
/// `[BM tokens, BN features, BK]`, stages, blocks of a cluster, how many of them share a tile's K, whether
/// consumers have tiles of their own.
#[macro_export]
macro_rules! sm90_dense_instances {
    ($each:ident) => {
        $each! {
            Sm90Dense
            sm90_dense_f16_256x128x64 sm90_dense_bf16_256x128x64 [256, 128, 64] 4 1 1 false;
            sm90_dense_f16_256x128x64_c2 sm90_dense_bf16_256x128x64_c2 [256, 128, 64] 4 2 1 false;
            sm90_dense_f16_256x192x64_c2 sm90_dense_bf16_256x192x64_c2 [256, 192, 64] 3 2 1 false;
            sm90_dense_f16_192x128x64_pingpong sm90_dense_bf16_192x128x64_pingpong [192, 128, 64] 5 1 1 true;
            sm90_dense_f16_128x128x64_pingpong sm90_dense_bf16_128x128x64_pingpong [128, 128, 64] 6 1 1 true;
            sm90_dense_f16_256x128x64_k2 sm90_dense_bf16_256x128x64_k2 [256, 128, 64] 4 2 2 false;
            sm90_dense_f16_128x128x64_k2 sm90_dense_bf16_128x128x64_k2 [128, 128, 64] 6 2 2 false;
            sm90_dense_f16_64x128x64 sm90_dense_bf16_64x128x64 [64, 128, 64] 8 1 1 false;
            sm90_dense_f16_16x128x64 sm90_dense_bf16_16x128x64 [16, 128, 64] 11 1 1 false;
        }
    };
}

/// `sm90_sparse24_*`: wgmma.sp m64nNk32, W packed in Packed24. With few tokens W streams from memory: where blocks fill
/// the GPU, fewer stages ask for it in better order, and where they do not, more stages ask for enough.
#[macro_export]
macro_rules! sm90_sparse24_instances {
    ($each:ident) => {
        $each! {
            Sm90Sparse24
            sm90_sparse24_f16_256x128x64_c2 sm90_sparse24_bf16_256x128x64_c2 [256, 128, 64] 5 2 1 false;
            sm90_sparse24_f16_256x128x64 sm90_sparse24_bf16_256x128x64 [256, 128, 64] 5 1 1 false;
            sm90_sparse24_f16_192x256x64_c2 sm90_sparse24_bf16_192x256x64_c2 [192, 256, 64] 4 2 1 false;
            sm90_sparse24_f16_160x256x64 sm90_sparse24_bf16_160x256x64 [160, 256, 64] 5 1 1 false;
            sm90_sparse24_f16_128x256x128 sm90_sparse24_bf16_128x256x128 [128, 256, 128] 3 1 1 false;
            sm90_sparse24_f16_128x128x128_pingpong sm90_sparse24_bf16_128x128x128_pingpong [128, 128, 128] 4 1 1 true;
            sm90_sparse24_f16_128x128x64_pingpong sm90_sparse24_bf16_128x128x64_pingpong [128, 128, 64] 7 1 1 true;
            sm90_sparse24_f16_256x128x64_k2 sm90_sparse24_bf16_256x128x64_k2 [256, 128, 64] 5 2 2 false;
            sm90_sparse24_f16_128x128x64_k2 sm90_sparse24_bf16_128x128x64_k2 [128, 128, 64] 7 2 2 false;
            sm90_sparse24_f16_64x128x128 sm90_sparse24_bf16_64x128x128 [64, 128, 128] 6 1 1 false;
            sm90_sparse24_f16_64x128x128_s5 sm90_sparse24_bf16_64x128x128_s5 [64, 128, 128] 5 1 1 false;
            sm90_sparse24_f16_32x128x128 sm90_sparse24_bf16_32x128x128 [32, 128, 128] 7 1 1 false;
            sm90_sparse24_f16_16x128x128 sm90_sparse24_bf16_16x128x128 [16, 128, 128] 8 1 1 false;
            sm90_sparse24_f16_16x128x128_s6 sm90_sparse24_bf16_16x128x128_s6 [16, 128, 128] 6 1 1 false;
        }
    };
}

/// Which source a kernel is an instance of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Dense, wmma.
    WmmaDense,
    /// Dense, mma.sync.
    Sm80Dense,
    /// 2:4 sparse, mma.sp.
    Sm80Sparse24,
    /// Dense, wgmma.
    Sm90Dense,
    /// 2:4 sparse, wgmma.sp.
    Sm90Sparse24,
}

/// Element type of X, W and bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
}

/// The type that a kernel sums products in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Accumulator {
    /// f32.
    #[default]
    F32,
    /// f16: twice the rate on RTX 3090 and 4090, for f16 operands only. Each `mma` rounds the running sum to
    /// 11 bits, and sums from 65520 on are infinite. Parts of a split K are added in f32.
    F16,
}

impl Accumulator {
    /// How many parts of its tokens a warp stages one after the other in the epilogue, each in the place of
    /// the one before. Two halve what staging needs, which lets 128x256 fit 99 KiB.
    pub const fn staging_parts(self) -> u32 {
        match self {
            Self::F32 => 1,
            Self::F16 => 2,
        }
    }
}

/// One GEMM kernel: what a launcher must know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Entry name in the PTX.
    pub name: &'static str,
    /// The source it is an instance of.
    pub family: Family,
    /// Element type of the operands.
    pub dtype: Dtype,
    /// The type that products are summed in.
    pub accumulator: Accumulator,
    /// Tokens of Y per block.
    pub bm: u32,
    /// Features of Y per block.
    pub bn: u32,
    /// K per pipeline stage.
    pub bk: u32,
    /// Warps along tokens.
    pub warps_m: u32,
    /// Warps along features.
    pub warps_n: u32,
    /// Stages of the cp.async pipeline.
    pub stages: u32,
    /// Blocks that a multiprocessor is meant to run at a time; registers are allotted for them.
    pub blocks_per_sm: u32,
    /// Blocks of a cluster, which take tiles of neighbouring features, or share tiles.
    pub cluster: u32,
    /// Blocks of a cluster that share the K of a tile.
    pub slices: u32,
    /// Hopper: whether each consumer warpgroup has a tile of its own.
    pub ping_pong: bool,
}

/// Padding of a shared-memory row of the wmma kernels, in 16-bit elements: 16 bytes shift each row
/// by four banks, so that eight rows read at one column fall into all 32.
pub const WMMA_ROW_PADDING: u32 = 8;

impl Family {
    /// Whether W is given as Packed24.
    pub const fn is_sparse(self) -> bool {
        matches!(self, Self::Sm80Sparse24 | Self::Sm90Sparse24)
    }

    /// Whether it is made of instructions that sm_90 alone has.
    pub const fn is_hopper(self) -> bool {
        matches!(self, Self::Sm90Dense | Self::Sm90Sparse24)
    }

    /// Padding of an epilogue staging row in f32: see `gpu/src/epilogue.rs` for the bank arithmetic.
    pub const fn staging_padding(self) -> u32 {
        match self {
            // Lanes 4g + q write element (2q, g): pitch = 4 (mod 32) spreads 8q + g over all banks.
            Self::Sm80Sparse24 => 4,
            // Lanes 4g + q write the pair (g, 2q): pitch = 8 (mod 32) spreads 8g + 2q.
            Self::Sm80Dense | Self::WmmaDense => 8,
            Self::Sm90Dense | Self::Sm90Sparse24 => hopper::PART_PADDING,
        }
    }

    /// Bytes of one pipeline stage of a `bm` x `bn` x `bk` tile.
    pub const fn stage_bytes(self, bm: u32, bn: u32, bk: u32) -> u32 {
        match self {
            Self::WmmaDense => (bm + bn) * (bk + WMMA_ROW_PADDING) * 2,
            Self::Sm80Dense | Self::Sm90Dense => (bm + bn) * bk * 2,
            // X, values (half of K), metadata (128 bytes for each 16 rows and K = 64).
            Self::Sm80Sparse24 | Self::Sm90Sparse24 => bm * bk * 2 + bn * bk + bn * bk / 8,
        }
    }
}

impl Instance {
    /// The block of a Hopper kernel.
    pub const fn hopper(&self) -> Option<hopper::Shape> {
        if !self.family.is_hopper() {
            return None;
        }
        Some(hopper::Shape {
            sparse: self.family.is_sparse(),
            bm: self.bm,
            bn: self.bn,
            bk: self.bk,
            stages: self.stages,
            cluster: self.cluster / self.slices,
            slices: self.slices,
            ping_pong: self.ping_pong,
        })
    }

    /// Whether its blocks may share a tile.
    pub const fn shares(&self) -> bool {
        match self.hopper() {
            Some(shape) => shape.shares(),
            None => true,
        }
    }

    /// Threads of a block.
    pub const fn threads(&self) -> u32 {
        self.warps_m * self.warps_n * 32
    }

    /// Dynamic shared memory of a block in bytes: the pipeline, and after it, in the same place, each
    /// warp's part of the Y tile in f32, or one of the parts of it that are staged in turn.
    pub const fn shared_bytes(&self) -> u32 {
        if let Some(shape) = self.hopper() {
            return shape.shared_bytes();
        }
        let pipeline = self.stages * self.family.stage_bytes(self.bm, self.bn, self.bk);
        let pitch = self.bn / self.warps_n + self.family.staging_padding();
        let staging = self.warps_n * self.bm * pitch * 4 / self.accumulator.staging_parts();
        if pipeline > staging { pipeline } else { staging }
    }
}

macro_rules! entries {
    ($family:ident $($f16:ident $bf16:ident [$bm:literal, $bn:literal, $bk:literal]
        [$wm:literal, $wn:literal] $stages:literal $blocks:literal;)*) => {
        &[$(
            entries!(@one $family F16 F32 $f16 $bm $bn $bk $wm $wn $stages $blocks),
            entries!(@one $family Bf16 F32 $bf16 $bm $bn $bk $wm $wn $stages $blocks),
        )*]
    };
    ($family:ident $($acc16:ident [$bm:literal, $bn:literal, $bk:literal]
        [$wm:literal, $wn:literal] $stages:literal $blocks:literal;)*) => {
        &[$(entries!(@one $family F16 F16 $acc16 $bm $bn $bk $wm $wn $stages $blocks)),*]
    };
    (@one $family:ident $dtype:ident $accumulator:ident $name:ident $bm:literal $bn:literal $bk:literal
        $wm:literal $wn:literal $stages:literal $blocks:literal) => {
        Instance {
            name: stringify!($name),
            family: Family::$family,
            dtype: Dtype::$dtype,
            accumulator: Accumulator::$accumulator,
            bm: $bm,
            bn: $bn,
            bk: $bk,
            warps_m: $wm,
            warps_n: $wn,
            stages: $stages,
            blocks_per_sm: $blocks,
            cluster: 1,
            slices: 1,
            ping_pong: false,
        }
    };
    ($family:ident $($f16:ident $bf16:ident [$bm:literal, $bn:literal, $bk:literal]
        $stages:literal $cluster:literal $slices:literal $ping_pong:literal;)*) => {
        &[$(
            entries!(@hopper $family F16 $f16 $bm $bn $bk $stages $cluster $slices $ping_pong),
            entries!(@hopper $family Bf16 $bf16 $bm $bn $bk $stages $cluster $slices $ping_pong),
        )*]
    };
    (@hopper $family:ident $dtype:ident $name:ident $bm:literal $bn:literal $bk:literal
        $stages:literal $cluster:literal $slices:literal $ping_pong:literal) => {
        Instance {
            cluster: $cluster,
            slices: $slices,
            ping_pong: $ping_pong,
            // Its warpgroups, side by side.
            ..entries!(@one $family $dtype F32 $name $bm $bn $bk 1 12 $stages 1)
        }
    };
}

/// Every GEMM kernel, by family and accumulator.
pub const INSTANCES: [&[Instance]; 7] = [
    wmma_dense_instances!(entries),
    sm80_dense_instances!(entries),
    sm80_sparse24_instances!(entries),
    sm80_dense_acc16_instances!(entries),
    sm80_sparse24_acc16_instances!(entries),
    sm90_dense_instances!(entries),
    sm90_sparse24_instances!(entries),
];

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{format, string::String};

    #[test]
    fn names_say_what_an_instance_is() {
        for i in INSTANCES.into_iter().flatten() {
            let family = match i.family {
                Family::WmmaDense => "wmma_dense",
                Family::Sm80Dense => "sm80_dense",
                Family::Sm80Sparse24 => "sm80_sparse24",
                Family::Sm90Dense => "sm90_dense",
                Family::Sm90Sparse24 => "sm90_sparse24",
            };
            let dtype = match i.dtype {
                Dtype::F16 => "f16",
                Dtype::Bf16 => "bf16",
            };
            let accumulator = match i.accumulator {
                Accumulator::F32 => "",
                Accumulator::F16 => "_acc16",
            };
            let tile = format!("{}x{}x{}", i.bm, i.bn, i.bk);
            let cluster = match (i.cluster, i.slices) {
                (1, 1) => String::new(),
                (blocks, 1) => format!("_c{blocks}"),
                (_, slices) => format!("_k{slices}"),
            };
            let ping_pong = if i.ping_pong { "_pingpong" } else { "" };
            let name = format!("{family}_{dtype}_{tile}{cluster}{ping_pong}{accumulator}");
            // Of kernels that differ in nothing else, one says how many stages it has.
            assert!(i.name == name || i.name == format!("{name}_s{}", i.stages), "{}", i.name);
        }
    }

    #[test]
    fn every_family_but_hoppers_fits_99_kib() {
        // sm_86 and sm_89 allow 99 KiB of shared memory a block.
        let fits = |i: &&Instance| i.shared_bytes() <= 99 * 1024;
        for list in INSTANCES.into_iter().filter(|list| !list[0].family.is_hopper()) {
            for dtype in [Dtype::F16, Dtype::Bf16] {
                let mut of_type = list.iter().filter(|i| i.dtype == dtype);
                let none = of_type.clone().next().is_none();
                assert!(of_type.any(|i| fits(&i)) || none && dtype == Dtype::Bf16);
            }
        }
        let acc16 = |i: &&Instance| i.accumulator == Accumulator::F16;
        let dense = INSTANCES.into_iter().flatten().filter(|i| i.family == Family::Sm80Dense);
        assert!(dense.filter(acc16).all(|i| fits(&i)));
    }

    #[test]
    fn sums_in_f16_are_of_f16() {
        let mut acc16 =
            INSTANCES.into_iter().flatten().filter(|i| i.accumulator == Accumulator::F16);
        assert!(acc16.all(|i| i.dtype == Dtype::F16 && i.family != Family::WmmaDense));
    }

    #[test]
    fn what_takes_the_place_of_stages_fits() {
        for shape in INSTANCES.into_iter().flatten().filter_map(Instance::hopper) {
            let stages = shape.stages * shape.stage_bytes();
            // The last boxes of a consumer that overlaps its tiles, and half of the sums of a shared tile.
            let boxes = shape.parts() * shape.box_bytes();
            let overlaps = shape.overlapping_blocks() > 0;
            assert!(!overlaps || boxes <= shape.stage_bytes(), "{shape:?}");
            assert!(shape.slices == 1 || shape.bm * shape.bn / 2 * 4 <= stages, "{shape:?}");
            // Each of two consumers has a stage of its own for them, and any tile is long enough for its end.
            assert!(!overlaps || shape.consumers() == 2 && shape.stages > 1, "{shape:?}");
            let longest = shape.stages.min(shape.overlapping_blocks().max(1));
            assert!(shape.stagger() < longest, "{shape:?}");
        }
    }

    #[test]
    fn none_exceeds_hopper() {
        assert!(INSTANCES.into_iter().flatten().all(|i| i.shared_bytes() <= hopper::MAX_SHARED));
    }
}

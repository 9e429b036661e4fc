//! Special registers (PTX ISA, "Special registers").

use crate::launch::Context;
use crate::unit::Block;

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    ClusterId(usize),
    NClusterId(usize),
    ClusterCtaid(usize),
    ClusterNctaid(usize),
    ClusterCtarank,
    ClusterNctarank,
    LaneMaskEq,
    LaneMaskLe,
    LaneMaskLt,
    LaneMaskGe,
    LaneMaskGt,
    DynamicSharedSize,
    TotalSharedSize,
    /// Instructions the warp has executed; read anew by every instruction that names it.
    Clock,
}

impl Special {
    /// The special register of a name, and its width in bits.
    pub fn parse(name: &str) -> Option<(Self, u32)> {
        if let Some((base, axis)) = name.rsplit_once('.') {
            let axis = ["x", "y", "z"].iter().position(|a| *a == axis)?;
            let special = match base {
                "%tid" => Self::Tid(axis),
                "%ntid" => Self::Ntid(axis),
                "%ctaid" => Self::Ctaid(axis),
                "%nctaid" => Self::Nctaid(axis),
                "%clusterid" => Self::ClusterId(axis),
                "%nclusterid" => Self::NClusterId(axis),
                "%cluster_ctaid" => Self::ClusterCtaid(axis),
                "%cluster_nctaid" => Self::ClusterNctaid(axis),
                _ => return None,
            };
            return Some((special, 32));
        }
        Some(match name {
            "%laneid" => (Self::LaneId, 32),
            "%warpid" => (Self::WarpId, 32),
            "%nwarpid" => (Self::NWarpId, 32),
            "%smid" => (Self::SmId, 32),
            "%nsmid" => (Self::NSmId, 32),
            "%gridid" => (Self::GridId, 64),
            "%cluster_ctarank" => (Self::ClusterCtarank, 32),
            "%cluster_nctarank" => (Self::ClusterNctarank, 32),
            "%lanemask_eq" => (Self::LaneMaskEq, 32),
            "%lanemask_le" => (Self::LaneMaskLe, 32),
            "%lanemask_lt" => (Self::LaneMaskLt, 32),
            "%lanemask_ge" => (Self::LaneMaskGe, 32),
            "%lanemask_gt" => (Self::LaneMaskGt, 32),
            "%dynamic_smem_size" => (Self::DynamicSharedSize, 32),
            "%total_smem_size" => (Self::TotalSharedSize, 32),
            "%clock" => (Self::Clock, 32),
            "%clock64" | "%globaltimer" => (Self::Clock, 64),
            _ => return None,
        })
    }

    /// Its value in a lane of a warp.
    pub fn value(self, context: &Context<'_>, block: &Block, warp: u32, lane: u32) -> u64 {
        let [bx, by, bz] = context.block;
        let cluster = context.cluster;
        let thread = warp * 32 + lane;
        let value = match self {
            Self::Tid(0) => thread % bx,
            Self::Tid(1) => thread / bx % by,
            Self::Tid(_) => thread / bx / by,
            Self::Ntid(axis) => context.block[axis],
            Self::Ctaid(axis) => block.ctaid[axis],
            Self::Nctaid(axis) => context.grid[axis],
            Self::LaneId => lane,
            Self::WarpId => warp,
            Self::NWarpId => (bx * by * bz).div_ceil(32),
            // Blocks are dealt to SMs in order; nothing may depend on it.
            Self::SmId => (block.linear % u64::from(context.processors)) as u32,
            Self::NSmId => context.processors,
            Self::GridId => 1,
            Self::ClusterId(axis) => block.ctaid[axis] / cluster[axis],
            Self::NClusterId(axis) => context.grid[axis] / cluster[axis],
            Self::ClusterCtaid(axis) => block.ctaid[axis] % cluster[axis],
            Self::ClusterNctaid(axis) => cluster[axis],
            Self::ClusterCtarank => {
                let [x, y, z] = [0, 1, 2].map(|axis| block.ctaid[axis] % cluster[axis]);
                (z * cluster[1] + y) * cluster[0] + x
            }
            Self::ClusterNctarank => cluster.iter().product(),
            Self::LaneMaskEq => 1 << lane,
            Self::LaneMaskLt => (1 << lane) - 1,
            Self::LaneMaskLe => (1 << lane) | ((1 << lane) - 1),
            Self::LaneMaskGe => !((1 << lane) - 1),
            Self::LaneMaskGt => !((1 << lane) | ((1 << lane) - 1)),
            Self::DynamicSharedSize => context.dynamic_shared as u32,
            Self::TotalSharedSize => (context.program.shared_bytes + context.dynamic_shared) as u32,
            Self::Clock => 0,
        };
        value.into()
    }
}

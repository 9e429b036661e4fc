//! `sm90_dense_*` and `sm90_sparse24_*`: GEMM on wgmma and wgmma.sp, fed by tensor maps.
//!
//! A kernel is a layout (`layout::hopper`), a producer ([`produce`](super::produce)), and consumers
//! ([`consume`](super::consume)), which finish what they have multiplied ([`finish`](super::finish)). Blocks are
//! persistent; a block, or a cluster of blocks with tiles of neighbouring features, walks through its segments
//! (`work`), and so do its warpgroups, each for itself (a consumer's way is [`tiles`](super::tiles)). Operands pass
//! from producer to consumers through a ring of stages ([`ring`](super::ring)), so the producer runs ahead into the
//! next tile while one is finished and stored ([`store`](super::store)).
//!
//! Two blocks of a cluster may share the K of each tile instead ([`slices`](super::slices)). Then a cluster has one
//! tile, and blocks are not persistent.
//!
//! Three consumers leave no registers for a fourth warpgroup: a launch has the same number for all threads, at most
//! 128 where there are 512, and `ptxas` wants 154 for an instruction with 128 accumulators. So one of their threads is
//! the producer: it fills a stage again when it has started the products of the next, if there are any, and all have
//! read it.
//!
//! Constraints: X (and a dense W) begin at a multiple of 16 bytes, and so do their rows, as tensor maps demand;
//! the host launches no other product. M, N, K are at least 1.

use super::consume::Consumer;
use super::produce::{self, Producer};
use super::ring::Ring;
use super::tiles::Tiles;
use crate::k_blocks;
use crate::work::{Segments, Team};
use cuda_std::convert::Convert;
use cuda_std::wgmma::Wgmma;
use cuda_std::{cluster, setmaxnreg, shared, thread, warp};
use layout::columns::Columns;
use layout::hopper::{Shape, WARPGROUP};
use layout::params::{GemmParams, HopperParams, OVERLAPPED};
use layout::raster::{Divisor, Raster};

/// Registers of a thread of a producer's warpgroup, and of a consumer beside it: 40 + 2 * 232 = 3 * 168.
const FEW: u32 = 40;
const MANY: u32 = 232;

/// The kernel of one instance. Const parameters but the type repeat, or follow from, `shape`, because Rust does not
/// compute const parameters: instructions and accumulators of a consumer, metadata words of a stage, blocks of a
/// cluster that load X together, threads of a team, boxes of Y that may be under way while another is staged, the
/// stages of `Shape::lead`.
///
/// # Safety
/// `p` describes valid operands, `maps` is the address of their tensor maps; threads, cluster and shared memory of
/// a block are those of the instance.
#[inline(always)]
unsafe fn gemm<
    T: Wgmma<R> + Convert,
    const S: usize,
    const R: usize,
    const WORDS: usize,
    const CLUSTER: u32,
    const TEAM: u32,
    const PENDING: u32,
    const LEAD: usize,
>(
    shape: Shape,
    p: &GemmParams,
    maps: u64,
    wide: u32,
    bands: Divisor,
) {
    let warpgroup = thread::thread_idx_x() / WARPGROUP;
    let rank = if CLUSTER == 1 { 0 } else { cluster::rank() };
    let ring = Ring::new(shape);
    // SAFETY: one thread, before the barrier below; the maps are the caller's.
    unsafe {
        if thread::thread_idx_x() == 0 {
            produce::prefetch(shape, maps);
            ring.init();
        }
    }

    // Tiles of a cluster: as many features as its blocks have together.
    let columns = Columns::new(shape, wide);
    let (tiles_m, tiles_n) = (p.m.div_ceil(shape.bm), columns.count(p.n));
    // How many columns there are is found anew for each tile, and takes no register in between.
    let raster = Raster { tiles_m, band: p.band, bands };
    let tile = |index: u32| columns.tile(index, raster, thread::anchored(p.n), rank);
    let blocks = CLUSTER * shape.slices;
    let (worker, workers) = (thread::block_idx_x() / blocks, thread::grid_dim_x() / blocks);

    let (tiles, k_blocks) = (tiles_m * tiles_n, k_blocks(p, shape.bk));
    let whole = shape.mixes() || shape.slices > 1;
    let mut segments = Segments::new(p, whole, tiles, k_blocks, worker, workers);
    if shape.slices > 1 {
        segments.cut(cluster::rank(), shape.slices);
    }
    // Of several rows of tiles, the first leaves W in L2 for the others.
    let streams = shape.streams() && tiles_m == 1;
    let mut producer = Producer { shape, p, maps, rank, tile: &tile, ring, streams };
    // Whoever fills the stages finds out with what while the barriers are made.
    let produces = warpgroup == shape.consumers();
    // Whether the thread is the one that starts copies.
    let fills = || {
        let warp = if shape.consumers() == 3 { 0 } else { shape.consumers() * WARPGROUP / 32 };
        thread::anchored(thread::thread_idx_x()) / 32 == warp && warp::elect()
    };
    let walk = match shape.consumers() {
        3 => Some(producer.walk(worker, workers, tiles, k_blocks)),
        _ => None,
    };
    let mut filled = segments.clone();
    let run = if produces { producer.run(&mut filled) } else { None };
    sync_all::<CLUSTER>();

    let way = #[inline(always)]
    || {
        let member = if shape.ping_pong { 0 } else { warpgroup };
        let thread = thread::thread_idx_x() % WARPGROUP;
        let consumer = Consumer::new(shape, warpgroup, member, thread);
        let team = Team {
            thread: member * WARPGROUP + thread,
            worker,
            blocks: CLUSTER,
            rank,
            flag: shared::base() + shape.flag_at(warpgroup - member),
        };
        Tiles { p, maps, consumer, team, tile: &tile }
    };
    // SAFETY: roles are whole warpgroups, and the registers add up; operands are the caller's.
    unsafe {
        if let Some(mut walk) = walk {
            // One thread fills all stages now, and each one again when all have read it.
            if fills() {
                for _ in 0..thread::opaque(shape.stages) {
                    producer.next(&mut walk);
                }
            }
            way().one_by_one::<T, S, R, WORDS, CLUSTER, TEAM, PENDING>(
                ring,
                segments,
                #[inline(always)]
                || {
                    if fills() {
                        producer.next(&mut walk);
                    }
                    warp::sync_warp();
                },
            );
        } else if produces {
            setmaxnreg::decrease::<FEW>();
            if fills() {
                producer.all(filled, run);
            }
            if shape.slices > 1 {
                // Those of `Tiles::sliced`.
                cluster::sync();
                cluster::sync();
            }
        } else {
            setmaxnreg::increase::<MANY>();
            let way = way();
            if shape.slices > 1 {
                way.sliced::<T, R, WORDS, PENDING>(ring, segments);
            } else if LEAD > 0 && p.aligned & OVERLAPPED != 0 {
                way.overlapped::<T, S, R, WORDS, CLUSTER, PENDING, LEAD>(ring, segments);
            } else if shape.behind() > 0 && p.aligned & OVERLAPPED != 0 {
                way.stored_behind::<T, R, WORDS, CLUSTER, PENDING>(ring, segments);
            } else {
                way.one_by_one::<T, S, R, WORDS, CLUSTER, TEAM, PENDING>(ring, segments, || {});
            }
        }
    }
    // Nor does a block end while others of the cluster fill its stages or arrive at its barriers.
    if CLUSTER > 1 {
        cluster::sync();
    }
}

/// Brings all threads of the block, or of the cluster, together.
#[inline(always)]
fn sync_all<const CLUSTER: u32>() {
    if CLUSTER == 1 { thread::sync_threads() } else { cluster::sync() }
}

macro_rules! define {
    (Sm90Dense $($lines:tt)*) => { define!(@each false $($lines)*); };
    (Sm90Sparse24 $($lines:tt)*) => { define!(@each true $($lines)*); };
    (@each $sparse:literal $($f16:ident $bf16:ident [$bm:literal, $bn:literal, $bk:literal]
        $stages:literal $cluster:literal $slices:literal $ping_pong:literal;)*) => {$(
        define!(@one $f16 F16 $sparse $bm $bn $bk $stages $cluster $slices $ping_pong);
        define!(@one $bf16 Bf16 $sparse $bm $bn $bk $stages $cluster $slices $ping_pong);
    )*};
    (@one $name:ident $type:ident $sparse:literal $bm:literal $bn:literal $bk:literal
        $stages:literal $cluster:literal $slices:literal $ping_pong:literal) => {
        /// An instance of the module's kernel; its name says types and tile.
        ///
        /// # Safety
        /// `p` describes valid operands and, with the grid, a schedule that covers Y; threads, cluster and shared
        /// memory of a block are those of the instance.
        #[::cuda_std::kernel(launch_bounds(::layout::hopper::THREADS, 1))]
        pub unsafe fn $name(p: HopperParams) {
            const SHAPE: Shape = Shape {
                sparse: $sparse,
                bm: $bm,
                bn: $bn,
                bk: $bk,
                stages: $stages,
                cluster: $cluster / $slices,
                slices: $slices,
                ping_pong: $ping_pong,
            };
            let maps = ::cuda_std::parameter_address!($name);
            // SAFETY: as the caller vouches.
            unsafe {
                gemm::<
                    ::layout::packed24::$type,
                    { SHAPE.subtiles() as usize },
                    { $bm / 2 },
                    { $bk / 64 },
                    { $cluster / $slices },
                    { SHAPE.team() * WARPGROUP },
                    { SHAPE.boxes() - 1 },
                    { SHAPE.lead() as usize },
                >(SHAPE, &p.gemm, maps, p.wide, p.bands)
            }
        }
    };
}

layout::sm90_dense_instances!(define);
layout::sm90_sparse24_instances!(define);

//! `cuda_std`: what a kernel calls. Each file wraps one PTX instruction family in inline assembly.
//!
//! | module | instructions |
//! |---|---|
//! | [`thread`] | special registers, `bar.sync` |
//! | [`warp`] | `bar.warp.sync` |
//! | [`shuffle`] | `shfl.sync` |
//! | [`atomic`] | `atom`, `red` |
//! | [`global`] | `ld.global`, `st.global` |
//! | [`shared`] | dynamic shared memory, `ld.shared`, `st.shared` |
//! | [`cp_async`] | `cp.async` and its groups |
//! | [`ldmatrix`] | `ldmatrix` |
//! | [`wmma`] | `wmma.load`, `wmma.mma`, `wmma.store` |
//! | [`mma`] | `mma.sync` |
//! | [`mma_sp`] | `mma.sp::ordered_metadata` |
//! | [`permute`] | `prmt` |
//! | [`convert`] | `cvt`, and the approximate `ex2` and `rcp` of the epilogue |
//! | [`pair`] | `mul`, `fma`, `max` and `tanh` of two 16-bit floats |
//!
//! For sm_90a alone:
//!
//! | module | instructions |
//! |---|---|
//! | `mbarrier` | `mbarrier.*`, `fence.mbarrier_init` |
//! | `tma` | `cp.async.bulk.tensor` and its groups, `prefetch.tensormap`, `fence.proxy.tensormap` |
//! | `wgmma` | `wgmma.mma_async`, also sparse, and its groups |
//! | `cluster` | `barrier.cluster`, `mapa` |
//! | `stmatrix` | `stmatrix` |
//! | `setmaxnreg` | `setmaxnreg` |
//! | `fence` | `fence.proxy.async` |
//!
//! Global memory is addressed by `u64`, shared memory by `u32` (an offset in the shared window):
//! never by Rust pointers, which would become generic accesses. Every function says which threads
//! must reach it together; where nothing is said, any thread may call it alone.
#![no_std]
#![cfg(target_arch = "nvptx64")]
#![feature(asm_experimental_arch)]

pub mod atomic;
#[cfg(sm_90a)]
pub mod cluster;
pub mod convert;
pub mod cp_async;
#[cfg(sm_90a)]
pub mod fence;
pub mod global;
pub mod ldmatrix;
#[cfg(sm_90a)]
pub mod mbarrier;
pub mod mma;
pub mod mma_sp;
pub mod pair;
pub mod permute;
#[cfg(sm_90a)]
pub mod setmaxnreg;
pub mod shared;
pub mod shuffle;
#[cfg(sm_90a)]
pub mod stmatrix;
pub mod thread;
#[cfg(sm_90a)]
pub mod tma;
pub mod warp;
#[cfg(sm_90a)]
pub mod wgmma;
pub mod wmma;

pub use cuda_std_macros::kernel;

/// The generic address of the parameter block of the kernel `$kernel`, from inside it: what takes tensor maps
/// by address can have them from there. `cuda_builder` aligns the block to 64 bytes.
#[cfg(sm_90a)]
#[macro_export]
macro_rules! parameter_address {
    ($kernel:ident) => {{
        let address: u64;
        // SAFETY: computes an address; LLVM calls an entry's first parameter so.
        unsafe {
            ::core::arch::asm!(
                concat!("cvta.param.u64 {}, ", stringify!($kernel), "_param_0;"),
                out(reg64) address,
                options(pure, nomem, nostack),
            );
        }
        address
    }};
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

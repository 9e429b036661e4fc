//! Fences between the generic and the async proxy (PTX ISA, "fence.proxy", sm_90).

use core::arch::asm;

/// Lets the async proxy (`tma`, `wgmma`) see what this thread has written to shared memory, and orders
/// this thread's reads of it before the async proxy's later writes. A barrier after it extends that to
/// copies and products that another thread starts.
#[inline(always)]
pub fn proxy_async_shared() {
    // SAFETY: orders memory accesses.
    unsafe { asm!("fence.proxy.async.shared::cta;", options(nostack)) }
}

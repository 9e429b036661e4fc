//! The `#[kernel]` attribute, which turns a Rust function into a PTX entry.
//!
//! ```ignore
//! /// Doubles every element.
//! #[kernel(launch_bounds(THREADS, 1))]
//! pub unsafe fn double(values: *mut f32, len: u32) { .. }
//! ```
//!
//! The crate that holds the kernels needs `#![feature(abi_ptx, asm_experimental_arch)]`.

mod kernel;

use proc_macro::TokenStream;

/// Makes an `unsafe fn` a PTX entry that a host can launch under the function's own name.
///
/// `#[kernel]` alone sets the calling convention and keeps the name. The function must be a free
/// `unsafe fn` without generics and without a return value.
///
/// `#[kernel(launch_bounds(MAX_THREADS, MIN_BLOCKS))]` also tells the assembler the launch shape:
/// at most `MAX_THREADS` threads in a block, and registers sparing enough for `MIN_BLOCKS` blocks
/// to share a multiprocessor. `MIN_BLOCKS` may be left out. Both are constant integer expressions.
/// rustc knows no such attribute, so the numbers travel as a comment in the module's assembly
/// (`// launch_bounds NAME 384 1`), which `cuda_builder` turns into `.maxntid` and
/// `.minnctapersm`.
#[proc_macro_attribute]
pub fn kernel(options: TokenStream, item: TokenStream) -> TokenStream {
    kernel::expand(options.into(), item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

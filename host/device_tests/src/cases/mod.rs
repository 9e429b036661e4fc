//! The list of cases.

mod data;
mod pairs;
mod plain;
mod products;
mod sync;
mod tensor;

use crate::case::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = plain::cases();
    all.extend(sync::cases());
    all.extend(tensor::cases());
    all.extend(products::cases());
    all.extend(pairs::cases());
    all
}

/// The case of that name.
///
/// # Panics
/// If there is none.
pub fn by_name(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"))
}

/// Hands the names of all cases to a macro, which can make a test of each.
#[macro_export]
macro_rules! for_each_case {
    ($callback:ident) => {
        $callback! {
            vector_add transpose block_reduce histogram take_places
            mbarrier_ring setmaxnreg_roles stmatrix_plain stmatrix_trans
            tensor_copy_none_inside tensor_copy_none_low tensor_copy_none_high
            tensor_copy_32_inside tensor_copy_32_low tensor_copy_32_high
            tensor_copy_64_inside tensor_copy_64_low tensor_copy_64_high
            tensor_copy_128_inside tensor_copy_128_low tensor_copy_128_high
            tensor_copy_outside
            tensor_ring tensor_multicast
            tensor_store_none_inside tensor_store_64_inside tensor_store_128_inside
            tensor_store_128_high
            wgmma_f16_n8_shared wgmma_f16_n64_shared wgmma_f16_n256_shared
            wgmma_f16_n8_registers wgmma_f16_n64_registers wgmma_f16_n256_registers
            wgmma_bf16_n64_shared wgmma_bf16_n64_registers
            wgmma_f16_n64_swizzle_none wgmma_f16_n64_swizzle_32 wgmma_f16_n64_swizzle_64
            wgmma_sp_f16_n8_shared wgmma_sp_f16_n64_shared wgmma_sp_f16_n256_shared
            wgmma_sp_f16_n8_registers wgmma_sp_f16_n64_registers wgmma_sp_f16_n256_registers
            wgmma_sp_bf16_n64_shared wgmma_sp_bf16_n64_registers
            pairs_f16 pairs_bf16
        }
    };
}

//! Aligns the parameters whose address a kernel takes.
//!
//! A tensor map in a parameter block must lie at a multiple of 64, and rustc's internal error on parameter types
//! that are aligned so keeps the kernel from saying it. So an entry that takes a parameter's address
//! (`cvta.param`, see `cuda_std::parameter_address`) gets its parameters at multiples of 64 here.

use crate::ptx;

/// What such an entry contains.
const ADDRESS: &str = "cvta.param";
/// How rustc declares a parameter block, and what becomes of it.
const BLOCK: &str = ".param .align 8 .b8";
const ALIGNED: &str = ".param .align 64 .b8";

/// Aligns the parameter blocks of all entries in `text` that take a parameter's address.
pub fn apply(text: &str) -> String {
    let blanked = ptx::blank(text);
    let mut aligned = String::with_capacity(text.len());
    let mut copied = 0;
    for function in ptx::functions(&blanked) {
        let Some(body) = function.body.filter(|_| function.is_entry) else { continue };
        if blanked[body.clone()].contains(ADDRESS) {
            aligned.push_str(&text[copied..function.start]);
            aligned.push_str(&text[function.start..body.start].replace(BLOCK, ALIGNED));
            copied = body.start;
        }
    }
    aligned.push_str(&text[copied..]);
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, align: u32, body: &str) -> String {
        format!(
            ".visible .entry {name}(\n\t.param .align {align} .b8 {name}_param_0[664]\n)\n{{\n{body}\n}}\n"
        )
    }

    #[test]
    fn only_parameters_whose_address_is_taken_are_aligned() {
        let address = "\tcvta.param.u64 %rd1, b_param_0;";
        let plain = entry("a", 8, "\tret; // cvta.param");
        let text = format!("{plain}{}{plain}", entry("b", 8, address));
        assert_eq!(apply(&text), format!("{plain}{}{plain}", entry("b", 64, address)));
    }
}

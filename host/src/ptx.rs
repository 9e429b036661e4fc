//! The PTX that the build made of gpu/, and one kernel of it at a time.

use crate::constants::Constants;

/// PTX for sm_80 and everything after it.
pub static SM_80: &str = include_str!(concat!(env!("OUT_DIR"), "/sm_80.ptx"));
/// PTX for sm_90a alone: the Hopper kernels.
pub static SM_90A: &str = include_str!(concat!(env!("OUT_DIR"), "/sm_90a.ptx"));
/// BLAKE3 hash of both in hexadecimal.
pub const BLAKE3: &str = env!("PTX_BLAKE3");
/// The compiler that made them: first line of `rustc --version`.
pub const DEVICE_RUSTC: &str = env!("DEVICE_RUSTC");

const ENTRY: &str = ".visible .entry ";

/// The PTX that has the kernel `name`.
pub fn module_of(name: &str) -> &'static str {
    if name.starts_with("sm90_") || name == "tile24" { SM_90A } else { SM_80 }
}

/// The part of `text` that a driver needs for the kernel `name`: what precedes the first entry, and the
/// entry itself. Compiling one kernel takes a fraction of the time of all.
pub fn entry(text: &str, name: &str) -> Option<String> {
    let first = text.find(ENTRY)?;
    let start = text.match_indices(ENTRY).map(|(at, _)| at).find(|at| {
        text[at + ENTRY.len()..].strip_prefix(name).is_some_and(|r| r.starts_with('('))
    })?;
    let end = text[start + ENTRY.len()..]
        .find(ENTRY)
        .map_or(text.len(), |length| start + ENTRY.len() + length);
    Some(format!("{}{}", &text[..first], &text[start..end]))
}

/// What a driver compiles for a launch: the kernel `name` alone, with these parameters compiled in.
pub fn specialized(name: &str, constants: &Constants) -> Option<String> {
    Some(specialize(entry(module_of(name), name)?, name, constants))
}

/// `text`, a module with the kernel `entry`, with these parameters compiled in.
pub fn specialize(text: String, entry: &str, constants: &Constants) -> String {
    constants.words().fold(text, |text, (at, value)| {
        let halves = [(at, value as u32 as u64), (at + 4, value >> 32)];
        let text = replace_load(text, entry, "b64", at, value);
        halves.into_iter().fold(text, |text, (at, half)| replace_load(text, entry, "b32", at, half))
    })
}

/// Writes `value` in place of the load of this type at byte `at` of the parameter block of `entry`. LLVM loads each
/// word once, whole or what is used of it; one that it loads otherwise just stays.
fn replace_load(text: String, entry: &str, kind: &str, at: usize, value: u64) -> String {
    let address = match at {
        0 => format!(", [{entry}_param_0];"),
        _ => format!(", [{entry}_param_0+{at}];"),
    };
    let load = || {
        let found = text.find(&address)?;
        let line = text[..found].rfind('\n')? + 1;
        let load = text[line..found].trim_start();
        let register = load.strip_prefix("ld.param.")?.strip_prefix(kind)?.trim_start();
        Some((found - load.len(), register, found + address.len()))
    };
    match load() {
        Some((start, register, end)) => {
            format!("{}mov.{kind} \t{register}, {value};{}", &text[..start], &text[end..])
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_with_the_header_alone() {
        let text = ".version 8.6\n.visible .entry ab()\n{ret;}\n.visible .entry a()\n{exit;}\n";
        assert_eq!(entry(text, "a").unwrap(), ".version 8.6\n.visible .entry a()\n{exit;}\n");
        assert_eq!(entry(text, "ab").unwrap(), ".version 8.6\n.visible .entry ab()\n{ret;}\n");
        assert_eq!(entry(text, "b"), None);
    }

    #[test]
    fn every_registered_kernel_is_embedded() {
        let gemms = layout::instance::INSTANCES.into_iter().flatten().map(|i| i.name);
        for name in gemms.chain(["compress24_f16", "compress24_bf16", "tile24"]) {
            let one = entry(module_of(name), name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(one.matches(ENTRY).count(), 1);
            assert!(one.contains(".extern .shared"), "{name} lost the shared memory");
        }
    }
}

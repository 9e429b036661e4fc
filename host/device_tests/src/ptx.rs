//! The compiled kernels.

/// Which of the two modules a kernel is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Runs on sm_80 and everything after it.
    Sm80,
    /// Runs on sm_90a alone.
    Sm90a,
}

const ENTRY: &str = ".visible .entry ";

impl Arch {
    /// The module's text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Sm80 => include_str!(concat!(env!("OUT_DIR"), "/sm_80.ptx")),
            Self::Sm90a => include_str!(concat!(env!("OUT_DIR"), "/sm_90a.ptx")),
        }
    }

    /// The part of it that a driver needs for one kernel: a kernel that a driver refuses then hides no
    /// other.
    pub fn entry(self, name: &str) -> Option<String> {
        let text = self.text();
        let starts: Vec<_> = text.match_indices(ENTRY).map(|(at, _)| at).collect();
        let own = starts.iter().position(|at| {
            text[at + ENTRY.len()..].strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
        })?;
        // What follows the last kernel (files of the line tables) belongs to all.
        let (first, last) = (*starts.first()?, *starts.last()?);
        let tail = text[last..].find("\n\t.section").map_or(text.len(), |at| last + at + 1);
        let end = starts.get(own + 1).copied().unwrap_or(tail);
        Some(format!("{}{}{}", &text[..first], &text[starts[own]..end], &text[tail..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_with_what_belongs_to_all() {
        for case in crate::cases() {
            let text = case.arch.entry(case.entry).unwrap();
            assert_eq!(text.matches(ENTRY).count(), 1, "{}", case.name);
            assert!(text.contains(".extern .shared") && text.contains(".file\t1 "));
        }
        assert_eq!(Arch::Sm80.entry("vector"), None);
    }

    #[test]
    fn only_plain_kernels_are_compiled_for_sm_80() {
        assert_eq!(Arch::Sm80.text().matches(ENTRY).count(), 5);
        assert!(Arch::Sm80.entry("tensor_copy").is_none());
    }
}

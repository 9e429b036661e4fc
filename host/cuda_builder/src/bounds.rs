//! Turns the marks that `#[kernel(launch_bounds(..))]` leaves into directives of the entry.
//!
//! rustc has no such attribute. The macro writes `// launch_bounds NAME MAX_THREADS [MIN_BLOCKS]`
//! into the module's assembly; here it becomes `.maxntid MAX_THREADS, 1, 1` and
//! `.minnctapersm MIN_BLOCKS` between the entry's parameters and its body, and the mark goes.

use std::collections::BTreeMap;

use crate::ptx;

const MARK: &str = "// launch_bounds ";

/// Most threads that any GPU allows in a block.
const MAX_THREADS: u32 = 1024;

/// Why a launch-bounds mark cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundsError {
    /// The mark is not of the form that the macro writes, or its numbers are out of range.
    #[error(
        "bad launch bounds `{mark}`: expected a name, 1 to {MAX_THREADS} threads in a block, \
         and optionally at least 1 block on a multiprocessor"
    )]
    Malformed {
        /// The line with the mark.
        mark: String,
    },

    /// There is no entry of that name.
    #[error("launch bounds are given for `{entry}`, but the PTX has no such entry")]
    NoEntry {
        /// The name in the mark.
        entry: String,
    },

    /// Two marks for one entry say different things.
    #[error("launch bounds of `{entry}` are given twice, and differ")]
    Conflict {
        /// The name in the marks.
        entry: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Bounds {
    max_threads: u32,
    min_blocks: Option<u32>,
}

/// Replaces every mark in `text` by directives.
pub fn apply(text: &str) -> Result<String, BoundsError> {
    let (marks, text) = take_marks(text)?;
    let blanked = ptx::blank(&text);
    let bodies: BTreeMap<_, _> = ptx::functions(&blanked)
        .into_iter()
        .filter(|function| function.is_entry)
        .filter_map(|function| Some((function.name, function.body?.start)))
        .collect();

    let mut directives = BTreeMap::new();
    for (entry, bounds) in marks {
        let body =
            bodies.get(entry).ok_or_else(|| BoundsError::NoEntry { entry: entry.to_owned() })?;
        directives.insert(*body, bounds);
    }

    let mut patched = String::with_capacity(text.len());
    let mut copied = 0;
    for (body, bounds) in directives {
        patched.push_str(&text[copied..body]);
        patched.push_str(&format!(".maxntid {}, 1, 1\n", bounds.max_threads));
        if let Some(min_blocks) = bounds.min_blocks {
            patched.push_str(&format!(".minnctapersm {min_blocks}\n"));
        }
        copied = body;
    }
    patched.push_str(&text[copied..]);
    Ok(patched)
}

/// The marks by entry name, and the text without them.
fn take_marks(text: &str) -> Result<(BTreeMap<&str, Bounds>, String), BoundsError> {
    let mut marks = BTreeMap::new();
    let mut rest = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let Some(mark) = line.trim().strip_prefix(MARK) else {
            rest.push_str(line);
            continue;
        };
        let (entry, bounds) =
            parse(mark).ok_or_else(|| BoundsError::Malformed { mark: line.trim().to_owned() })?;
        if marks.insert(entry, bounds).is_some_and(|old| old != bounds) {
            return Err(BoundsError::Conflict { entry: entry.to_owned() });
        }
    }
    Ok((marks, rest))
}

fn parse(mark: &str) -> Option<(&str, Bounds)> {
    let mut words = mark.split_whitespace();
    let entry = words.next()?;
    let max_threads = words.next()?.parse().ok()?;
    let min_blocks = match words.next() {
        Some(word) => Some(word.parse().ok()?),
        None => None,
    };
    let legal = (1..=MAX_THREADS).contains(&max_threads) && min_blocks != Some(0);
    (legal && words.next().is_none()).then_some((entry, Bounds { max_threads, min_blocks }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_marks(marks: &str) -> String {
        format!(
            ".version 8.6\n{marks}\n.visible .entry one(\n\t.param .u32 one_param_0\n)\n{{\n\tret;\n}}\n\
             .visible .entry two()\n{{\n\tret;\n}}\n.func three()\n{{\n\tret;\n}}\n"
        )
    }

    #[test]
    fn marks_become_directives_before_the_body() {
        let got =
            apply(&with_marks("// launch_bounds two 384 1\n\t// launch_bounds one 128")).unwrap();
        let want = ".version 8.6\n\n.visible .entry one(\n\t.param .u32 one_param_0\n)\n\
             .maxntid 128, 1, 1\n{\n\tret;\n}\n.visible .entry two()\n.maxntid 384, 1, 1\n\
             .minnctapersm 1\n{\n\tret;\n}\n.func three()\n{\n\tret;\n}\n";
        // The newline after the last mark went with the mark.
        assert_eq!(got, want.replacen("\n\n", "\n", 1));
    }

    #[test]
    fn text_without_marks_is_unchanged() {
        let text = with_marks("// launch_boundsless");
        assert_eq!(apply(&text).unwrap(), text);
    }

    #[test]
    fn a_mark_without_its_entry_is_refused() {
        for name in ["four", "three"] {
            let got = apply(&with_marks(&format!("// launch_bounds {name} 32 1")));
            assert_eq!(got, Err(BoundsError::NoEntry { entry: name.into() }));
        }
    }

    #[test]
    fn bad_numbers_are_refused() {
        for numbers in ["", "0", "1025", "-1", "32 0", "32 x", "32 1 1"] {
            let got = apply(&with_marks(&format!("// launch_bounds one {numbers}")));
            assert!(matches!(got, Err(BoundsError::Malformed { .. })), "{numbers}");
        }
    }

    #[test]
    fn two_marks_must_agree() {
        let twice = "// launch_bounds one 32 1\n// launch_bounds one 32 1";
        assert!(apply(&with_marks(twice)).is_ok());
        let got = apply(&with_marks(&twice.replacen("32 1", "64 1", 1)));
        assert_eq!(got, Err(BoundsError::Conflict { entry: "one".into() }));
    }
}

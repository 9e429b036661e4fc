//! Refuses PTX that would be slow or would not link.
//!
//! rustc is free to put an array into local memory, or to lose track of a pointer's state space.
//! Neither is an error to it, and either ruins a kernel, so both are errors here, in entries and in
//! every function that an entry can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ptx::{self, Function};

/// Functions that the driver itself provides to every module.
const DRIVER_FUNCTIONS: &[&str] = &["vprintf", "malloc", "free", "__assertfail"];

/// Instructions that go to the generic address space unless they name another.
const MEMORY_INSTRUCTIONS: &[&str] = &["ld", "st", "atom", "red"];
const STATE_SPACES: &[&str] = &["global", "shared", "param", "const", "local"];

/// What PTX must not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A `.local` variable: an array that is indexed at run time, or too much on the stack.
    LocalMemory,
    /// A load, store or atomic that names no state space: the compiler lost track of the pointer.
    GenericAddress,
    /// A `.func` that is declared `.extern`, defined nowhere, and not provided by the driver.
    UnresolvedFunction,
}

/// One place where PTX breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub problem: Problem,
    /// The entry it is in or is reached from; the first one where there are several. Empty for an
    /// unresolved function that no entry reaches.
    pub entry: String,
    /// The function it is in: the entry itself, or one that the entry calls.
    pub function: String,
    /// Line of the PTX text, from 1.
    pub line: usize,
    /// The offending statement.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::LocalMemory => "local memory (unroll the loop that indexes the array)",
            Problem::GenericAddress => "generic address (keep the pointer's state space known)",
            Problem::UnresolvedFunction => "unresolved function",
        };
        write!(out, "{}: entry `{}`", self.line, self.entry)?;
        if self.function != self.entry {
            write!(out, ", function `{}`", self.function)?;
        }
        write!(out, ": {problem}: {}", self.text)
    }
}

/// Everything in `text` that breaks a rule, in the order of the text.
pub fn check(text: &str) -> Vec<Finding> {
    let blanked = ptx::blank(text);
    let functions = ptx::functions(&blanked);
    let reached = reached_from_entries(&blanked, &functions);

    let mut findings = Vec::new();
    for function in &functions {
        let finding = |problem, at: usize, statement: &str| Finding {
            problem,
            entry: reached.get(function.name).copied().unwrap_or("").to_owned(),
            function: function.name.to_owned(),
            line: ptx::line_number(text, at),
            text: statement.to_owned(),
        };
        match &function.body {
            Some(body) if reached.contains_key(function.name) => {
                for (at, statement) in statements(&blanked, body.start, body.end) {
                    if let Some(problem) = problem(statement) {
                        findings.push(finding(problem, at, statement));
                    }
                }
            }
            None if function.is_extern && !is_resolved(function.name, &functions) => {
                let statement = format!(".extern .func {}", function.name);
                findings.push(finding(Problem::UnresolvedFunction, function.start, &statement));
            }
            _ => {}
        }
    }
    findings
}

/// The functions that entries reach, themselves included, each with the first entry that does.
/// Naming a function counts as calling it.
fn reached_from_entries<'a>(
    text: &'a str,
    functions: &[Function<'a>],
) -> BTreeMap<&'a str, &'a str> {
    let names: BTreeSet<_> = functions.iter().map(|function| function.name).collect();
    let bodies: BTreeMap<_, _> = functions
        .iter()
        .filter_map(|function| Some((function.name, &text[function.body.clone()?])))
        .collect();

    let mut reached = BTreeMap::new();
    for entry in functions.iter().filter(|function| function.is_entry) {
        let mut open = vec![entry.name];
        while let Some(name) = open.pop() {
            if reached.contains_key(name) {
                continue;
            }
            reached.insert(name, entry.name);
            let body = bodies.get(name).copied().unwrap_or("");
            open.extend(ptx::words(body).filter(|word| names.contains(word)));
        }
    }
    reached
}

fn is_resolved(name: &str, functions: &[Function<'_>]) -> bool {
    let defined = |function: &Function<'_>| function.name == name && function.body.is_some();
    DRIVER_FUNCTIONS.contains(&name) || functions.iter().any(defined)
}

/// The statements of a body with their positions. An instruction is written on one line, or with
/// its operation on the first, so a line is enough to tell what it is.
fn statements(text: &str, start: usize, end: usize) -> impl Iterator<Item = (usize, &str)> {
    let separators = |c| matches!(c, '\n' | ';' | '{' | '}');
    let mut at = start;
    text[start..end].split_inclusive(separators).filter_map(move |piece| {
        let statement_at = at;
        at += piece.len();
        let statement = piece.trim_end_matches(separators).trim();
        (!statement.is_empty()).then_some((statement_at, statement))
    })
}

fn problem(statement: &str) -> Option<Problem> {
    let operation =
        statement.split_whitespace().find(|word| !word.ends_with(':') && !word.starts_with('@'))?;
    if operation == ".local" {
        return Some(Problem::LocalMemory);
    }
    let mut parts = operation.split('.');
    let is_memory = MEMORY_INSTRUCTIONS.contains(&parts.next()?);
    let names_space = parts.any(|part| {
        let space = part.split("::").next().unwrap_or(part);
        STATE_SPACES.contains(&space)
    });
    (is_memory && !names_space).then_some(Problem::GenericAddress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &str) -> String {
        format!(
            ".extern .shared .align 1024 .b8 smem[];\n.visible .entry gemm()\n{{\n{body}\n\tret;\n}}\n"
        )
    }

    fn problems(text: &str) -> Vec<(Problem, usize)> {
        let findings = check(text);
        findings.iter().map(|f| (f.problem, f.line)).collect()
    }

    #[test]
    fn good_code_passes() {
        let body = "\t.reg .b64 \t%rd<5>;\n\tld.param.b64 \t%rd2, [gemm_param_0];\n\
             \tcvta.to.global.u64 \t%rd3, %rd2;\n$L__BB0_1: ld.global.nc.v4.b32 \t{%r1, %r2, %r3, %r4}, [%rd3];\n\
             \t// ld.u32 in a comment\n\t@%p1 st.shared::cta.b32 [%r1], %r2;\n\
             \tred.async.relaxed.cluster.shared::cluster.add.u32 [%r1], %r2, [%r3];\n\
             \tldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r3, %r4}, [%r5];\n\
             \tatom.global.add.u32 \t%r1, [%rd3], 1;\n\tcvta.local.u64 %rd1, %rd2;";
        assert_eq!(problems(&entry(body)), []);
    }

    #[test]
    fn local_memory_is_found() {
        let text = entry("\t.local .align 16 .b8 \t__local_depot0[64];");
        assert_eq!(problems(&text), [(Problem::LocalMemory, 4)]);
        let message = check(&text)[0].to_string();
        assert!(message.starts_with("4: entry `gemm`: local memory"), "{message}");
    }

    #[test]
    fn generic_addresses_are_found() {
        for statement in [
            "ld.b32 %r1, [%rd1];",
            "@%p1 st.v2.b32 [%rd1], {%r1, %r2};",
            "@!%p1 st.v2.b32 [%rd1], {%r1, %r2};",
            "$L__BB0_1: ld.volatile.u32 %r1, [%rd1];",
            "{ .reg .u32 t; atom.add.u32 t, [%rd1], 1; }",
            "red.relaxed.gpu.add.u32 [%rd1], 1;",
        ] {
            let text = entry(statement);
            assert_eq!(problems(&text), [(Problem::GenericAddress, 4)], "{statement}");
        }
    }

    #[test]
    fn called_functions_are_checked_and_others_are_not() {
        let callee = "{\n\tst.b32 [%rd1], %r1;\n\tret;\n}\n";
        let text = format!(
            ".func memset()\n{callee}.func leaf()\n{callee}.func middle()\n{{\n\tcall.uni leaf, ();\n\tret;\n}}\n{}",
            entry("\tcall.uni \n\tmiddle, \n\t();")
        );
        let findings = check(&text);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].entry.as_str(), findings[0].function.as_str()), ("gemm", "leaf"));
        assert!(findings[0].to_string().contains("function `leaf`"));
    }

    #[test]
    fn unresolved_functions_are_found() {
        let declare = |name| format!(".extern .func  (.param .b32 func_retval0) {name}\n(\n)\n;\n");
        let call = entry("\tcall.uni (retval0), \n\tmissing, \n\t();");
        let text = declare("missing") + &call;
        assert_eq!(problems(&text), [(Problem::UnresolvedFunction, 1)]);
        assert_eq!(check(&text)[0].entry, "gemm");

        assert_eq!(problems(&(declare("vprintf") + &entry(""))), []);
        let defined = declare("missing") + ".func missing()\n{\n\tret;\n}\n" + &call;
        assert_eq!(problems(&defined), []);
    }
}

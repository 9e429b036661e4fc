//! A parsed and decoded module.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ast::{Variable, VariableSpace};
use crate::builder::decode_entry;
use crate::error::Error;
use crate::memory::{Buffer, MODULE_WINDOW, Memory, WINDOW};
use crate::parser::parse;
use crate::program::Program;

/// A PTX module, ready to launch. Its `.global` variables live in the [`Memory`] of the first launch
/// that uses them there, and keep their values between launches.
pub struct Module {
    target: String,
    entries: BTreeMap<String, Program>,
    /// Module variables with their addresses, relocations applied.
    variables: Vec<(u64, Variable)>,
    files: HashMap<u32, String>,
}

static MODULES: AtomicU64 = AtomicU64::new(0);

impl Module {
    /// Parses PTX text and decodes all its entries.
    ///
    /// # Errors
    /// [`Error::Parse`] with line and text for anything this crate does not know.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let ast = parse(text)?;
        let mut end = 0;
        let mut variables = Vec::new();
        let mut globals = HashMap::new();
        for variable in &ast.variables {
            if !matches!(variable.space, VariableSpace::Global | VariableSpace::Const) {
                continue;
            }
            let message = match variable {
                Variable { external: true, .. } => Some("external variables are not supported"),
                _ if end >= WINDOW / 2 => Some("too many variables"),
                _ => None,
            };
            if let Some(message) = message {
                return Err(Error::Parse {
                    line: variable.line,
                    message: message.into(),
                    text: variable.name.clone(),
                });
            }
            end = (end + 256).next_multiple_of(variable.align.max(256) as u64);
            globals.insert(variable.name.clone(), end);
            variables.push((end, variable.clone()));
            end += variable.bytes as u64;
        }
        if !variables.is_empty() {
            let base = MODULE_WINDOW + WINDOW * (MODULES.fetch_add(1, Relaxed) % (1 << 24));
            globals.values_mut().for_each(|address| *address += base);
            variables.iter_mut().for_each(|(address, _)| *address += base);
        }
        for (_, variable) in &mut variables {
            relocate(variable, &globals)?;
        }
        let mut entries = BTreeMap::new();
        for function in ast.functions.iter().filter(|f| f.is_entry) {
            let program = decode_entry(&ast, function, &globals)?;
            if entries.insert(function.name.clone(), program).is_some() {
                return Err(Error::Parse {
                    line: function.line,
                    message: "entry defined twice".into(),
                    text: function.name.clone(),
                });
            }
        }
        Ok(Self { target: ast.target, entries, variables, files: ast.files.into_iter().collect() })
    }

    /// `.target`, e.g. `sm_90a`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Names of the entries.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// An entry's decoded form.
    pub(crate) fn entry(&self, name: &str) -> Option<&Program> {
        self.entries.get(name)
    }

    /// Path of a `.file` number.
    pub(crate) fn file(&self, number: u32) -> Option<&str> {
        self.files.get(&number).map(String::as_str)
    }

    /// Puts the module's variables into `memory`, if they are not there yet.
    pub(crate) fn place(&self, memory: &Memory) {
        for (address, variable) in &self.variables {
            memory.place(*address, || {
                let constant = variable.space == VariableSpace::Const;
                let name = format!("variable {}", variable.name);
                let buffer = Buffer::new(*address, variable.bytes, name, !constant);
                // Variables without an initialiser are zero (PTX ISA, "Initializers").
                let mut bytes = variable.initial.clone().unwrap_or_default();
                bytes.resize(variable.bytes, 0);
                buffer.write(0, &bytes, 0);
                buffer
            });
        }
    }
}

fn relocate(variable: &mut Variable, globals: &HashMap<String, u64>) -> Result<(), Error> {
    let fail = |message: &str, text: &str| Error::Parse {
        line: variable.line,
        message: message.into(),
        text: text.into(),
    };
    let size = variable.ty.bytes();
    let Some(initial) = &mut variable.initial else { return Ok(()) };
    for (at, symbol, addend, _) in &variable.relocations {
        let address = globals.get(symbol).ok_or_else(|| fail("no such variable", symbol))?;
        if size != 8 {
            return Err(fail("an address needs 64 bits", symbol));
        }
        let address = address.wrapping_add_signed(*addend);
        initial[*at..*at + 8].copy_from_slice(&address.to_le_bytes());
    }
    Ok(())
}

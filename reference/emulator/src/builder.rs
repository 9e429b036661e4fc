//! Decodes an entry: scopes and labels are resolved, variables placed, calls expanded, and every
//! instruction handed to its family.

use std::collections::{HashMap, HashSet};

use crate::ast::{
    Ast, Function, Instruction as Parsed, Operand, Statement, Variable, VariableSpace,
};
use crate::control_flow::{Edges, reconvergence};
use crate::decode::Decode;
use crate::error::Error;
use crate::family::{Opcode, lookup};
use crate::machine::Action;
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW};
use crate::names::Names;
use crate::program::{Instruction, NONE, Program};
use crate::special::Special;

/// Deepest nesting of inlined calls, and most instructions of an entry.
const MAX_CALLS: u32 = 32;
const MAX_INLINED: u32 = 1 << 14;
const MAX_INSTRUCTIONS: usize = 1 << 22;
/// Most local memory of a thread (PTX ISA: 512 KiB).
const MAX_LOCAL: usize = 512 << 10;

/// Decodes an entry; `globals` are the addresses of the module's `.global` and `.const` variables.
pub(crate) fn decode_entry(
    ast: &Ast,
    entry: &Function,
    globals: &HashMap<String, u64>,
) -> Result<Program, Error> {
    let mut builder = Builder {
        functions: ast.functions.iter().map(|f| (f.name.as_str(), f)).collect(),
        names: Names::new(globals.clone()),
        code: Vec::new(),
        edges: Vec::new(),
        source: None,
        local_bytes: 0,
        calls: 0,
        inlined: 0,
        rows: HashMap::new(),
        shared: HashMap::new(),
    };
    let shared_bytes = builder.place_shared(ast, entry)?;
    builder.names.open(&entry.body, true).map_err(|m| fail(entry.line, m, &entry.name))?;
    let mut params = Vec::new();
    let mut end = 0usize;
    for param in &entry.params {
        let at = end.next_multiple_of(param.align);
        builder.names.declare_symbol(&param.name, PARAM_WINDOW + at as u64);
        params.push((at, param.bytes));
        end = at + param.bytes;
    }
    builder.statements(&entry.body)?;
    builder.names.close();
    builder.finish(entry, params, shared_bytes)
}

fn fail(line: u32, message: impl Into<String>, text: &str) -> Error {
    Error::Parse { line, message: message.into(), text: text.into() }
}

struct Builder<'a> {
    functions: HashMap<&'a str, &'a Function>,
    names: Names,
    code: Vec<Instruction>,
    edges: Vec<Edges>,
    source: Option<(u32, u32)>,
    local_bytes: usize,
    calls: u32,
    inlined: u32,
    /// Opcode rows by full opcode.
    rows: HashMap<String, Option<(usize, &'static Opcode)>>,
    /// Offsets of `.shared` variables by declaration line and name.
    shared: HashMap<(u32, String), u64>,
}

impl<'a> Builder<'a> {
    // --- shared memory layout ---

    /// Lays out the shared variables that the entry (or a function it may call) names or declares;
    /// returns the static size. Dynamic shared memory starts right after it.
    fn place_shared(&mut self, ast: &'a Ast, entry: &'a Function) -> Result<usize, Error> {
        let mut used = HashSet::new();
        let mut declared = Vec::new();
        let mut functions = vec![entry];
        let mut visited = HashSet::new();
        while let Some(function) = functions.pop() {
            if !visited.insert(function.name.as_str()) {
                continue;
            }
            collect(&function.body, &mut used, &mut declared);
            functions.extend(used.iter().filter_map(|n: &&str| self.functions.get(n)));
        }
        let module = ast.variables.iter().filter(|v| used.contains(v.name.as_str()));
        let variables: Vec<&Variable> =
            module.chain(declared).filter(|v| v.space == VariableSpace::Shared).collect();
        let mut end = 0usize;
        for variable in variables.iter().filter(|v| !v.external) {
            let at = end.next_multiple_of(variable.align);
            self.place_one(ast, variable, at);
            end = at + variable.bytes;
            if end >= 1 << 24 {
                return Err(fail(variable.line, "too much shared memory", &variable.name));
            }
        }
        let dynamic = variables.iter().filter(|v| v.external);
        let align = dynamic.clone().map(|v| v.align).max().unwrap_or(1).max(16);
        let end = end.next_multiple_of(align);
        for variable in dynamic {
            self.place_one(ast, variable, end);
        }
        Ok(end)
    }

    fn place_one(&mut self, ast: &Ast, variable: &Variable, at: usize) {
        if ast.variables.iter().any(|v| std::ptr::eq(v, variable)) {
            self.names.globals.insert(variable.name.clone(), at as u64);
        } else {
            self.shared.insert((variable.line, variable.name.clone()), at as u64);
        }
    }

    fn local(&mut self, variable: &Variable) -> Result<u64, Error> {
        let at = self.local_bytes.next_multiple_of(variable.align);
        self.local_bytes = at + variable.bytes;
        if self.local_bytes > MAX_LOCAL {
            return Err(fail(variable.line, "too much local memory", &variable.name));
        }
        Ok(at as u64)
    }

    // --- statements ---

    fn statements(&mut self, body: &'a [Statement]) -> Result<(), Error> {
        for statement in body {
            match statement {
                Statement::Label(name) => {
                    if let Some(label) = self.names.label(name) {
                        self.names.labels[label as usize] = self.code.len() as u32;
                    }
                }
                Statement::Registers(ty, names) => self.names.declare(*ty, names),
                Statement::Variable(variable) => self.variable(variable)?,
                Statement::Targets(..) => {}
                Statement::Scope(inner) => {
                    self.names.open(inner, false).map_err(|m| fail(0, m, "{"))?;
                    self.statements(inner)?;
                    self.names.close();
                }
                Statement::Location(file, line) => self.source = Some((*file, *line)),
                Statement::Instruction(parsed) => self.instruction(parsed)?,
            }
        }
        Ok(())
    }

    fn variable(&mut self, variable: &Variable) -> Result<(), Error> {
        let address = match variable.space {
            VariableSpace::Local => self.local(variable)?,
            // A parameter of a call lives in the caller's frame.
            VariableSpace::Param => LOCAL_WINDOW + self.local(variable)?,
            VariableSpace::Shared => {
                let key = (variable.line, variable.name.clone());
                *self.shared.get(&key).ok_or_else(|| {
                    fail(variable.line, "shared variable without a place", &variable.name)
                })?
            }
            _ => {
                let message = "only .reg, .local, .param and .shared are supported in a body";
                return Err(fail(variable.line, message, &variable.name));
            }
        };
        self.names.declare_symbol(&variable.name, address);
        Ok(())
    }

    fn instruction(&mut self, parsed: &'a Parsed) -> Result<(), Error> {
        if self.code.len() >= MAX_INSTRUCTIONS {
            return Err(fail(parsed.line, "the entry is too long", &parsed.opcode));
        }
        if parsed.opcode == "call" || parsed.opcode == "call.uni" {
            return self.call(parsed);
        }
        let row = self.rows.entry(parsed.opcode.clone()).or_insert_with(|| lookup(&parsed.opcode));
        let (index, row) =
            row.ok_or_else(|| fail(parsed.line, "unknown opcode", &parsed.opcode))?;
        let guard = match &parsed.guard {
            None => None,
            Some((name, negated)) => {
                let pred = self.names.predicate(name);
                let unknown =
                    || fail(parsed.line, format!("no predicate `{name}`"), &parsed.opcode);
                Some((pred.ok_or_else(unknown)?, *negated))
            }
        };
        self.names.jumps.clear();
        self.names.falls_through = true;
        self.names.uses_clock = false;
        let rest = &parsed.opcode[row.name.len()..];
        let mut decode = Decode {
            line: parsed.line,
            opcode: &parsed.opcode,
            modifiers: rest.split('.').skip(1).collect(),
            operands: parsed.operands.iter().cloned().collect(),
            names: &mut self.names,
        };
        let action = (row.decode)(&mut decode)?;
        if let Some(modifier) = decode.modifiers.first() {
            return Err(decode.error(format!("unknown modifier `.{modifier}`")));
        }
        if !decode.operands.is_empty() {
            return Err(decode.error("too many operands"));
        }
        let action = if self.names.uses_clock { self.with_clock(action) } else { action };
        self.edges.push(Edges {
            jumps: self.names.jumps.clone(),
            falls_through: self.names.falls_through || guard.is_some(),
            returns: matches!(row.name, "ret" | "exit") && self.names.jumps.is_empty(),
        });
        self.code.push(Instruction {
            action,
            guard,
            opcode: index as u16,
            meets: NONE,
            line: parsed.line,
            source: self.source,
        });
        Ok(())
    }

    /// Sets the clock register before every instruction that names it.
    fn with_clock(&mut self, action: Action) -> Action {
        let Some(clock) = self.names.specials.get(&Special::Clock).copied() else { return action };
        Box::new(move |m| {
            m.warp.regs[clock.0 as usize] = [m.warp.executed; 32];
            action(m)
        })
    }

    /// `call (ret), function, (args);` is expanded in place: arguments and results are variables of the
    /// caller's frame that the function sees under its own names.
    fn call(&mut self, parsed: &'a Parsed) -> Result<(), Error> {
        let bad = |message: &str| fail(parsed.line, message, &parsed.opcode);
        if parsed.guard.is_some() {
            return Err(bad("a guarded call is not supported"));
        }
        let (mut lists, mut name) = ([const { Vec::new() }; 2], None);
        for operand in &parsed.operands {
            match operand {
                Operand::List(items) => lists[usize::from(name.is_some())] = items.clone(),
                Operand::Name(word, 0) if name.is_none() => name = Some(word.as_str()),
                _ => return Err(bad("only direct calls are supported")),
            }
        }
        let name = name.ok_or_else(|| bad("a function name expected"))?;
        let function = *self
            .functions
            .get(name)
            .filter(|f| !f.is_entry)
            .ok_or_else(|| fail(parsed.line, "no body for the function", name))?;
        self.inlined += 1;
        if self.calls >= MAX_CALLS || self.inlined > MAX_INLINED {
            return Err(bad("calls nested too deeply (recursion is not supported)"));
        }
        let [returns, args] = lists;
        if returns.len() != function.returns.len() || args.len() != function.params.len() {
            return Err(bad("the call does not match the function's parameters"));
        }
        let mut bindings = Vec::new();
        let formals = function.returns.iter().chain(&function.params);
        for (formal, actual) in formals.zip(returns.iter().chain(&args)) {
            let address = match actual {
                Operand::Name(actual, 0) if formal.space == VariableSpace::Param => {
                    self.names.symbol(actual)
                }
                _ => None,
            };
            let address = address.ok_or_else(|| bad("only .param arguments are supported"))?;
            bindings.push((formal.name.as_str(), address));
        }
        self.calls += 1;
        let end = self.names.new_label();
        self.names.returns.push(end);
        self.names.open(&function.body, true).map_err(|m| fail(function.line, m, name))?;
        for (formal, address) in bindings {
            self.names.declare_symbol(formal, address);
        }
        self.statements(&function.body)?;
        self.names.close();
        self.names.returns.pop();
        self.names.labels[end as usize] = self.code.len() as u32;
        self.calls -= 1;
        Ok(())
    }

    // --- the end ---

    fn finish(
        mut self,
        entry: &Function,
        params: Vec<(usize, usize)>,
        shared_bytes: usize,
    ) -> Result<Program, Error> {
        // Running off the end is `ret`.
        let (index, row) =
            lookup("ret").ok_or_else(|| fail(entry.line, "no `ret`", &entry.name))?;
        let mut decode = Decode {
            line: entry.line,
            opcode: "ret",
            modifiers: Vec::new(),
            operands: Default::default(),
            names: &mut self.names,
        };
        let action = (row.decode)(&mut decode)?;
        let line = self.code.last().map_or(entry.line, |last| last.line);
        self.edges.push(Edges { jumps: Vec::new(), falls_through: false, returns: true });
        self.code.push(Instruction {
            action,
            guard: None,
            opcode: index as u16,
            meets: NONE,
            line,
            source: None,
        });
        let labels = self.names.labels;
        let meets = reconvergence(&self.edges, &labels);
        for (instruction, meets) in self.code.iter_mut().zip(meets) {
            instruction.meets = meets;
        }
        Ok(Program {
            name: entry.name.clone(),
            code: self.code,
            labels,
            registers: self.names.widths.len(),
            predicates: self.names.predicates as usize,
            constants: self.names.constants.into_iter().map(|(v, r)| (r, v)).collect(),
            constant_preds: self.names.constant_preds.into_iter().map(|(v, p)| (p, v)).collect(),
            specials: self.names.specials.into_iter().map(|(s, r)| (r, s)).collect(),
            local_bytes: self.local_bytes,
            shared_bytes,
            params,
            granule: self.names.granule,
            max_threads: entry.max_threads,
            exact_threads: entry.exact_threads,
            cluster: entry.cluster,
            explicit_cluster: entry.explicit_cluster,
        })
    }
}

/// The names that a body's operands mention, and the variables it declares.
fn collect<'a>(
    body: &'a [Statement],
    used: &mut HashSet<&'a str>,
    declared: &mut Vec<&'a Variable>,
) {
    fn operand<'a>(item: &'a Operand, used: &mut HashSet<&'a str>) {
        match item {
            Operand::Name(name, _) => {
                used.insert(name);
            }
            Operand::Vector(items) | Operand::List(items) => {
                items.iter().for_each(|item| operand(item, used));
            }
            Operand::Address(base, _, _) => operand(base, used),
            _ => {}
        }
    }
    for statement in body {
        match statement {
            Statement::Scope(inner) => collect(inner, used, declared),
            Statement::Variable(variable) => declared.push(variable),
            Statement::Instruction(parsed) => {
                parsed.operands.iter().for_each(|item| operand(item, used));
            }
            _ => {}
        }
    }
}

//! What the names of a body stand for while it is decoded: registers, labels, symbols.

use std::collections::HashMap;

use crate::ast::{Operand, Statement};
use crate::special::Special;
use crate::value::Type;
use crate::warp::{Pred, Reg};

/// A register or predicate slot.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Register(Reg, u32),
    Predicate(Pred),
}

/// Declarations of one `{ }`.
#[derive(Default)]
struct Scope {
    /// Types of registers declared singly, and of ranges by prefix with their count.
    singles: HashMap<String, Type>,
    ranges: HashMap<String, (Type, u32)>,
    slots: HashMap<String, Slot>,
    labels: HashMap<String, u32>,
    targets: HashMap<String, Vec<String>>,
    symbols: HashMap<String, u64>,
    /// Whether names outside are invisible: the outermost scope of a function.
    is_function: bool,
}

/// Registers, constants and labels of a program, and the scopes open at the current statement.
#[derive(Default)]
pub struct Names {
    scopes: Vec<Scope>,
    /// Width of every register slot.
    pub(crate) widths: Vec<u32>,
    pub(crate) predicates: u32,
    pub(crate) constants: HashMap<u64, Reg>,
    pub(crate) constant_preds: HashMap<bool, Pred>,
    pub(crate) specials: HashMap<Special, Reg>,
    sinks: HashMap<u32, Reg>,
    sink_pred: Option<Pred>,
    /// Instruction index of every label; `u32::MAX` until it is reached.
    pub(crate) labels: Vec<u32>,
    /// Addresses of the module's variables as this entry sees them.
    pub(crate) globals: HashMap<String, u64>,
    /// Where `ret` goes in an inlined function.
    pub(crate) returns: Vec<u32>,
    /// Labels the current instruction may go to, and whether it may go on to the next.
    pub(crate) jumps: Vec<u32>,
    pub(crate) falls_through: bool,
    pub(crate) uses_clock: bool,
    /// Smallest shared access seen so far.
    pub(crate) granule: usize,
}

impl Names {
    /// Nothing but the module's variables.
    pub(crate) fn new(globals: HashMap<String, u64>) -> Self {
        Self { globals, granule: 4, ..Self::default() }
    }

    /// Opens a scope; `is_function` hides the names outside. The labels among `body` are known at once.
    pub(crate) fn open(&mut self, body: &[Statement], is_function: bool) -> Result<(), String> {
        let mut scope = Scope { is_function, ..Scope::default() };
        for statement in body {
            match statement {
                Statement::Label(name) => {
                    let id = self.labels.len() as u32;
                    self.labels.push(u32::MAX);
                    if scope.labels.insert(name.clone(), id).is_some() {
                        return Err(format!("label `{name}` twice"));
                    }
                }
                Statement::Targets(name, labels) => {
                    scope.targets.insert(name.clone(), labels.clone());
                }
                _ => {}
            }
        }
        self.scopes.push(scope);
        Ok(())
    }

    /// Closes the innermost scope.
    pub(crate) fn close(&mut self) {
        self.scopes.pop();
    }

    fn visible(&self) -> impl Iterator<Item = usize> {
        let first = self.scopes.iter().rposition(|s| s.is_function).unwrap_or(0);
        (first..self.scopes.len()).rev()
    }

    /// Declares registers in the innermost scope.
    pub(crate) fn declare(&mut self, ty: Type, names: &[(String, Option<u32>)]) {
        let Some(scope) = self.scopes.last_mut() else { return };
        for (name, count) in names {
            match count {
                Some(count) => scope.ranges.insert(name.clone(), (ty, *count)).map(|_| ()),
                None => scope.singles.insert(name.clone(), ty).map(|_| ()),
            };
        }
    }

    /// Declares a variable of the innermost scope.
    pub(crate) fn declare_symbol(&mut self, name: &str, address: u64) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.symbols.insert(name.into(), address);
        }
    }

    fn slot(&mut self, name: &str) -> Option<Slot> {
        let indices: Vec<usize> = self.visible().collect();
        for index in indices {
            let scope = &self.scopes[index];
            if let Some(slot) = scope.slots.get(name) {
                return Some(*slot);
            }
            let declared = scope.singles.get(name).copied().or_else(|| {
                let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
                let digits = &name[prefix.len()..];
                let (ty, count) = scope.ranges.get(prefix)?;
                let number: u32 = digits.parse().ok()?;
                let canonical = digits.len() == 1 || !digits.starts_with('0');
                (canonical && number < *count).then_some(*ty)
            });
            if let Some(ty) = declared {
                let slot = match ty {
                    Type::Pred => Slot::Predicate(self.new_pred()),
                    _ => Slot::Register(self.new_register(ty.bits()), ty.bits()),
                };
                self.scopes[index].slots.insert(name.into(), slot);
                return Some(slot);
            }
        }
        None
    }

    fn new_register(&mut self, bits: u32) -> Reg {
        self.widths.push(bits);
        Reg(self.widths.len() as u32 - 1)
    }

    fn new_pred(&mut self) -> Pred {
        self.predicates += 1;
        Pred(self.predicates - 1)
    }

    /// A declared register and its width. 128-bit registers are not supported and not found.
    pub(crate) fn register(&mut self, name: &str) -> Option<(Reg, u32)> {
        match self.slot(name)? {
            Slot::Register(reg, width) if width <= 64 => Some((reg, width)),
            _ => None,
        }
    }

    /// A declared predicate.
    pub(crate) fn predicate(&mut self, name: &str) -> Option<Pred> {
        match self.slot(name)? {
            Slot::Predicate(pred) => Some(pred),
            Slot::Register(..) => None,
        }
    }

    /// A special register and its width.
    pub(crate) fn special(&mut self, name: &str) -> Option<(Reg, u32)> {
        let (special, width) = Special::parse(name)?;
        self.uses_clock |= special == Special::Clock;
        if let Some(reg) = self.specials.get(&special) {
            return Some((*reg, width));
        }
        let reg = self.new_register(width);
        self.specials.insert(special, reg);
        Some((reg, width))
    }

    /// The address of a variable.
    pub(crate) fn symbol(&self, name: &str) -> Option<u64> {
        let local = self.visible().find_map(|index| self.scopes[index].symbols.get(name));
        local.or_else(|| self.globals.get(name)).copied()
    }

    /// The register that holds a constant.
    pub(crate) fn constant(&mut self, value: u64, bits: u32) -> Reg {
        if let Some(reg) = self.constants.get(&value) {
            return *reg;
        }
        let reg = self.new_register(bits);
        self.constants.insert(value, reg);
        reg
    }

    /// The predicate that holds a constant.
    pub(crate) fn constant_pred(&mut self, value: bool) -> Pred {
        if let Some(pred) = self.constant_preds.get(&value) {
            return *pred;
        }
        let pred = self.new_pred();
        self.constant_preds.insert(value, pred);
        pred
    }

    /// A register for `_`: written, never read.
    pub(crate) fn sink(&mut self, bits: u32) -> Reg {
        if let Some(reg) = self.sinks.get(&bits) {
            return *reg;
        }
        let reg = self.new_register(bits);
        self.sinks.insert(bits, reg);
        reg
    }

    /// A predicate for `_`.
    pub(crate) fn sink_pred(&mut self) -> Pred {
        if let Some(pred) = self.sink_pred {
            return pred;
        }
        let pred = self.new_pred();
        self.sink_pred = Some(pred);
        pred
    }

    /// Width of a register slot.
    pub(crate) fn width(&self, reg: Reg) -> u32 {
        self.widths.get(reg.0 as usize).copied().unwrap_or(64)
    }

    /// Register (or constant) and width of an address base.
    pub(crate) fn address_base(&mut self, base: &Operand) -> Option<(Reg, u32)> {
        match base {
            Operand::Name(name, _) => {
                if let Some((reg, bits)) = self.register(name) {
                    return Some((reg, bits));
                }
                let address = self.symbol(name)?;
                Some((self.constant(address, 64), 64))
            }
            Operand::Integer(value) => Some((self.constant(*value, 64), 64)),
            _ => None,
        }
    }

    /// A label visible here.
    pub(crate) fn label(&self, name: &str) -> Option<u32> {
        self.visible().find_map(|index| self.scopes[index].labels.get(name).copied())
    }

    /// A `.branchtargets` list visible here.
    pub(crate) fn targets(&self, name: &str) -> Option<Vec<String>> {
        self.visible().find_map(|index| self.scopes[index].targets.get(name).cloned())
    }

    /// A label without a name (the end of an inlined function).
    pub(crate) fn new_label(&mut self) -> u32 {
        self.labels.push(u32::MAX);
        self.labels.len() as u32 - 1
    }
}

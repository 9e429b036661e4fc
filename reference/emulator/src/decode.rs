//! From a parsed instruction to its [`Action`]: modifiers and operands are taken one by one.
//!
//! A family's decode function takes what it knows from a [`Decode`]. What it leaves untaken, modifier
//! or operand, makes the instruction an error: nothing is ever skipped or guessed.

use crate::ast::Operand;
use crate::error::Error;
use crate::machine::Machine;
use crate::names::Names;
use crate::value::Type;
use crate::warp::{Pred, Reg};

/// An address operand `[reg+offset]`, `[symbol+offset]` or `[imm]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Register, or constant register that holds the symbol's address.
    pub base: Reg,
    /// Added to it.
    pub offset: i64,
    /// Whether the base is a 32-bit register: the sum then wraps at 32 bits.
    pub narrow: bool,
}

impl Address {
    /// The address of every lane.
    #[inline(always)]
    pub fn of(self, machine: &Machine<'_>) -> [u64; 32] {
        let mut lanes = *machine.get(self.base);
        for lane in &mut lanes {
            *lane = lane.wrapping_add_signed(self.offset);
            if self.narrow {
                *lane &= 0xffff_ffff;
            }
        }
        lanes
    }

    /// The address of every lane, after a `Poison` finding if an active lane's is poison.
    #[inline(always)]
    pub fn checked(self, machine: &mut Machine<'_>) -> [u64; 32] {
        let poison = machine.poison(self.base) & machine.lanes;
        if poison != 0 {
            machine.demand(poison, "an address");
        }
        self.of(machine)
    }
}

/// An instruction being decoded.
pub struct Decode<'a> {
    pub(crate) line: u32,
    pub(crate) opcode: &'a str,
    pub(crate) modifiers: Vec<&'a str>,
    pub(crate) operands: std::collections::VecDeque<Operand>,
    pub(crate) names: &'a mut Names,
}

impl<'a> Decode<'a> {
    /// An error that quotes this instruction.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::Parse { line: self.line, message: message.into(), text: self.opcode.into() }
    }

    // --- modifiers, left to right ---

    /// Takes the next modifier if it is `modifier` (without dot).
    pub fn take(&mut self, modifier: &str) -> bool {
        let found = self.modifiers.first() == Some(&modifier);
        if found {
            self.modifiers.remove(0);
        }
        found
    }

    /// Takes the next modifier, which must be `modifier`.
    pub fn expect(&mut self, modifier: &str) -> Result<(), Error> {
        if self.take(modifier) {
            Ok(())
        } else {
            Err(self.error(format!("`.{modifier}` expected")))
        }
    }

    /// Takes the next modifier if `f` knows it.
    pub fn take_map<T>(&mut self, f: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = f(self.modifiers.first()?)?;
        self.modifiers.remove(0);
        Some(value)
    }

    /// Takes the next modifier, which must be one of those listed; returns its value.
    pub fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, Error> {
        let find = |m: &str| choices.iter().find(|(name, _)| *name == m).map(|(_, value)| *value);
        self.take_map(find).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!(".{name}")).collect();
            self.error(format!("one of {} expected", names.join(" ")))
        })
    }

    /// Takes a type modifier.
    pub fn ty(&mut self) -> Result<Type, Error> {
        self.take_map(Type::parse).ok_or_else(|| self.error("a type expected"))
    }

    /// The modifiers not taken yet.
    pub fn rest(&self) -> &[&'a str] {
        &self.modifiers
    }

    // --- operands, left to right ---

    /// The next operand as it was written.
    pub fn operand(&mut self) -> Result<Operand, Error> {
        self.operands.pop_front().ok_or_else(|| self.error("too few operands"))
    }

    /// Whether operands are left.
    pub fn more(&self) -> bool {
        !self.operands.is_empty()
    }

    /// How many operands are left.
    pub fn operands_left(&self) -> usize {
        self.operands.len()
    }

    /// The next operand, a register to be written (or `_`) of `bits` width.
    pub fn dst(&mut self, bits: u32) -> Result<Reg, Error> {
        let operand = self.operand()?;
        self.dst_of(&operand, bits, false)
    }

    /// The next operand, a register to be written of at least `bits` width; returns its width too.
    pub fn dst_wide(&mut self, bits: u32) -> Result<(Reg, u32), Error> {
        let operand = self.operand()?;
        let reg = self.dst_of(&operand, bits, true)?;
        Ok((reg, self.names.width(reg)))
    }

    /// The next operand, a value of type `ty`: register, immediate, special register or symbol.
    pub fn src(&mut self, ty: Type) -> Result<Reg, Error> {
        let operand = self.operand()?;
        self.src_of(&operand, ty, false)
    }

    /// As [`Self::src`], but the register may be wider than the type (ld, st, cvt).
    pub fn src_wide(&mut self, ty: Type) -> Result<Reg, Error> {
        let operand = self.operand()?;
        self.src_of(&operand, ty, true)
    }

    /// The next operand, `{a, b, ...}` of registers to be written; a single register is a vector of 1.
    pub fn dst_vector(&mut self, bits: u32) -> Result<Vec<Reg>, Error> {
        match self.operand()? {
            Operand::Vector(items) => {
                items.iter().map(|item| self.dst_of(item, bits, false)).collect()
            }
            one => Ok(vec![self.dst_of(&one, bits, false)?]),
        }
    }

    /// The next operand, `{a, b, ...}` of values; a single one is a vector of 1.
    pub fn src_vector(&mut self, ty: Type) -> Result<Vec<Reg>, Error> {
        match self.operand()? {
            Operand::Vector(items) => {
                items.iter().map(|item| self.src_of(item, ty, false)).collect()
            }
            one => Ok(vec![self.src_of(&one, ty, false)?]),
        }
    }

    /// The next operand, a predicate to be written (or `_`).
    pub fn dst_pred(&mut self) -> Result<Pred, Error> {
        let operand = self.operand()?;
        self.pred_of(&operand)
    }

    /// The next operand, a predicate to be read; returns whether it is negated.
    pub fn src_pred(&mut self) -> Result<(Pred, bool), Error> {
        match self.operand()? {
            Operand::Not(name) => Ok((self.pred_of(&Operand::Name(name, 0))?, true)),
            Operand::Integer(value) => Ok((self.names.constant_pred(value != 0), false)),
            other => Ok((self.pred_of(&other)?, false)),
        }
    }

    /// The next operand, an address that is a plain `[base+offset]`.
    pub fn address(&mut self) -> Result<Address, Error> {
        let (address, items) = self.address_and_items()?;
        if items.is_empty() { Ok(address) } else { Err(self.error("a plain address expected")) }
    }

    /// The next operand, an address and the further items in its brackets (`[map, {x, y}]`).
    pub fn address_and_items(&mut self) -> Result<(Address, Vec<Operand>), Error> {
        match self.operand()? {
            Operand::Address(base, offset, items) => {
                let (base, bits) = self
                    .names
                    .address_base(&base)
                    .ok_or_else(|| self.error(format!("unknown register or symbol in {base:?}")))?;
                Ok((Address { base, offset, narrow: bits == 32 }, items))
            }
            _ => Err(self.error("an address expected")),
        }
    }

    /// The next operand, an integer immediate.
    pub fn immediate(&mut self) -> Result<u64, Error> {
        match self.operand()? {
            Operand::Integer(value) => Ok(value),
            _ => Err(self.error("an integer immediate expected")),
        }
    }

    /// The next operand, a label the instruction may jump to; returns what `Flow::Jump` takes.
    pub fn label(&mut self) -> Result<u32, Error> {
        match self.operand()? {
            Operand::Name(name, 0) => self.label_named(&name),
            _ => Err(self.error("a label expected")),
        }
    }

    fn label_named(&mut self, name: &str) -> Result<u32, Error> {
        let unknown = || self.error(format!("no label `{name}`"));
        let label = self.names.label(name).ok_or_else(unknown)?;
        self.names.jumps.push(label);
        Ok(label)
    }

    /// The next operand, the name of a `.branchtargets` list; the instruction may jump to all of them.
    pub fn label_list(&mut self) -> Result<Vec<u32>, Error> {
        let Operand::Name(name, 0) = self.operand()? else {
            return Err(self.error("a list of labels expected"));
        };
        let unknown = || self.error(format!("no .branchtargets `{name}`"));
        let targets = self.names.targets(&name).ok_or_else(unknown)?;
        targets.iter().map(|target| self.label_named(target)).collect()
    }

    /// The label `ret` goes to in an inlined function; `None` in the entry itself.
    pub fn return_label(&mut self) -> Option<u32> {
        let label = *self.names.returns.last()?;
        self.names.jumps.push(label);
        Some(label)
    }

    /// Says that lanes which execute the instruction never go on to the next one.
    pub fn never_falls_through(&mut self) {
        self.names.falls_through = false;
    }

    /// Says that the instruction touches shared memory in pieces of `bytes`, so that race detection
    /// tells such pieces apart. Needed below 4 bytes only.
    pub fn shared_access(&mut self, bytes: usize) {
        self.names.granule = self.names.granule.min(bytes.max(1));
    }

    /// Width in bits that a register was declared with.
    pub fn width(&self, reg: Reg) -> u32 {
        self.names.width(reg)
    }

    /// Resolves an operand taken with [`Self::operand`] as a register to be written; `wide` allows one
    /// that is wider than `bits`.
    pub fn dst_of(&mut self, operand: &Operand, bits: u32, wide: bool) -> Result<Reg, Error> {
        match operand {
            Operand::Sink => Ok(self.names.sink(bits)),
            Operand::Name(name, 0) => {
                let (reg, width) = self
                    .names
                    .register(name)
                    .ok_or_else(|| self.error(format!("no register `{name}`")))?;
                self.check_width(name, width, bits, wide)?;
                Ok(reg)
            }
            _ => Err(self.error("a register expected")),
        }
    }

    /// Resolves an operand taken with [`Self::operand`] as a value of type `ty`; `wide` allows a
    /// register that is wider.
    pub fn src_of(&mut self, operand: &Operand, ty: Type, wide: bool) -> Result<Reg, Error> {
        let bits = ty.bits();
        let mask = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
        match operand {
            Operand::Integer(value) => Ok(self.names.constant(value & mask, bits)),
            Operand::Float32(value) if ty == Type::F64 => {
                Ok(self.names.constant(f64::from(f32::from_bits(*value)).to_bits(), 64))
            }
            Operand::Float32(value) if bits == 32 => Ok(self.names.constant((*value).into(), 32)),
            Operand::Float64(value) if bits == 64 => Ok(self.names.constant(*value, 64)),
            Operand::Float64(value) if ty == Type::F32 => {
                let value = f64::from_bits(*value) as f32;
                Ok(self.names.constant(value.to_bits().into(), 32))
            }
            Operand::Name(name, addend) => {
                if *addend == 0
                    && let Some((reg, width)) = self.names.register(name)
                {
                    self.check_width(name, width, bits, wide)?;
                    return Ok(reg);
                }
                if let Some((reg, width)) = self.names.special(name) {
                    self.check_width(name, width, bits, true)?;
                    return Ok(reg);
                }
                if let Some(address) = self.names.symbol(name) {
                    return Ok(self
                        .names
                        .constant(address.wrapping_add_signed(*addend) & mask, bits));
                }
                Err(self.error(format!("no register or symbol `{name}`")))
            }
            _ => Err(self.error("a value expected")),
        }
    }

    /// Resolves an operand taken with [`Self::operand`] as a predicate.
    pub fn pred_of(&mut self, operand: &Operand) -> Result<Pred, Error> {
        match operand {
            Operand::Sink => Ok(self.names.sink_pred()),
            Operand::Name(name, 0) => self
                .names
                .predicate(name)
                .ok_or_else(|| self.error(format!("no predicate `{name}`"))),
            _ => Err(self.error("a predicate expected")),
        }
    }

    fn check_width(&self, name: &str, width: u32, bits: u32, wide: bool) -> Result<(), Error> {
        if width == bits || (wide && width > bits) {
            Ok(())
        } else {
            Err(self.error(format!("`{name}` has {width} bits where {bits} are needed")))
        }
    }
}

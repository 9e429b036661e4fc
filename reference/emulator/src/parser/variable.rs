//! Declarations of variables and parameters, with their initial values.

use super::Parser;
use crate::ast::{Variable, VariableSpace};
use crate::error::Error;
use crate::lexer::Token;
use crate::value::Type;

/// Largest variable.
const MAX_BYTES: usize = 1 << 28;

impl Parser<'_> {
    pub(super) fn variable(&mut self, external: bool) -> Result<Variable, Error> {
        let line = self.line();
        let space = match self.word("a state space")? {
            ".param" => VariableSpace::Param,
            ".shared" => VariableSpace::Shared,
            ".global" => VariableSpace::Global,
            ".const" => VariableSpace::Const,
            ".local" => VariableSpace::Local,
            ".reg" => VariableSpace::Reg,
            _ => {
                self.at -= 1;
                return Err(self.error("a state space expected"));
            }
        };
        let (mut align, mut lanes, mut ty) = (None, 1, None);
        while let Some(Token::Word(word)) = self.peek() {
            let Some(directive) = word.strip_prefix('.') else { break };
            self.at += 1;
            match directive {
                "align" => align = Some(self.integer()? as usize),
                // `.param .u64 .ptr .global .align 16 x`: what a pointer parameter points to.
                "ptr" => {
                    while let Some(Token::Word(word)) = self.peek() {
                        match word {
                            ".global" | ".shared" | ".const" | ".local" => self.at += 1,
                            ".align" => {
                                self.at += 1;
                                self.integer()?;
                            }
                            _ => break,
                        }
                    }
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                _ => match Type::parse(directive) {
                    Some(parsed) if ty.is_none() => ty = Some(parsed),
                    _ => {
                        self.at -= 1;
                        return Err(self.error("unknown directive of a variable"));
                    }
                },
            }
        }
        let ty = ty.ok_or_else(|| self.error("a type expected"))?;
        let name = self.word("a name")?.to_owned();
        let mut count = Some(lanes);
        let mut open = false;
        while self.take(b'[') {
            if self.take(b']') {
                open = true;
                continue;
            }
            let length = self.integer()?;
            count = count.and_then(|c: usize| c.checked_mul(usize::try_from(length).ok()?));
            self.expect(b']')?;
        }
        let bytes = count
            .and_then(|c| c.checked_mul(ty.bytes()))
            .filter(|bytes| *bytes <= MAX_BYTES)
            .ok_or_else(|| self.error("the variable is too large"))?;
        let align = align.unwrap_or(ty.bytes() * lanes);
        if !align.is_power_of_two() || align > 1 << 16 {
            return Err(self.error("alignment is not a power of two"));
        }
        let mut variable = Variable {
            space,
            name,
            ty,
            align,
            bytes,
            external,
            initial: None,
            relocations: Vec::new(),
            line,
        };
        if self.take(b'=') {
            let mut initial = Vec::new();
            self.initialiser(&mut variable, &mut initial)?;
            if open {
                variable.bytes = initial.len();
            }
            if initial.len() > variable.bytes {
                return Err(self.error("more initial values than elements"));
            }
            variable.initial = Some(initial);
        } else if open {
            variable.bytes = 0;
        }
        Ok(variable)
    }

    fn initialiser(&mut self, variable: &mut Variable, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.take(b'{') {
            return self.nested(|p| {
                while !p.take(b'}') {
                    p.initialiser(variable, out)?;
                    if !p.is(b'}') {
                        p.expect(b',')?;
                    }
                }
                Ok(())
            });
        }
        let negative = self.take(b'-');
        let size = variable.ty.bytes();
        let bits = match self.next() {
            Some(Token::Integer(value)) if negative => value.wrapping_neg(),
            Some(Token::Integer(value)) => value,
            Some(Token::Float32(bits)) if variable.ty != Type::F64 => bits.into(),
            Some(Token::Float32(bits)) => f64::from(f32::from_bits(bits)).to_bits(),
            Some(Token::Float64(bits)) if variable.ty == Type::F32 => {
                (f64::from_bits(bits) as f32).to_bits().into()
            }
            Some(Token::Float64(bits)) => bits,
            Some(Token::Word(word)) if !negative => {
                let generic = word == "generic";
                let symbol = if generic {
                    self.expect(b'(')?;
                    let symbol = self.word("a symbol")?;
                    self.expect(b')')?;
                    symbol
                } else {
                    word
                };
                let addend = self.addend()?;
                variable.relocations.push((out.len(), symbol.into(), addend, generic));
                0
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return Err(self.error("an initial value expected"));
            }
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&bits.to_le_bytes());
        out.extend_from_slice(&bytes[..size]);
        Ok(())
    }

    /// `+4`, `-4`, `+-4`, or nothing.
    pub(super) fn addend(&mut self) -> Result<i64, Error> {
        let negative = if self.take(b'+') {
            self.take(b'-')
        } else if self.take(b'-') {
            true
        } else {
            return Ok(0);
        };
        let value = self.integer()? as i64;
        Ok(if negative { value.wrapping_neg() } else { value })
    }
}

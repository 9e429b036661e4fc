//! Bodies of entries and functions: statements and operands.

use super::Parser;
use crate::ast::{Instruction, Operand, Statement};
use crate::error::Error;
use crate::lexer::Token;
use crate::value::Type;

impl Parser<'_> {
    pub(super) fn statements(&mut self) -> Result<Vec<Statement>, Error> {
        let mut body = Vec::new();
        while !self.take(b'}') {
            if self.peek().is_none() {
                return Err(self.error("`}` expected"));
            }
            if self.take(b';') {
                continue;
            }
            if self.take(b'{') {
                let inner = self.nested(Self::statements)?;
                body.push(Statement::Scope(inner));
                continue;
            }
            match self.peek() {
                Some(Token::Word(".reg")) => body.push(self.registers()?),
                Some(Token::Word(".shared" | ".local" | ".param" | ".global" | ".const")) => {
                    let variable = self.variable(false)?;
                    self.expect(b';')?;
                    body.push(Statement::Variable(variable));
                }
                Some(Token::Word(".extern")) => {
                    self.at += 1;
                    let variable = self.variable(true)?;
                    self.expect(b';')?;
                    body.push(Statement::Variable(variable));
                }
                Some(Token::Word(".pragma")) => self.pragma()?,
                Some(Token::Word(".loc")) => body.push(self.location()?),
                Some(Token::Word(word)) if !word.starts_with('.') => {
                    let label = self.tokens.get(self.at + 1).map(|t| t.token)
                        == Some(Token::Punctuation(b':'));
                    if label {
                        self.at += 2;
                        body.push(self.after_label(word)?);
                    } else {
                        body.push(self.instruction(None)?);
                    }
                }
                Some(Token::Punctuation(b'@')) => {
                    self.at += 1;
                    let negated = self.take(b'!');
                    let name = self.word("a predicate")?.to_owned();
                    body.push(self.instruction(Some((name, negated)))?);
                }
                _ => return Err(self.error("unknown statement")),
            }
        }
        Ok(body)
    }

    fn after_label(&mut self, name: &str) -> Result<Statement, Error> {
        if !self.take_word(".branchtargets") {
            return Ok(Statement::Label(name.into()));
        }
        let mut targets = Vec::new();
        loop {
            targets.push(self.word("a label")?.to_owned());
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b';')?;
        Ok(Statement::Targets(name.into(), targets))
    }

    fn registers(&mut self) -> Result<Statement, Error> {
        self.at += 1;
        let ty = self
            .word("a type")?
            .strip_prefix('.')
            .and_then(Type::parse)
            .ok_or_else(|| self.error("unknown register type before"))?;
        let mut names = Vec::new();
        loop {
            let name = self.word("a register name")?.to_owned();
            let mut count = None;
            if self.take(b'<') {
                count = Some(self.small()?);
                self.expect(b'>')?;
            }
            names.push((name, count));
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b';')?;
        Ok(Statement::Registers(ty, names))
    }

    /// `.loc file line column [, function_name label [+ n], inlined_at file line column]`
    fn location(&mut self) -> Result<Statement, Error> {
        self.at += 1;
        let (file, line) = (self.small()?, self.small()?);
        self.integer()?;
        if self.take(b',') {
            if !self.take_word("function_name") {
                return Err(self.error("`function_name` expected"));
            }
            self.word("a label")?;
            self.addend()?;
            self.expect(b',')?;
            if !self.take_word("inlined_at") {
                return Err(self.error("`inlined_at` expected"));
            }
            for _ in 0..3 {
                self.integer()?;
            }
        }
        Ok(Statement::Location(file, line))
    }

    fn instruction(&mut self, guard: Option<(String, bool)>) -> Result<Statement, Error> {
        let line = self.line();
        let opcode = self.word("an opcode")?.to_owned();
        let mut operands = Vec::new();
        if !self.is(b';') {
            loop {
                operands.push(self.operand()?);
                if !self.take(b',') {
                    break;
                }
            }
        }
        self.expect(b';')?;
        Ok(Statement::Instruction(Instruction { line, guard, opcode, operands }))
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        self.nested(|p| {
            let operand = p.single_operand()?;
            if p.take(b'|') {
                let second = p.single_operand()?;
                return Ok(Operand::Pair(Box::new(operand), Box::new(second)));
            }
            Ok(operand)
        })
    }

    fn single_operand(&mut self) -> Result<Operand, Error> {
        if self.take(b'{') {
            return self.items(b'}').map(Operand::Vector);
        }
        if self.take(b'(') {
            return self.items(b')').map(Operand::List);
        }
        if self.take(b'[') {
            let base = self.operand_base()?;
            let (base, mut offset) = match base {
                Operand::Name(name, offset) => (Operand::Name(name, 0), offset),
                other => (other, 0),
            };
            offset = offset.wrapping_add(self.addend()?);
            let items = if self.take(b',') { self.items(b']')? } else { Vec::new() };
            if items.is_empty() {
                self.expect(b']')?;
            }
            return Ok(Operand::Address(Box::new(base), offset, items));
        }
        if self.take(b'!') {
            return Ok(Operand::Not(self.word("a predicate")?.into()));
        }
        self.operand_base()
    }

    fn operand_base(&mut self) -> Result<Operand, Error> {
        if self.take(b'-') {
            return Ok(Operand::Integer(self.integer()?.wrapping_neg()));
        }
        let operand = match self.peek() {
            Some(Token::Word("_")) => Operand::Sink,
            Some(Token::Word("WARP_SZ")) => Operand::Integer(32),
            Some(Token::Word(word)) if !word.starts_with('.') => {
                self.at += 1;
                return Ok(Operand::Name(word.into(), self.addend()?));
            }
            Some(Token::Integer(value)) => Operand::Integer(value),
            Some(Token::Float32(bits)) => Operand::Float32(bits),
            Some(Token::Float64(bits)) => Operand::Float64(bits),
            _ => return Err(self.error("an operand expected")),
        };
        self.at += 1;
        Ok(operand)
    }

    /// Operands up to the closing `end`, which is taken.
    fn items(&mut self, end: u8) -> Result<Vec<Operand>, Error> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.operand()?);
            if !self.is(end) {
                self.expect(b',')?;
            }
        }
        Ok(items)
    }
}

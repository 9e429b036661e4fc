//! Recursive descent over the tokens: module scope, entries and functions. [`variable`] has declarations,
//! [`body`] statements and operands.
//!
//! A parser of our own, not the crate `ptx-syntax`: see the crate documentation.

mod body;
mod variable;

use crate::ast::{Ast, Function, Variable};
use crate::error::Error;
use crate::lexer::{Located, Token, tokens};

/// Deepest nesting of scopes, vectors and initialisers.
const MAX_DEPTH: u32 = 64;

/// Parses a module's text.
pub fn parse(text: &str) -> Result<Ast, Error> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let mut ast = Ast::default();
    while parser.peek().is_some() {
        parser.module_item(&mut ast)?;
    }
    Ok(ast)
}

pub(super) struct Parser<'a> {
    pub(super) tokens: Vec<Located<'a>>,
    pub(super) at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    // --- tokens ---

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|t| t.token)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        let text = match self.peek() {
            None => "end of text".into(),
            Some(Token::Word(word) | Token::Text(word)) => word.chars().take(80).collect(),
            Some(Token::Integer(value)) => value.to_string(),
            Some(Token::Float32(bits)) => format!("0f{bits:08X}"),
            Some(Token::Float64(bits)) => format!("0d{bits:016X}"),
            Some(Token::Punctuation(byte)) => char::from(byte).to_string(),
        };
        Error::Parse { line: self.line(), message: message.into(), text }
    }

    pub(super) fn is(&self, byte: u8) -> bool {
        self.peek() == Some(Token::Punctuation(byte))
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.is(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.error(format!("`{}` expected", char::from(byte))))
        }
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(Token::Word(word));
        self.at += usize::from(found);
        found
    }

    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, Error> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.error(format!("{what} expected"))),
        }
    }

    pub(super) fn integer(&mut self) -> Result<u64, Error> {
        match self.peek() {
            Some(Token::Integer(value)) => {
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.error("an integer expected")),
        }
    }

    pub(super) fn small(&mut self) -> Result<u32, Error> {
        let value = self.integer()?;
        u32::try_from(value).map_err(|_| self.error("an integer below 2^32 expected"))
    }

    pub(super) fn nested<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    // --- module scope ---

    fn module_item(&mut self, ast: &mut Ast) -> Result<(), Error> {
        if self.take(b';') {
            return Ok(());
        }
        match self.peek() {
            Some(Token::Word(".version")) => {
                self.at += 1;
                match self.next() {
                    Some(Token::Float64(bits)) => {
                        let version = f64::from_bits(bits);
                        ast.version = (version as u32, (version.fract() * 10.0).round() as u32);
                    }
                    _ => return Err(self.error("a version such as 8.6 expected")),
                }
            }
            Some(Token::Word(".target")) => {
                self.at += 1;
                ast.target = self.word("a target")?.into();
                while self.take(b',') {
                    self.word("a target option")?;
                }
            }
            Some(Token::Word(".address_size")) => {
                self.at += 1;
                if self.integer()? != 64 {
                    return Err(self.error(".address_size 64 expected before"));
                }
            }
            Some(Token::Word(".file")) => {
                self.at += 1;
                let number = self.small()?;
                match self.next() {
                    Some(Token::Text(path)) => ast.files.push((number, path.into())),
                    _ => return Err(self.error("a path expected before")),
                }
                while self.take(b',') {
                    self.integer()?;
                }
            }
            Some(Token::Word(".section")) => {
                self.at += 1;
                self.word("a section name")?;
                self.skip_braces()?;
            }
            Some(Token::Word(".pragma")) => self.pragma()?,
            _ => self.linked_item(ast)?,
        }
        Ok(())
    }

    fn skip_braces(&mut self) -> Result<(), Error> {
        self.expect(b'{')?;
        let mut open = 1u32;
        while open > 0 {
            match self.next() {
                None => return Err(self.error("`}` expected")),
                Some(Token::Punctuation(b'{')) => open += 1,
                Some(Token::Punctuation(b'}')) => open -= 1,
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn pragma(&mut self) -> Result<(), Error> {
        self.at += 1;
        loop {
            match self.next() {
                Some(Token::Text(_)) => {}
                _ => return Err(self.error("a pragma text expected before")),
            }
            if !self.take(b',') {
                return self.expect(b';');
            }
        }
    }

    fn linked_item(&mut self, ast: &mut Ast) -> Result<(), Error> {
        let mut external = false;
        while let Some(Token::Word(word @ (".extern" | ".visible" | ".weak" | ".common"))) =
            self.peek()
        {
            external |= word == ".extern";
            self.at += 1;
        }
        match self.peek() {
            Some(Token::Word(".entry")) => {
                self.at += 1;
                let function = self.function(true)?;
                ast.functions.extend(function);
            }
            Some(Token::Word(".func")) => {
                self.at += 1;
                let function = self.function(false)?;
                ast.functions.extend(function);
            }
            Some(Token::Word(".global" | ".const" | ".shared")) => {
                let variable = self.variable(external)?;
                self.expect(b';')?;
                ast.variables.push(variable);
            }
            _ => return Err(self.error("unknown directive at module scope")),
        }
        Ok(())
    }

    /// A function after `.entry` or `.func`; `None` for a prototype.
    fn function(&mut self, is_entry: bool) -> Result<Option<Function>, Error> {
        let returns = if !is_entry && self.is(b'(') { self.parameters()? } else { Vec::new() };
        let line = self.line();
        let name = self.word("a name")?.to_owned();
        let params = if self.is(b'(') { self.parameters()? } else { Vec::new() };
        let mut function = Function {
            name,
            is_entry,
            line,
            returns,
            params,
            max_threads: None,
            exact_threads: false,
            cluster: None,
            explicit_cluster: false,
            body: Vec::new(),
        };
        loop {
            match self.peek() {
                Some(Token::Word(".pragma")) => self.pragma()?,
                Some(Token::Word(word)) => {
                    self.at += 1;
                    self.performance_directive(word, &mut function)?;
                }
                Some(Token::Punctuation(b';')) => {
                    self.at += 1;
                    return Ok(None);
                }
                _ => break,
            }
        }
        self.expect(b'{')?;
        function.body = self.nested(Self::statements)?;
        Ok(Some(function))
    }

    fn performance_directive(&mut self, word: &str, f: &mut Function) -> Result<(), Error> {
        match word {
            ".maxntid" => f.max_threads = Some(self.extent()?),
            ".reqntid" => {
                f.max_threads = Some(self.extent()?);
                f.exact_threads = true;
            }
            ".reqnctapercluster" => f.cluster = Some(self.extent()?),
            ".explicitcluster" => f.explicit_cluster = true,
            ".minnctapersm" | ".maxnctapersm" | ".maxnreg" | ".maxclusterrank" => {
                self.small()?;
            }
            ".noreturn" | ".blocksareclusters" => {}
            _ => {
                self.at -= 1;
                return Err(self.error("unknown directive of a function"));
            }
        }
        Ok(())
    }

    fn extent(&mut self) -> Result<[u32; 3], Error> {
        let mut extent = [self.small()?, 1, 1];
        for axis in extent.iter_mut().skip(1) {
            if self.take(b',') {
                *axis = self.small()?;
            }
        }
        Ok(extent)
    }

    fn parameters(&mut self) -> Result<Vec<Variable>, Error> {
        self.expect(b'(')?;
        let mut params = Vec::new();
        while !self.take(b')') {
            params.push(self.variable(false)?);
            if !self.is(b')') {
                self.expect(b',')?;
            }
        }
        Ok(params)
    }
}

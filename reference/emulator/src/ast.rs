//! The parsed text, before registers and symbols are resolved.

use crate::value::Type;

/// A module's text in tree form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ast {
    /// `.version`.
    pub version: (u32, u32),
    /// `.target`, e.g. `sm_90a`.
    pub target: String,
    /// Module-scope variables.
    pub variables: Vec<Variable>,
    /// Entries and functions that have a body.
    pub functions: Vec<Function>,
    /// `.file` numbers and paths.
    pub files: Vec<(u32, String)>,
}

/// An `.entry` or `.func`.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Whether it is an `.entry`.
    pub is_entry: bool,
    /// Line of its name.
    pub line: u32,
    /// Return parameters of a `.func`.
    pub returns: Vec<Variable>,
    /// Parameters.
    pub params: Vec<Variable>,
    /// `.maxntid` or `.reqntid`: threads per block it allows.
    pub max_threads: Option<[u32; 3]>,
    /// Whether the block must have exactly that shape (`.reqntid`).
    pub exact_threads: bool,
    /// `.reqnctapercluster`.
    pub cluster: Option<[u32; 3]>,
    /// Whether a cluster launch is demanded (`.explicitcluster`).
    pub explicit_cluster: bool,
    /// Its statements.
    pub body: Vec<Statement>,
}

/// State space of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum VariableSpace {
    Param,
    Shared,
    Global,
    Const,
    Local,
    /// `.reg` in a parameter list of a `.func`.
    Reg,
}

/// A declared variable or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its space.
    pub space: VariableSpace,
    /// Its name.
    pub name: String,
    /// Element type.
    pub ty: Type,
    /// Alignment in bytes.
    pub align: usize,
    /// Size in bytes; 0 for `.extern .shared x[]`.
    pub bytes: usize,
    /// Whether it is `.extern` (dynamic shared memory).
    pub external: bool,
    /// Initial bytes (missing ones are zero); `None` without an initialiser.
    pub initial: Option<Vec<u8>>,
    /// Addresses to put into the initial bytes: offset, symbol, addend, whether generic.
    pub relocations: Vec<(usize, String, i64, bool)>,
    /// Line of the declaration.
    pub line: u32,
}

/// A statement of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `name:`
    Label(String),
    /// `.reg .b32 %r<10>;` or `.reg .b32 a, b;`: names (with the count of a range) of one type.
    Registers(Type, Vec<(String, Option<u32>)>),
    /// `.shared`, `.local`, `.param` in a body.
    Variable(Variable),
    /// `name: .branchtargets a, b;`
    Targets(String, Vec<String>),
    /// `{ ... }`
    Scope(Vec<Statement>),
    /// `.loc file line`.
    Location(u32, u32),
    /// An instruction.
    Instruction(Instruction),
}

/// An instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// Line of the text.
    pub line: u32,
    /// Guard: register name and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// Opcode with all modifiers, e.g. `add.s32`.
    pub opcode: String,
    /// Operands.
    pub operands: Vec<Operand>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// Register, symbol, label or special register, with an optional addend (`symbol+4`).
    Name(String, i64),
    /// `!%p1`
    Not(String),
    /// `_`
    Sink,
    /// `%p1|%p2`
    Pair(Box<Operand>, Box<Operand>),
    /// Integer, sign kept by two's complement.
    Integer(u64),
    /// `0f3F800000`
    Float32(u32),
    /// `0d3FF0000000000000`
    Float64(u64),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `[a+8]`, with the further items of `[map, {x, y}]` after it.
    Address(Box<Operand>, i64, Vec<Operand>),
    /// `(a, b)` of a call.
    List(Vec<Operand>),
}

//! Tokens of PTX text (PTX ISA, "Syntax").

use crate::error::Error;

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// Directive, opcode with modifiers, register, label or symbol.
    Word(&'a str),
    /// Integer literal.
    Integer(u64),
    /// `0f` literal.
    Float32(u32),
    /// `0d` literal, or a decimal one.
    Float64(u64),
    /// `"..."`.
    Text(&'a str),
    /// Any other character.
    Punctuation(u8),
}

/// A token and its line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located<'a> {
    /// The token.
    pub token: Token<'a>,
    /// Line, from 1.
    pub line: u32,
}

/// Splits the text into tokens; comments and white space vanish.
pub fn tokens(text: &str) -> Result<Vec<Located<'_>>, Error> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let (mut at, mut line) = (0, 1u32);
    while at < bytes.len() {
        let byte = bytes[at];
        let start = at;
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\r' => at += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let begun = line;
                at += 2;
                while !bytes[at..].starts_with(b"*/") {
                    match bytes.get(at) {
                        None => return Err(error(begun, "comment without end", "/*")),
                        Some(b'\n') => line += 1,
                        Some(_) => {}
                    }
                    at += 1;
                }
                at += 2;
            }
            b'"' => {
                let begun = line;
                at += 1;
                while bytes.get(at) != Some(&b'"') {
                    match bytes.get(at) {
                        None => return Err(error(begun, "string without end", "\"")),
                        Some(b'\n') => line += 1,
                        Some(b'\\') => at += 1,
                        Some(_) => {}
                    }
                    at += 1;
                }
                let inside = text.get(start + 1..at).unwrap_or_default();
                out.push(Located { token: Token::Text(inside), line: begun });
                at += 1;
            }
            b'0'..=b'9' => {
                while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
                    at += 1;
                }
                // 1.5, 1.5e-3: a decimal f64. `.version 8.6` ends up here too.
                let mut decimal = false;
                if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
                {
                    decimal = true;
                    at += 1;
                    while bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
                        at += 1;
                    }
                    if matches!(bytes[at - 1], b'e' | b'E')
                        && matches!(bytes.get(at), Some(b'+' | b'-'))
                    {
                        at += 1;
                        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                            at += 1;
                        }
                    }
                }
                let word = &text[start..at];
                let token = if decimal {
                    word.parse().ok().map(|v: f64| Token::Float64(v.to_bits()))
                } else {
                    number(word)
                };
                let token = token.ok_or_else(|| error(line, "not a number", word))?;
                out.push(Located { token, line });
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'$' | b'%' | b'.' => {
                at += 1;
                loop {
                    match bytes.get(at) {
                        Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.') => {
                            at += 1;
                        }
                        Some(b':')
                            if bytes.get(at + 1) == Some(&b':')
                                && bytes.get(at + 2).is_some_and(u8::is_ascii_alphanumeric) =>
                        {
                            at += 2;
                        }
                        _ => break,
                    }
                }
                out.push(Located { token: Token::Word(&text[start..at]), line });
            }
            b'!'..=b'~' => {
                out.push(Located { token: Token::Punctuation(byte), line });
                at += 1;
            }
            _ => {
                let odd = text[start..].chars().next().unwrap_or('?');
                return Err(error(line, "stray character", &odd.escape_default().to_string()));
            }
        }
    }
    Ok(out)
}

fn number(word: &str) -> Option<Token<'static>> {
    if let Some(hex) = word.strip_prefix("0f").or_else(|| word.strip_prefix("0F")) {
        return (hex.len() == 8).then(|| u32::from_str_radix(hex, 16).ok().map(Token::Float32))?;
    }
    if let Some(hex) = word.strip_prefix("0d").or_else(|| word.strip_prefix("0D")) {
        return (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok().map(Token::Float64))?;
    }
    let word = word.strip_suffix('U').unwrap_or(word);
    let (digits, radix) = if let Some(hex) = word.strip_prefix("0x").or(word.strip_prefix("0X")) {
        (hex, 16)
    } else if let Some(binary) = word.strip_prefix("0b").or(word.strip_prefix("0B")) {
        (binary, 2)
    } else if word.len() > 1 && word.starts_with('0') {
        (&word[1..], 8)
    } else {
        (word, 10)
    };
    u64::from_str_radix(digits, radix).ok().map(Token::Integer)
}

fn error(line: u32, message: &str, text: &str) -> Error {
    Error::Parse { line, message: message.into(), text: text.into() }
}

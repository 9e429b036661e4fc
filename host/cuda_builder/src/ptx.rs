//! Finds the functions in PTX text.

use std::ops::Range;

/// One `.entry` or `.func` of a PTX text. Positions are bytes of that text.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// The name, as the driver knows it.
    pub name: &'a str,
    /// Whether the host can launch it.
    pub is_entry: bool,
    /// Whether it is declared `.extern`.
    pub is_extern: bool,
    /// Where its declaration begins.
    pub start: usize,
    /// What is between its braces, those included. None for a declaration.
    pub body: Option<Range<usize>>,
}

/// The same text with comments and strings replaced by spaces, so that every position stays.
pub fn blank(text: &str) -> String {
    let mut blanked = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let len = if rest.starts_with("//") {
            rest.find('\n')
        } else if rest.starts_with("/*") {
            rest.find("*/").map(|end| end + 2)
        } else if rest.starts_with('"') {
            string_len(rest)
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let end = at + len.unwrap_or(rest.len());
        for byte in &mut blanked[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Whole characters were replaced, so this is still UTF-8.
    String::from_utf8_lossy(&blanked).into_owned()
}

/// All functions, in the order of the text, which must have been [`blank`]ed.
pub fn functions(text: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let line = text[start..].split_inclusive('\n').next().unwrap_or("");
        match function_at(text, start, line) {
            Some(function) => {
                start = function.body.as_ref().map_or(start + line.len(), |b| b.end);
                found.push(function);
            }
            None => start += line.len(),
        }
    }
    found
}

/// The identifiers and directives of a text, without their `.` or `%`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
        .filter(|word| !word.is_empty())
}

/// The number of the line that `position` is on, from 1.
pub fn line_number(text: &str, position: usize) -> usize {
    1 + text.as_bytes()[..position].iter().filter(|&&byte| byte == b'\n').count()
}

fn function_at<'a>(text: &'a str, start: usize, line: &str) -> Option<Function<'a>> {
    let mut is_extern = false;
    let is_entry = line.split_whitespace().find_map(|token| match token {
        ".extern" => {
            is_extern = true;
            None
        }
        ".visible" | ".weak" => None,
        ".entry" => Some(Some(true)),
        ".func" => Some(Some(false)),
        _ => Some(None),
    })??;
    let keyword = if is_entry { ".entry" } else { ".func" };
    let after_keyword = start + line.find(keyword)? + keyword.len();

    let mut name_at = after_keyword + leading_space(&text[after_keyword..]);
    if text[name_at..].starts_with('(') {
        // The return value comes before the name.
        name_at += text[name_at..].find(')')? + 1;
        name_at += leading_space(&text[name_at..]);
    }
    let name = words(&text[name_at..]).next()?;

    let head_end = name_at + text[name_at..].find(['{', ';'])?;
    let body = text[head_end..]
        .starts_with('{')
        .then(|| head_end..head_end + braces_len(&text[head_end..]));
    Some(Function { name, is_entry, is_extern, start, body })
}

fn leading_space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// Length of a text that begins with `{` up to the matching `}`, that included.
fn braces_len(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a string literal, both quotes included.
fn string_len(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().enumerate().skip(1).find_map(|(at, byte)| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends.then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
.extern .func  (.param .b32 func_retval0) missing
(
	.param .b64 missing_param_0
)
;
	// .globl	gemm { not a brace
.visible .entry gemm(
	.param .u64 .ptr .align 1 gemm_param_0
)
{
	// begin inline asm
	{ .reg .pred p; /* } */ .file 1 "}" }
	// end inline asm
	ret;
}
.func helper()
{
	ret;
}
.global .align 1 .b8 table[2] = {1, 2};
"#;

    #[test]
    fn functions_are_found_with_their_bodies() {
        let blanked = blank(TEXT);
        assert_eq!(blanked.len(), TEXT.len());
        let found = functions(&blanked);
        let heads: Vec<_> =
            found.iter().map(|f| (f.name, f.is_entry, f.is_extern, f.body.is_some())).collect();
        assert_eq!(
            heads,
            [
                ("missing", false, true, false),
                ("gemm", true, false, true),
                ("helper", false, false, true),
            ]
        );
        let body = found[1].body.clone().unwrap();
        assert!(TEXT[body.clone()].starts_with("{\n") && TEXT[body].ends_with("ret;\n}"));
        assert_eq!(line_number(TEXT, found[1].start), 8);
    }

    #[test]
    fn unfinished_text_does_not_panic() {
        for end in 0..TEXT.len() {
            functions(&blank(&TEXT[..end]));
        }
        functions(&blank("/* é \" // \n é"));
    }
}

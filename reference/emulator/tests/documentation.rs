//! docs/emulator.md lists the opcodes as the code has them. `UPDATE_DOCS=1 cargo test -p ptx_emulator
//! --test documentation` writes the list anew.

use ptx_emulator::family::tables;
use std::path::Path;

const START: &str = "<!-- opcodes: made from the code -->\n";
const END: &str = "<!-- end of opcodes -->\n";

fn table() -> String {
    let mut out = String::from("\n| opcode | family | meaning |\n|---|---|---|\n");
    for row in tables().iter().copied().flatten() {
        let meaning = row.meaning.replace('|', "\\|");
        out.push_str(&format!("| `{}` | {} | {meaning} |\n", row.name, row.family));
    }
    out.push('\n');
    out
}

#[test]
fn the_documented_opcodes_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/emulator.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let start = text.find(START).expect("docs/emulator.md has the start mark") + START.len();
    let end = text.find(END).expect("docs/emulator.md has the end mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let new = format!("{}{}{}", &text[..start], table(), &text[end..]);
        std::fs::write(&path, new).unwrap();
        return;
    }
    assert_eq!(&text[start..end], table(), "run with UPDATE_DOCS=1 to renew docs/emulator.md");
}

//! Notes the commit that the binary is built from, where there is one.

use std::process::Command;

fn git(arguments: [&str; 3]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Every commit and every checkout adds a line to this file.
    if let Some(log) = git(["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    if let Some(commit) = git(["rev-parse", "--verify", "HEAD"]) {
        println!("cargo:rustc-env=SPARSEFLOW_COMMIT={commit}");
    }
}

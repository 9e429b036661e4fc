//! What a build is made from: hashed, so that equal inputs are compiled once, and listed, so that
//! cargo knows when to run the build script again.

use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::error::BuildError;

/// Hash of everything that decides the PTX: every source file's path and content, and `settings`.
pub fn key<'a>(
    crate_dir: &Path,
    more_sources: &[PathBuf],
    settings: impl IntoIterator<Item = &'a str>,
) -> Result<String, BuildError> {
    let mut hash = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for setting in settings {
        add(setting.as_bytes());
    }
    for root in std::iter::once(crate_dir).chain(more_sources.iter().map(PathBuf::as_path)) {
        let entries = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(is_source);
        for entry in entries {
            let entry = entry.map_err(|error| BuildError::io("read", root)(error.into()))?;
            if !entry.file_type().is_dir() {
                let content = std::fs::read(entry.path());
                add(entry.path().as_os_str().as_encoded_bytes());
                add(&content.map_err(BuildError::io("read", entry.path()))?);
            }
        }
    }
    Ok(hash.finalize().to_hex()[..32].to_owned())
}

/// The files and directories that cargo should watch. The crate's own directory is not among them,
/// because cargo watches a directory with all that is in it, and the target directory may be there.
pub fn top_level(crate_dir: &Path, more_sources: &[PathBuf]) -> Result<Vec<PathBuf>, BuildError> {
    let mut paths = more_sources.to_vec();
    let entries = WalkDir::new(crate_dir).min_depth(1).max_depth(1).sort_by_file_name();
    for entry in entries.into_iter().filter_entry(is_source) {
        let entry = entry.map_err(|error| BuildError::io("read", crate_dir)(error.into()))?;
        paths.push(entry.into_path());
    }
    Ok(paths)
}

fn is_source(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let built = entry.file_type().is_dir() && name == "target";
    entry.depth() == 0 || !built && !name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_and_settings_change_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let key = |settings: &[&str]| key(dir.path(), &[], settings.iter().copied()).unwrap();

        write("src/lib.rs", "1");
        let first = key(&["sm_80"]);
        assert_ne!(first, key(&["sm_90a"]));

        write("target/out", "x");
        write(".editor.swp", "x");
        assert_eq!(first, key(&["sm_80"]));
        let watched = top_level(dir.path(), &[]).unwrap();
        assert_eq!(watched, [dir.path().join("src")]);

        write("src/lib.rs", "2");
        assert_ne!(first, key(&["sm_80"]));
    }
}

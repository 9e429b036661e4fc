//! Files that are there whole or not at all.

use anyhow::{Context, Result};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where a file will be written.
enum Place {
    /// Beside itself, to be renamed.
    Renamed(NamedTempFile, PathBuf),
    /// A terminal, pipe or device, which a rename would replace.
    Direct(fs::File),
}

fn open(path: &Path) -> std::io::Result<Place> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Ok(Place::Direct(fs::OpenOptions::new().write(true).open(path)?));
    }
    // A link stays one: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    Ok(Place::Renamed(builder.tempfile_in(directory)?, path))
}

/// Finds out whether [`write()`] can write `path`, leaving it as it is.
///
/// # Errors
/// Why not.
pub fn probe(path: &Path) -> Result<()> {
    open(path).map(drop).with_context(|| format!("{} cannot be written", path.display()))
}

/// Makes `directory` and finds out whether files can be written there.
///
/// # Errors
/// Why not.
pub fn probe_directory(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    probe(&directory.join("0_y.npy"))
}

/// Writes `content` to `path`, in one step where it is a file.
///
/// # Errors
/// What the file system says.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let attempt = || match open(path)? {
        Place::Direct(mut file) => file.write_all(content),
        Place::Renamed(mut file, path) => {
            file.write_all(content)?;
            file.persist(path).map(drop).map_err(|error| error.error)
        }
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        probe(&path).unwrap();
        assert!(!path.exists());
        write(&path, b"one, and long").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = probe(&directory.path().join("none/out")).unwrap_err();
        assert!(format!("{error:#}").contains("none/out"), "{error:#}");
        assert!(probe(directory.path()).is_err(), "a directory is no file");
        assert!(probe(Path::new("/dev/null")).is_ok());
        write(Path::new("/dev/null"), b"gone").unwrap();
    }
}

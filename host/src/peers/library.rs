//! Shared libraries that may be there: where they are looked for, and how they are opened.

use super::PeerError;
use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What asks a Python for the folders in which its packages lie.
const PYTHON: &str = "import site, sys; print('\\n'.join(sys.path + site.getsitepackages()))";

/// Where libraries are looked for: folders that were given, then where the system's loader looks
/// (`LD_LIBRARY_PATH` included), then the CUDA toolkit, then the folders of the vendor's wheels inside Python
/// environments.
#[derive(Clone, Debug)]
pub struct Search {
    given: Vec<PathBuf>,
    found: Vec<PathBuf>,
}

impl Search {
    /// Looks in `given` first, then in the usual places of this machine.
    pub fn new(given: Vec<PathBuf>) -> Self {
        Self::in_environment(given, |name| std::env::var_os(name), &python_paths())
    }

    /// As [`Self::new`], with the environment's variables and Python's paths given.
    fn in_environment(
        given: Vec<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
        python: &[PathBuf],
    ) -> Self {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(path);
        let toolkits = toolkits.chain([PathBuf::from("/usr/local/cuda")]);
        let mut found: Vec<PathBuf> = toolkits.map(|toolkit| toolkit.join("lib64")).collect();
        for prefix in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(path) {
            found.push(prefix.join("lib"));
            for version in folders(&prefix.join("lib")) {
                found.extend(wheels(&version.join("site-packages")));
            }
        }
        found.extend(python.iter().flat_map(|path| wheels(path)));
        let mut unique = Vec::new();
        for folder in found.into_iter().filter(|folder| folder.is_dir()) {
            if !unique.contains(&folder) {
                unique.push(folder);
            }
        }
        Self { given, found: unique }
    }

    /// Only `folders`, and nothing of the machine.
    #[cfg(test)]
    pub(crate) fn only(folders: Vec<PathBuf>) -> Self {
        Self { given: folders, found: Vec::new() }
    }

    /// Every file or bare name to try, in order.
    fn candidates(&self, names: &[&str]) -> Vec<PathBuf> {
        let files = |folders: &[PathBuf]| -> Vec<PathBuf> {
            let all = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
            all.filter(|file| file.is_file()).collect()
        };
        let bare = names.iter().map(PathBuf::from);
        files(&self.given).into_iter().chain(bare).chain(files(&self.found)).collect()
    }

    /// Opens the first library called by one of `names` that `start` takes.
    ///
    /// # Errors
    /// [`PeerError::Absent`], or what kept the first that is there from being used.
    pub(crate) fn open<L>(
        &self,
        library: &'static str,
        names: &[&str],
        start: impl Fn(Library, &Path) -> Result<L>,
    ) -> Result<L> {
        let mut first: Option<Error> = None;
        for path in self.candidates(names) {
            // SAFETY: the initialisers of a vendor's library are as trustworthy as the library, which the
            // caller has asked for by its well-known name or in a folder of their own.
            let opened = unsafe { Library::new(&path) };
            let result = match opened {
                Ok(opened) => start(opened, &path),
                // A bare name that the loader does not find is no library that is there.
                Err(_) if path.components().count() == 1 => continue,
                Err(error) => {
                    let reason = error.to_string();
                    Err(PeerError::Unloadable { library, path: path.clone(), reason }.into())
                }
            };
            match result {
                Ok(started) => return Ok(started),
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "a peer's library is not usable");
                    first.get_or_insert(error);
                }
            }
        }
        let folders = self.given.len() + self.found.len();
        Err(first.unwrap_or_else(|| {
            PeerError::Absent { library, names: names.join(", "), folders }.into()
        }))
    }
}

/// The paths of the `python3` that a shell would start; none where there is no such program or it fails.
fn python_paths() -> Vec<PathBuf> {
    let output = Command::new("python3").args(["-c", PYTHON]).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(PathBuf::from).collect()
}

/// Folders of the vendor's wheels below a folder of Python packages: nvidia/cublas/lib, nvidia/cu13/lib, ...
fn wheels(packages: &Path) -> Vec<PathBuf> {
    folders(&packages.join("nvidia")).into_iter().map(|wheel| wheel.join("lib")).collect()
}

/// The folders in a folder, by name; none where it cannot be read.
fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// `functions! { struct Name { function(types) -> type; ... } }`: the functions of a library, looked up once.
///
/// The library stays loaded for good: the vendor's libraries register exit handlers, so unloading one would
/// leave those pointing nowhere.
macro_rules! functions {
    ($(#[$meta:meta])* struct $name:ident { $($function:ident($($arg:ty),* $(,)?) -> $out:ty;)* }) => {
        $(#[$meta])*
        #[allow(non_snake_case)]
        struct $name {
            $($function: unsafe extern "C" fn($($arg),*) -> $out,)*
        }

        impl $name {
            /// Looks all of them up; the name of one that is missing.
            fn load(library: libloading::Library) -> std::result::Result<Self, &'static str> {
                let library = std::mem::ManuallyDrop::new(library);
                Ok(Self {
                    $($function: {
                        let symbol = concat!(stringify!($function), "\0").as_bytes();
                        // SAFETY: the signature is the one in the vendor's header, and the library is
                        // never unloaded.
                        let found = unsafe { library.get(symbol) };
                        *found.map_err(|_| stringify!($function))?
                    },)*
                })
            }
        }
    };
}
pub(crate) use functions;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::fs;

    fn touch(path: PathBuf) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"not a library").unwrap();
        path
    }

    fn search(given: &[PathBuf], variables: &[(&str, &Path)], python: &[PathBuf]) -> Search {
        let variables: HashMap<&str, OsString> =
            variables.iter().map(|(name, path)| (*name, OsString::from(path))).collect();
        Search::in_environment(given.to_vec(), |name| variables.get(name).cloned(), python)
    }

    #[test]
    fn given_folders_come_first_then_the_loader_then_environments() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let given = touch(at("given/libpeer.so.2"));
        let toolkit = touch(at("cuda/lib64/libpeer.so.1"));
        let wheel = touch(at("venv/lib/python3.12/site-packages/nvidia/peer/lib/libpeer.so.2"));
        let conda = touch(at("conda/lib/libpeer.so.1"));
        let asked = touch(at("python/nvidia/cu13/lib/libpeer.so.2"));
        let search = search(
            &[at("none"), at("given")],
            &[
                ("CUDA_HOME", &at("cuda")),
                ("VIRTUAL_ENV", &at("venv")),
                ("CONDA_PREFIX", &at("conda")),
            ],
            &[at("nowhere"), at("python"), at("python")],
        );
        let bare = ["libpeer.so.2", "libpeer.so.1"];
        let found = search.candidates(&bare);
        let found: Vec<_> =
            found.into_iter().filter(|p| !p.starts_with("/usr/local/cuda")).collect();
        let [two, one] = bare.map(PathBuf::from);
        assert_eq!(found, [given, two, one, toolkit, wheel, conda, asked]);
    }

    #[test]
    fn empty_variables_and_missing_folders_add_nothing() {
        let search = search(
            &[],
            &[("VIRTUAL_ENV", Path::new("")), ("CONDA_PREFIX", Path::new("/no/such"))],
            &[],
        );
        assert!(
            search.found.iter().all(|folder| folder.starts_with("/usr/local/cuda")),
            "{search:?}"
        );
    }

    #[test]
    fn what_is_absent_or_broken_is_one_line() {
        let root = tempfile::tempdir().unwrap();
        let search = Search::only(vec![root.path().to_owned()]);
        let open = || search.open("Peer", &["libsparseflow-peer.so.7"], |_, _| Ok(()));
        let absent = open().unwrap_err();
        assert!(matches!(absent, Error::Peer(PeerError::Absent { .. })));
        assert_eq!(
            absent.to_string(),
            "Peer was not found (looked for libsparseflow-peer.so.7 where the system's loader looks and in \
             1 more folders)"
        );

        let file = touch(root.path().join("libsparseflow-peer.so.7"));
        let broken = open().unwrap_err().to_string();
        assert!(
            broken.starts_with(&format!("Peer: {} cannot be loaded: ", file.display())),
            "{broken}"
        );
        assert_eq!(broken.lines().count(), 1, "{broken}");
    }

    functions! {
        #[allow(dead_code)]
        struct Missing {
            sparseflow_no_such_function() -> i32;
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_without_a_function_is_too_old() {
        // Any library will do: the C library is on every Linux.
        let search = Search::only(Vec::new());
        let result = search.open("Peer", &["libc.so.6"], |library, path| {
            Missing::load(library).map(|_| ()).map_err(|function| {
                let path = path.to_owned();
                PeerError::TooOld { library: "Peer", path, function, needed: "7.1" }.into()
            })
        });
        assert_eq!(
            result.unwrap_err().to_string(),
            "Peer: libc.so.6 has no sparseflow_no_such_function; version 7.1 or newer is needed"
        );
    }
}

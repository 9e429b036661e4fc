//! The store: what the [autotuner](crate::autotune) found, kept in an SQLite file.
//!
//! The file is `autotune.sqlite3` in the directory that the environment variable [`ENVIRONMENT`] names, else
//! in `sparseflow` of the platform's cache directory (`~/.cache` on Linux), or at a given path. Any number
//! of threads and processes share it (write-ahead log, a busy timeout, one transaction for each record).
//! It has one row for each [`Problem::key`](crate::autotune::Problem::key), which names the GPU, the driver
//! and the PTX: what was measured on others is never found.
//!
//! A store never fails. What cannot be read or written is a `tracing` warning, and records are then kept
//! in memory only:
//!
//! | the file | what happens |
//! |---|---|
//! | has an older schema | it is migrated, its records are kept |
//! | has a newer schema, or tables of another program | it is left as it is; memory only |
//! | is corrupt, or cannot be written | it is renamed to `NAME.corrupt-TIME`, a new one is made |
//! | cannot be renamed either, or is no file | memory only |

mod schema;

use crate::kernels;
use crate::schedule::Choice;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use schema::State;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Environment variable that names the directory of the default store.
pub const ENVIRONMENT: &str = "SPARSEFLOW_CACHE";
/// Name of the file in that directory.
const FILE: &str = "autotune.sqlite3";
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// What a choice took when it was measured, beside the winner: the winner's median time, times the median
/// ratio to the winner. Times of one record can be compared, though the chip's clock changed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Kernel and schedule.
    pub choice: Choice,
    /// Time in microseconds.
    pub median_us: f64,
    /// How many pairs of launches that comes from.
    pub samples: usize,
}

/// What is known of one problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The fastest kernel and schedule.
    pub choice: Choice,
    /// Its median time in microseconds.
    pub median_us: f64,
    /// How many launches that is the median of.
    pub samples: usize,
    /// What the heuristic chose then, where the record says.
    pub heuristic: Option<Choice>,
    /// The time of that in microseconds, as a [`Candidate`]'s; `None` where it did not run.
    pub heuristic_us: Option<f64>,
    /// When it was measured, in seconds since 1970 (UTC), where the record says.
    pub tuned_at: Option<u64>,
    /// Every candidate that was measured, in no particular order. The times of those that were dropped
    /// early are of few samples.
    pub candidates: Vec<Candidate>,
    /// Whether it was read from a file, and not measured by this process.
    pub from_store: bool,
}

/// Records by key, in memory and, where there is one, in a file.
pub struct Store {
    inner: Mutex<Inner>,
}

struct Inner {
    records: HashMap<String, Record>,
    path: Option<PathBuf>,
    connection: Option<Connection>,
}

/// Why there is no file behind a store.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("its schema is version {0}, newer than version {known} of this program", known = schema::VERSION)]
    Newer(usize),
    #[error("its tables are not those of this program")]
    Foreign,
}

impl Failure {
    /// Whether the file is of no use to anybody.
    fn is_damage(&self) -> bool {
        let code = match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            Self::Io(_) | Self::Newer(_) | Self::Foreign => None,
        };
        use ErrorCode as E;
        matches!(code, Some(E::DatabaseCorrupt | E::NotADatabase | E::ReadOnly | E::CannotOpen))
    }
}

impl Store {
    /// The store in the directory that [`ENVIRONMENT`] names, else in the platform's cache directory.
    pub fn open_default() -> Self {
        let named = std::env::var_os(ENVIRONMENT).filter(|name| !name.is_empty());
        let directory = match named {
            Some(name) => Some(PathBuf::from(name)),
            None => dirs::cache_dir().map(|cache| cache.join("sparseflow")),
        };
        match directory {
            Some(directory) => Self::open(directory.join(FILE)),
            None => {
                tracing::warn!("no cache directory, tuned choices are kept in memory only");
                Self::in_memory()
            }
        }
    }

    /// The store at `path`, which is made where it does not exist, with its directory.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let connection = open_or_replace(&path);
        let (records, path) = (HashMap::new(), Some(path));
        Self { inner: Mutex::new(Inner { records, path, connection }) }
    }

    /// A store without a file.
    pub fn in_memory() -> Self {
        let (records, path, connection) = (HashMap::new(), None, None);
        Self { inner: Mutex::new(Inner { records, path, connection }) }
    }

    /// The file, where it is in use.
    pub fn path(&self) -> Option<PathBuf> {
        let inner = self.lock();
        inner.path.clone().filter(|_| inner.connection.is_some())
    }

    /// The record of `key`. One of a kernel that is no more counts as none.
    pub fn get(&self, key: &str) -> Option<Record> {
        let mut inner = self.lock();
        if let Some(record) = inner.records.get(key) {
            return Some(record.clone());
        }
        let record = inner.with_file(|connection| read(connection, key)).flatten()?;
        inner.records.insert(key.to_owned(), record.clone());
        Some(record)
    }

    /// Keeps `record` under `key`, in place of one that is there.
    pub fn put(&self, key: &str, record: &Record) {
        let mut inner = self.lock();
        inner.records.insert(key.to_owned(), record.clone());
        inner.with_file(|connection| write(connection, key, record));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What `access` gives, where there is a file. One found damaged is replaced, and tried once more.
    fn with_file<R>(
        &mut self,
        access: impl Fn(&mut Connection) -> rusqlite::Result<R>,
    ) -> Option<R> {
        let path = self.path.as_deref()?;
        let mut result = access(self.connection.as_mut()?).map_err(Failure::from);
        if result.as_ref().is_err_and(Failure::is_damage) {
            self.connection = None;
            self.connection = open_or_replace(path);
            result = access(self.connection.as_mut()?).map_err(Failure::from);
        }
        let warn = |error| tracing::warn!(%error, path = %path.display(), "tuning store");
        result.map_err(warn).ok()
    }
}

/// The file at `path`, ready for use; in place of a damaged one a new one. `None`, with a warning, where
/// that is not possible.
fn open_or_replace(path: &Path) -> Option<Connection> {
    let attempt = || -> Result<Connection, Failure> {
        if let Some(directory) = path.parent().filter(|parent| *parent != Path::new("")) {
            fs::create_dir_all(directory)?;
        }
        // One process at a time makes, migrates or replaces the file.
        let lock = fs::File::create(beside(path, ".lock"))?;
        lock.lock()?;
        match open(path) {
            Err(error) if error.is_damage() && path.is_file() => {
                let aside = set_aside(path)?;
                let (path, aside) = (path.display(), aside.display());
                tracing::warn!(%error, %path, %aside, "tuning store set aside, a new one is made");
            }
            result => return result,
        }
        open(path)
    };
    let warn = |error| {
        let path = path.display();
        tracing::warn!(%error, %path, "no tuning store, tuned choices are kept in memory only");
    };
    attempt().map_err(warn).ok()
}

fn open(path: &Path) -> Result<Connection, Failure> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    match schema::migrate(&mut connection)? {
        State::Ready => {}
        State::Newer(version) => return Err(Failure::Newer(version)),
        State::Foreign => return Err(Failure::Foreign),
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A power cut may cost the last records, and not the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// Renames the file and its log, which must not be applied to a new file.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let aside = beside(path, &format!(".corrupt-{}", now.as_millis()));
    fs::rename(path, &aside)?;
    for log in ["-wal", "-shm"] {
        match fs::rename(beside(path, log), beside(&aside, log)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// `path` with something behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn read(connection: &mut Connection, key: &str) -> rusqlite::Result<Option<Record>> {
    // One transaction: the candidates are those of the row.
    let transaction = connection.transaction()?;
    let sql = "SELECT kernel, schedule, median_us, samples, heuristic, heuristic_us, tuned_at
               FROM tuned WHERE key = ?1";
    let record = transaction.query_row(sql, [key], |row| {
        let heuristic: Option<String> = row.get(4)?;
        let (heuristic_us, tuned_at) = (row.get(5)?, row.get(6)?);
        Ok(candidate(row)?.map(|winner| Record {
            choice: winner.choice,
            median_us: winner.median_us,
            samples: winner.samples,
            heuristic: heuristic.and_then(|choice| choice.parse().ok()),
            heuristic_us,
            tuned_at,
            candidates: Vec::new(),
            from_store: true,
        }))
    });
    let Some(mut record) = record.optional()?.flatten() else {
        return Ok(None);
    };
    let sql = "SELECT kernel, schedule, median_us, samples FROM candidate
               WHERE key = ?1 ORDER BY median_us";
    for candidate in transaction.prepare(sql)?.query_map([key], candidate)? {
        record.candidates.extend(candidate?);
    }
    Ok(Some(record))
}

/// The first four columns: kernel, schedule, median and samples. `None` where there is no such kernel or
/// schedule.
fn candidate(row: &Row<'_>) -> rusqlite::Result<Option<Candidate>> {
    let (kernel, schedule): (String, String) = (row.get(0)?, row.get(1)?);
    let (median_us, samples) = (row.get(2)?, row.get(3)?);
    let choice = kernels::find(&kernel).ok().zip(schedule.parse().ok());
    Ok(choice.map(|(kernel, schedule)| {
        let choice = Choice { kernel, schedule };
        Candidate { choice, median_us, samples }
    }))
}

fn write(connection: &mut Connection, key: &str, record: &Record) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    // Candidates of an older record go with it.
    transaction.execute("DELETE FROM tuned WHERE key = ?1", [key])?;
    transaction.execute(
        "INSERT INTO tuned (key, kernel, schedule, median_us, samples, heuristic, heuristic_us, tuned_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            key,
            record.choice.kernel.name,
            record.choice.schedule.to_string(),
            record.median_us,
            record.samples,
            record.heuristic.map(|choice| choice.to_string()),
            record.heuristic_us,
            record.tuned_at,
        ],
    )?;
    let mut insert = transaction.prepare(
        "INSERT INTO candidate (key, kernel, schedule, median_us, samples)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for candidate in &record.candidates {
        let Choice { kernel, schedule } = candidate.choice;
        let (median_us, samples) = (candidate.median_us, candidate.samples);
        insert.execute(params![key, kernel.name, schedule.to_string(), median_us, samples])?;
    }
    drop(insert);
    transaction.commit()
}

//! The store of the autotuner as files: shared, old, newer, damaged and out of reach.

use rusqlite::Connection;
use sparseflow::cache::{Candidate, ENVIRONMENT, Record, Store};
use sparseflow::{Choice, Schedule, kernels};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A record that `median_us` tells from others.
fn record(median_us: f64) -> Record {
    let kernel = kernels::find("sm80_dense_f16_64x64x64").unwrap();
    let choice = Choice { kernel, schedule: Schedule::SplitK(3) };
    let heuristic = Choice::from(kernel);
    let slower = Candidate { choice: heuristic, median_us: 2.0 * median_us, samples: 25 };
    Record {
        choice,
        median_us,
        samples: 25,
        heuristic: Some(heuristic),
        heuristic_us: Some(2.0 * median_us),
        tuned_at: Some(1_700_000_000),
        candidates: vec![Candidate { choice, median_us, samples: 25 }, slower],
        from_store: false,
    }
}

fn stored(median_us: f64) -> Option<Record> {
    Some(Record { from_store: true, ..record(median_us) })
}

/// Names of the files beside the store that were set aside, logs not counted.
fn set_aside(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.contains(".corrupt-") && !name.ends_with("l")).collect()
}

#[test]
fn records_outlive_the_process_and_replace_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/on/demand.sqlite3");
    let store = Store::open(&path);
    assert_eq!(store.path(), Some(path.clone()));
    assert_eq!(store.get("a"), None);
    store.put("a", &record(1.0));
    assert_eq!(store.get("a"), Some(record(1.0)));
    let other = Store::open(&path);
    assert_eq!((other.get("a"), other.get("b")), (stored(1.0), None));
    let fewer =
        Record { candidates: Vec::new(), heuristic: None, heuristic_us: None, ..record(3.0) };
    store.put("a", &fewer);
    assert_eq!(Store::open(&path).get("a"), Some(Record { from_store: true, ..fewer }));
    assert_eq!(Store::in_memory().get("a"), None);
}

#[test]
fn a_record_of_a_kernel_that_is_no_more_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    Store::open(&path).put("a", &record(1.0));
    Store::open(&path).put("b", &record(2.0));
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE tuned SET kernel = 'gone' WHERE key = 'a'", []).unwrap();
    connection
        .execute("UPDATE candidate SET schedule = 'none' WHERE schedule = 'tiles'", [])
        .unwrap();
    let store = Store::open(&path);
    assert_eq!(store.get("a"), None);
    let kept = record(2.0).candidates[..1].to_vec();
    assert_eq!(store.get("b"), Some(Record { candidates: kept, ..stored(2.0).unwrap() }));
}

#[test]
fn a_newer_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    Store::open(&path).put("a", &record(1.0));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let store = Store::open(&path);
    assert_eq!((store.path(), store.get("a")), (None, None));
    store.put("b", &record(2.0));
    assert_eq!(store.get("b"), Some(record(2.0)), "kept in memory");
    let connection = Connection::open(&path).unwrap();
    assert_eq!(connection.query_row("SELECT count(*) FROM tuned", [], |row| row.get(0)), Ok(1));
    assert_eq!(set_aside(directory.path()), [""; 0]);
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    fs::write(
        &path,
        "this is not a database, and longer than the header of one is: 100 bytes".repeat(9),
    )
    .unwrap();
    let store = Store::open(&path);
    store.put("a", &record(1.0));
    assert_eq!(Store::open(&path).get("a"), stored(1.0));
    let aside = set_aside(directory.path());
    assert!(aside.len() == 1 && aside[0].starts_with("store.corrupt-"), "{aside:?}");
    let kept = fs::read_to_string(directory.path().join(&aside[0])).unwrap();
    assert!(kept.starts_with("this is not"));
}

#[test]
fn damage_met_later_loses_no_record_of_this_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    Store::open(&path).put("old", &record(1.0));
    let store = Store::open(&path);
    let length = fs::metadata(&path).unwrap().len();
    fs::write(&path, vec![0x5A; length as usize]).unwrap();
    assert_eq!(store.get("old"), None);
    store.put("new", &record(2.0));
    assert_eq!(store.get("new"), Some(record(2.0)));
    assert_eq!(Store::open(&path).get("new"), stored(2.0));
    assert_eq!(set_aside(directory.path()).len(), 1);
}

#[test]
fn a_file_that_cannot_be_written_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    Store::open(&path).put("old", &record(1.0));
    // A format version for writing, at byte 18, that SQLite does not know makes a file read-only to any
    // user, root as well (SQLite file format, 1.3.3).
    let mut bytes = fs::read(&path).unwrap();
    bytes[18] = 9;
    fs::write(&path, bytes).unwrap();
    let store = Store::open(&path);
    store.put("new", &record(2.0));
    assert_eq!(Store::open(&path).get("new"), stored(2.0));
    assert_eq!(set_aside(directory.path()).len(), 1);
}

#[test]
fn where_there_can_be_no_file_records_are_kept_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [directory.path(), &file.join("store")] {
        let store = Store::open(path);
        store.put("a", &record(1.0));
        assert_eq!((store.path(), store.get("a")), (None, Some(record(1.0))));
    }
    assert!(directory.path().is_dir(), "a directory is never renamed");
}

/// Set for the copies of this program that the next test starts: where the default store must be.
const DEFAULT: &str = "SPARSEFLOW_DEFAULT_STORE_TEST";

#[test]
fn the_default_store_is_where_the_environment_says() {
    if let Some(path) = std::env::var_os(DEFAULT) {
        return assert_eq!(Store::open_default().path().as_deref(), Some(Path::new(&path)));
    }
    let directory = tempfile::tempdir().unwrap();
    let run = |path: &str, named: &str| {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "the_default_store_is_where_the_environment_says"]);
        program.env(DEFAULT, directory.path().join(path)).env(ENVIRONMENT, named);
        // What `dirs` asks on Linux; elsewhere the cache directory is the system's choice.
        program.env("XDG_CACHE_HOME", directory.path());
        assert!(program.status().unwrap().success(), "{path}");
    };
    run("named/autotune.sqlite3", &directory.path().join("named").display().to_string());
    if cfg!(target_os = "linux") {
        run("sparseflow/autotune.sqlite3", "");
    }
}

/// Writes 20 records and reads them back while others do the same.
fn write_and_read(path: &Path, writer: usize) {
    let store = Store::open(path);
    assert_eq!(store.path().as_deref(), Some(path));
    for i in 0..20 {
        store.put(&format!("{writer}-{i}"), &record(i as f64 + 1.0));
        store.put("shared", &record(writer as f64 + 1.0));
    }
    let fresh = Store::open(path);
    for i in 0..20 {
        assert_eq!(fresh.get(&format!("{writer}-{i}")), stored(i as f64 + 1.0));
    }
}

#[test]
fn threads_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = &directory.path().join("store");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || write_and_read(path, writer));
        }
    });
    let store = Store::open(path);
    let all = (0..4).flat_map(|writer| (0..20).map(move |i| format!("{writer}-{i}")));
    assert!(all.map(|key| store.get(&key)).all(|record| record.is_some()));
    assert_eq!(store.get("shared").unwrap().candidates.len(), 2, "of one writer");
}

/// Set for the copies of this program that the test below starts: path of the store and number of the writer.
const CHILD: &str = "SPARSEFLOW_STORE_TEST";

#[test]
fn processes_share_a_file_and_only_one_sets_a_damaged_one_aside() {
    if let Ok(child) = std::env::var(CHILD) {
        let (writer, path) = child.split_once(' ').unwrap();
        return write_and_read(Path::new(path), writer.parse().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    fs::write(&path, "damaged".repeat(1000)).unwrap();
    let start = |writer: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes_share_a_file_and_only_one_sets_a_damaged_one_aside"])
            .env(CHILD, format!("{writer} {}", path.display()))
            .spawn()
            .unwrap()
    };
    for mut child in [start(0), start(1), start(2)] {
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(&path);
    let all = (0..3).flat_map(|writer| (0..20).map(move |i| format!("{writer}-{i}")));
    assert!(all.map(|key| store.get(&key)).all(|record| record.is_some()));
    assert_eq!(set_aside(directory.path()).len(), 1);
}

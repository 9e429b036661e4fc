//! The tables of the store, and how a file of an older version becomes one of this.

use rusqlite::{Connection, TransactionBehavior};

/// What turns a file of version i, in SQLite's `user_version`, into one of version i + 1. Only ever
/// added to: files of every version are about.
const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE tuned (
         key TEXT NOT NULL PRIMARY KEY,
         kernel TEXT NOT NULL,
         schedule TEXT NOT NULL,
         median_us REAL NOT NULL,
         heuristic_us REAL,
         samples INTEGER NOT NULL
     ) STRICT;",
    // What the heuristic had chosen, when that was, and what each candidate took.
    "ALTER TABLE tuned ADD COLUMN heuristic TEXT;
     ALTER TABLE tuned ADD COLUMN tuned_at INTEGER;
     CREATE TABLE candidate (
         key TEXT NOT NULL REFERENCES tuned (key) ON DELETE CASCADE,
         kernel TEXT NOT NULL,
         schedule TEXT NOT NULL,
         median_us REAL NOT NULL,
         samples INTEGER NOT NULL,
         PRIMARY KEY (key, kernel, schedule)
     ) STRICT, WITHOUT ROWID;",
];

/// Version of the schema: `user_version` of a file that this library writes.
pub const VERSION: usize = MIGRATIONS.len();

/// What was found in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// The tables of [`VERSION`], which may have been made just now.
    Ready,
    /// Those of a newer version, which this library does not know.
    Newer(usize),
    /// Those of another program.
    Foreign,
}

/// Brings the file behind `connection` to [`VERSION`], keeping what it holds. A file with newer or
/// other tables is left as it is.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<State> {
    migrate_to(connection, VERSION)
}

fn migrate_to(connection: &mut Connection, wanted: usize) -> rusqlite::Result<State> {
    // Immediate: of two processes that find an old file, the second must see what the first has done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = |sql| transaction.query_row(sql, [], |row| row.get::<_, usize>(0));
    let version = number("PRAGMA user_version")?;
    if version > wanted {
        return Ok(State::Newer(version));
    }
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let ours =
        number("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tuned'")?;
    if (version == 0 && tables > 0) || (version > 0 && ours == 0) {
        return Ok(State::Foreign);
    }
    if version < wanted {
        for sql in &MIGRATIONS[version..wanted] {
            transaction.execute_batch(sql)?;
        }
        transaction.pragma_update(None, "user_version", wanted)?;
        transaction.commit()?;
    }
    Ok(State::Ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_file_keeps_its_records() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(migrate_to(&mut connection, 1).unwrap(), State::Ready);
        let insert = "INSERT INTO tuned VALUES ('op=dense', 'kernel', 'tiles', 12.5, NULL, 25)";
        connection.execute(insert, []).unwrap();
        assert_eq!(migrate(&mut connection).unwrap(), State::Ready);
        let select = "SELECT kernel, median_us, samples, heuristic, tuned_at FROM tuned";
        let row = connection.query_row(select, [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        });
        let want: (String, f64, u32, Option<String>, Option<u64>) =
            ("kernel".to_owned(), 12.5, 25, None, None);
        assert_eq!(row.unwrap(), want);
        assert_eq!(migrate(&mut connection).unwrap(), State::Ready);
    }

    #[test]
    fn newer_and_foreign_files_stay_as_they_are() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.execute_batch("DROP TABLE candidate; PRAGMA user_version = 7").unwrap();
        assert_eq!(migrate(&mut connection).unwrap(), State::Newer(7));
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'candidate'";
        assert_eq!(connection.query_row(tables, [], |row| row.get(0)), Ok(0));

        for version in [0, 1] {
            let mut connection = Connection::open_in_memory().unwrap();
            let sql = format!("CREATE TABLE notes (text TEXT); PRAGMA user_version = {version}");
            connection.execute_batch(&sql).unwrap();
            assert_eq!(migrate(&mut connection).unwrap(), State::Foreign);
            let tables = "SELECT count(*) FROM sqlite_schema";
            assert_eq!(connection.query_row(tables, [], |row| row.get(0)), Ok(1));
        }
    }
}

//! How far the heuristic is from what the tuner found.

use super::Row;
use super::peers::geometric_mean;
use crate::cases::Group;

/// A line for each group of shapes that was tuned.
pub fn lines(rows: &[Row], groups: &[Group]) -> Vec<String> {
    groups.iter().filter_map(|group| line(rows, group)).collect()
}

fn line(rows: &[Row], group: &Group) -> Option<String> {
    let tuned: Vec<_> = rows
        .iter()
        .filter(|row| group.has(&row.case))
        .filter_map(|row| Some((row, row.case.tuned?)))
        .collect();
    let ratio = |(row, tuned): &(&Row, crate::cases::Tuned)| {
        Some((tuned.heuristic_us? / tuned.median_us, format!("{} {}", row.case.op, row.case.shape)))
    };
    let ratios: Vec<(f64, String)> = tuned.iter().filter_map(ratio).collect();
    let (worst, at) = ratios.iter().max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    let mean = geometric_mean(&ratios.iter().map(|(ratio, _)| *ratio).collect::<Vec<_>>());
    let seconds: Vec<f64> = tuned.iter().filter_map(|(_, tuned)| tuned.seconds).collect();
    let took = match seconds.iter().copied().reduce(f64::max) {
        Some(most) => format!("{} rows tuned now, in at most {most:.2} s each", seconds.len()),
        None => "all from the store".to_owned(),
    };
    Some(format!(
        "{}: the heuristic's choice takes {mean:.3} times the tuned time (geometric mean of {} rows; at most \
         {worst:.3}, {at}); {took}",
        group.name,
        ratios.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Tuned;
    use crate::kernel::Op;
    use crate::report::tests::row;

    #[test]
    fn means_by_hand() {
        let tuned = |op, heuristic_us, seconds| {
            let mut row = row(op, true);
            row.case.tuned =
                Some(Tuned { median_us: 10.0, heuristic: None, heuristic_us, seconds });
            row
        };
        let shapes = vec![row(Op::Dense, true).case.shape];
        let group = Group { name: "mine".to_owned(), shapes };
        let other = Group { name: "other".to_owned(), shapes: Vec::new() };
        let rows = [
            tuned(Op::Dense, Some(10.0), Some(0.5)),
            tuned(Op::Sparse, Some(12.1), Some(1.25)),
            tuned(Op::Sparse, None, None),
            row(Op::Dense, true),
        ];
        let lines = super::lines(&rows, &[group.clone(), other]);
        let want = "mine: the heuristic's choice takes 1.100 times the tuned time (geometric mean of 2 rows; \
                    at most 1.210, sparse 1000x2000x3000); 2 rows tuned now, in at most 1.25 s each";
        assert_eq!(lines, [want]);
        let stored = [tuned(Op::Dense, Some(11.0), None)];
        assert!(super::lines(&stored, &[group])[0].ends_with("; all from the store"));
    }
}

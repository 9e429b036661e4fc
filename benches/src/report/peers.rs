//! Rows beside their peers: ratios, their geometric means, and why a peer took no part.

use super::Row;
use crate::cases::Group;
use crate::check::Verdict;
use crate::kernel::dtype_name;
use sparseflow::epilogue::Fused;
use sparseflow::measure::Times;
use std::collections::{BTreeMap, BTreeSet};

/// A vendor's library on a row.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it is called.
    pub name: &'static str,
    /// The form of the epilogue that it computed.
    pub form: Fused,
    /// Whether it was right; `Err`: why it took no part.
    pub outcome: Result<Verdict, String>,
    /// Its times, from the same stretch as the row's, where both are right.
    pub times: Option<Times>,
}

impl Peer {
    /// Whether it took part and was right.
    pub fn is_right(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|verdict| verdict.passed)
    }
}

impl Row {
    /// The peer's median time over the row's: above 1 the row is faster.
    pub fn ratio(&self, peer: &Peer) -> Option<f64> {
        Some(peer.times.as_ref()?.median / self.times()?.median)
    }

    /// The fastest peer, and the ratio to it.
    pub fn best_peer(&self) -> Option<(&Peer, f64)> {
        let rated = self.peers.iter().filter_map(|peer| Some((peer, self.ratio(peer)?)));
        rated.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }
}

/// Ratios of the rows of a suite that have the operation, type and epilogue in common.
#[derive(Debug)]
pub struct Mean {
    /// Of what: suite, operation, type and epilogue.
    pub of: [String; 4],
    /// Rows that have a ratio. Of the kernels that were measured on one shape, the best counts.
    pub shapes: usize,
    /// Geometric mean of the ratios to the best peer of each.
    pub best: f64,
    /// Geometric mean of the ratios to each peer, by its name, over the shapes that it took.
    pub each: BTreeMap<&'static str, f64>,
}

/// The geometric means of every group of shapes, in the order of the rows.
pub fn means(rows: &[Row], groups: &[Group]) -> Vec<Mean> {
    let mut means = Vec::new();
    for group in groups {
        let mut kinds: Vec<[String; 4]> = Vec::new();
        let mut of_kind: Vec<Vec<&Row>> = Vec::new();
        for row in rows.iter().filter(|row| group.has(&row.case) && row.best_peer().is_some()) {
            let kind = kind(group, row);
            let at = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                of_kind.push(Vec::new());
                kinds.len() - 1
            });
            keep_faster(&mut of_kind[at], row);
        }
        means.extend(kinds.into_iter().zip(of_kind).map(|(kind, rows)| mean(kind, &rows)));
    }
    means
}

fn kind(group: &Group, row: &Row) -> [String; 4] {
    let case = &row.case;
    let epilogue = case.epilogue().unwrap_or_else(|| "-".to_owned());
    [group.name.clone(), case.op.to_string(), dtype_name(case.dtype).to_owned(), epilogue]
}

/// Adds `row`, or puts it in the place of a slower one of the same shape.
fn keep_faster<'a>(rows: &mut Vec<&'a Row>, row: &'a Row) {
    let median = |row: &Row| row.times().map_or(f64::INFINITY, |times| times.median);
    match rows.iter_mut().find(|other| other.case.shape == row.case.shape) {
        Some(other) if median(row) < median(other) => *other = row,
        Some(_) => {}
        None => rows.push(row),
    }
}

fn mean(of: [String; 4], rows: &[&Row]) -> Mean {
    let mut each: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for row in rows {
        for peer in &row.peers {
            each.entry(peer.name).or_default().extend(row.ratio(peer));
        }
    }
    each.retain(|_, ratios| !ratios.is_empty());
    let best: Vec<f64> = rows.iter().filter_map(|row| Some(row.best_peer()?.1)).collect();
    Mean {
        of,
        shapes: best.len(),
        best: geometric_mean(&best),
        each: each.into_iter().map(|(name, ratios)| (name, geometric_mean(&ratios))).collect(),
    }
}

/// Of numbers above 0, of which there is at least one.
pub fn geometric_mean(numbers: &[f64]) -> f64 {
    (numbers.iter().map(|number| number.ln()).sum::<f64>() / numbers.len() as f64).exp()
}

/// One line for each way in which peers took no part or were wrong, with the rows in question.
pub fn notes(rows: &[Row]) -> Vec<String> {
    let mut notes: Vec<(String, BTreeSet<&str>, Vec<String>)> = Vec::new();
    for row in rows {
        for peer in &row.peers {
            let what = match &peer.outcome {
                Err(reason) => format!("not measured ({reason})"),
                Ok(verdict) if !verdict.passed => {
                    format!("FAILED: {}", verdict.fault.as_deref().unwrap_or("wrong"))
                }
                Ok(_) => continue,
            };
            let on = format!("{} {}", row.case.op, row.case.extents());
            match notes.iter_mut().find(|(known, ..)| *known == what) {
                Some((_, names, rows)) => {
                    names.insert(peer.name);
                    if !rows.contains(&on) {
                        rows.push(on);
                    }
                }
                None => notes.push((what, [peer.name].into(), vec![on])),
            }
        }
    }
    let line = |(what, names, rows): (String, BTreeSet<&str>, Vec<String>)| {
        let names: Vec<&str> = names.into_iter().collect();
        format!("{} on {}: {what}", names.join(" and "), rows.join(", "))
    };
    notes.into_iter().map(line).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::kernel::Op;
    use crate::report::tests::row;

    /// A peer that took `median` microseconds.
    pub fn peer(name: &'static str, median: f64) -> Peer {
        let outcome = Ok(Verdict::bits(None));
        let times = Times::new(vec![median]);
        Peer { name, form: Fused::default(), outcome, times }
    }

    /// One that was wrong or took no part.
    pub fn missing(name: &'static str, outcome: Result<&str, &str>) -> Peer {
        let verdict = |fault: &str| Verdict::bits(Some(fault.to_owned()));
        let outcome = outcome.map(verdict).map_err(str::to_owned);
        Peer { name, form: Fused::default(), outcome, times: None }
    }

    fn of_shape(shape: &str, peers: Vec<Peer>) -> Row {
        let mut row = row(Op::Sparse, true);
        row.case.shape = shape.parse().unwrap();
        row.beside(peers)
    }

    fn group(name: &str, shapes: &[&str]) -> Group {
        let shapes = shapes.iter().map(|shape| shape.parse().unwrap()).collect();
        Group { name: name.to_owned(), shapes }
    }

    #[test]
    fn the_best_peer_is_the_fastest() {
        // The row takes 5 us.
        let row = of_shape("1x2x3", vec![peer("a", 10.0), peer("b", 4.0), missing("c", Err("no"))]);
        let (best, ratio) = row.best_peer().unwrap();
        assert_eq!((best.name, ratio), ("b", 0.8));
        assert_eq!(row.ratio(&row.peers[0]), Some(2.0));
        assert_eq!(row.ratio(&row.peers[2]), None);
        assert!(of_shape("1x2x3", vec![missing("c", Ok("y[0, 0] is 1"))]).best_peer().is_none());
    }

    #[test]
    fn means_are_geometric_and_of_one_suite() {
        let rows = [
            of_shape("1x2x3", vec![peer("a", 10.0), peer("b", 40.0)]),
            of_shape("4x5x6", vec![peer("a", 2.5), missing("b", Err("no"))]),
            of_shape("7x8x9", vec![peer("a", 500.0)]),
            of_shape("7x8x10", vec![missing("a", Err("no"))]),
        ];
        let groups = [group("small", &["1x2x3", "4x5x6", "7x8x10"]), group("none", &["2x2x2"])];
        let means = means(&rows, &groups);
        assert_eq!(means.len(), 1, "{means:?}");
        assert_eq!(means[0].of, ["small", "sparse", "f16", "none"]);
        assert_eq!(means[0].shapes, 2);
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} {want}");
        // Ratios to a: 2 and 1/2; to b: 8. The best peers are a and a.
        near(means[0].best, 1.0);
        near(means[0].each["a"], 1.0);
        near(means[0].each["b"], 8.0);
    }

    #[test]
    fn of_several_kernels_on_a_shape_the_fastest_counts() {
        let slow = of_shape("1x2x3", vec![peer("a", 10.0)]);
        let mut fast = of_shape("1x2x3", vec![peer("a", 10.0)]);
        fast.times = Times::new(vec![2.5]);
        let groups = [group("small", &["1x2x3"])];
        for rows in [[slow.clone(), fast.clone()], [fast, slow]] {
            let means = means(&rows, &groups);
            assert_eq!((means.len(), means[0].shapes), (1, 1));
            assert!((means[0].best - 4.0).abs() < 1e-12);
        }
    }

    #[test]
    fn what_took_no_part_is_said_once() {
        let refused = || {
            vec![
                missing("b", Err("f: NOT_SUPPORTED (10)")),
                missing("a", Err("f: NOT_SUPPORTED (10)")),
            ]
        };
        let rows = [
            of_shape("1x2x3", refused()),
            of_shape("4x5x6", refused()),
            of_shape("7x8x9", vec![missing("a", Ok("y[0, 0] is NaN")), peer("b", 1.0)]),
        ];
        assert_eq!(
            notes(&rows),
            [
                "a and b on sparse 1x2x3, sparse 4x5x6: not measured (f: NOT_SUPPORTED (10))",
                "a on sparse 7x8x9: FAILED: y[0, 0] is NaN",
            ]
        );
    }
}
